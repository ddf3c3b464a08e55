"""Looks are shared, begin after they were asked for, and fail for those who asked and for nobody else."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.control.rig import Rig
from tidegate.control.observe import Observer
from tidegate.model.errors import BackendFailed, Busy
from tidegate.model.observation import Seen


@pytest.fixture
def observer(rig: Rig) -> Observer:
    """An observer of the rig's backend."""
    return Observer(rig.backend)


async def test_many_who_ask_at_once_cost_one_look(rig: Rig, observer: Observer):
    """A hundred questions, two of each name: one call."""
    seen = await asyncio.gather(*(observer.look(f"c{n % 50}") for n in range(100)))
    assert len(seen) == 100
    assert rig.backend.looks == [{f"c{n}" for n in range(50)}]


async def test_who_asks_during_a_look_waits_for_the_next(rig: Rig, observer: Observer):
    """What is being looked at began too early for them."""
    rig.backend.gate = asyncio.Event()
    first = asyncio.create_task(observer.look("a"))
    while not rig.backend.looks:
        await asyncio.sleep(0)
    rig.clock.advance(5)
    asked = rig.clock.now
    later = [asyncio.create_task(observer.look(name)) for name in ("a", "b")]
    await asyncio.sleep(0)
    rig.backend.gate.set()

    await first
    for seen in await asyncio.gather(*later):
        assert seen.at >= asked
    assert rig.backend.looks == [{"a"}, {"a", "b"}]


async def test_a_failure_reaches_everyone_who_asked_and_the_next_look_is_new(rig: Rig, observer: Observer):
    """What a backend says on purpose is passed on; what it does not promise becomes ``BackendFailed``."""
    for failure, expected in ((Busy("cannot look now"), Busy), (ZeroDivisionError("a bug"), BackendFailed)):
        rig.backend.failure = failure
        answers = await asyncio.gather(observer.look("a"), observer.look("b"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [expected, expected]
    rig.backend.failure = None
    assert (await observer.look("a")).scheduler is None


async def test_one_who_stops_waiting_takes_nothing_from_the_others(rig: Rig, observer: Observer):
    """A cancelled question does not cancel the look."""
    rig.backend.gate = asyncio.Event()
    impatient, patient = (asyncio.create_task(observer.look("a")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    rig.backend.gate.set()
    assert (await patient).scheduler is None


async def test_at_the_end_nobody_waits_for_ever(rig: Rig, observer: Observer):
    """Whoever still waits is cancelled."""
    rig.backend.gate = asyncio.Event()
    waiting = asyncio.create_task(observer.look("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await observer.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_one_of_which_nothing_can_be_told_fails_alone(rig: Rig, observer: Observer):
    """A name that is not in the answer is a failure for who asked for it; the others are told."""
    rig.backend.unknown = {"a"}
    answers = await asyncio.gather(observer.look("a"), observer.look("b"), return_exceptions=True)
    assert isinstance(answers[0], BackendFailed)
    assert isinstance(answers[1], Seen)
