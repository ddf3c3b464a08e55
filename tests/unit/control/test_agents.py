"""What agents say and ask: with their own token, about their own cluster."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.control.rig import ALICE, Rig
from tidegate.backends.simulation import ManualClock
from tidegate.control.agents import BURST, LONGEST_WAIT, Agents, ReportPace
from tidegate.model.cluster import SchedulerFacts, WorkerState
from tidegate.model.errors import Busy, Refused
from tidegate.model.report import Report, Wanted
from tidegate.wire.agent import WantedBody

REPORT = Report(SchedulerFacts(1, 40001))


def version(wanted: Wanted) -> str:
    """Return the version of a wanted state."""
    return WantedBody.from_model(wanted).version


@pytest.mark.parametrize("token", ["", "x", "token-of-another", None])
async def test_a_token_speaks_for_its_own_cluster(rig: Rig, token):
    """Not for another one, nor for none; the words are always the same."""
    mine, other = await rig.create(), await rig.create()
    token = rig.token(other) if token is None else token
    for name in (mine, "0" * 16, "\udcff"):
        with pytest.raises(Refused, match=r"^Authentication required$"):
            await rig.agents.check(name, token)
    await rig.agents.check(mine, rig.token(mine))


async def test_a_report_is_recorded_once(rig: Rig):
    """The answer is the whole wanted state; a report without news writes nothing."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 2)
    assert await rig.report(name) == Wanted(False, {"default": (2, None, None)})
    revision = rig.cluster(name).revision
    await rig.report(name)
    assert rig.cluster(name).revision == revision


async def test_a_report_wakes_the_loop_through_the_bus(rig: Rig):
    """What it changed is published."""
    name = await rig.create()
    heard: list[str] = []
    with rig.bus.subscribe(heard.append):
        await rig.report(name)
    assert heard == [name]


async def test_the_demand_of_the_load_is_wanted(rig: Rig):
    """Within the bounds, and told back in the same answer."""
    name = await rig.bring_up()
    await rig.clusters.adapt(ALICE, name, 1, 4)
    wanted = await rig.report(name, demand={"default": 9})
    assert wanted.groups["default"] == (4, 1, 4)


async def test_a_scheduler_of_an_earlier_attempt_is_told_to_exit(rig: Rig):
    """By the answer to its report, and by the wanted state."""
    name = await rig.create()
    wanted = await rig.agents.report(name, Report(SchedulerFacts(7, 40001)))
    assert wanted.exit
    assert (await rig.agents.wanted(name, 7, "", 30)).exit


async def test_the_wanted_state_comes_when_it_changes(rig: Rig):
    """At once for who has none or an old one; else as soon as it changes, and not for changes that are none."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 30)
    assert first == Wanted(False, {"default": (0, None, None)})

    waiting = asyncio.create_task(rig.agents.wanted(name, 1, version(first), 30))
    await rig.report(name, workers=frozenset({"nobody"}))
    await rig.records.change(name, lambda c: (c, [rig.tables.events[0].event]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    await rig.clusters.scale(ALICE, name, 2)
    async with asyncio.timeout(5):
        assert (await waiting).groups["default"] == (2, None, None)


async def test_the_wanted_state_comes_when_the_time_is_over(rig: Rig):
    """The same as before, so that the agent asks again."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 0)
    assert await rig.agents.wanted(name, 1, version(first), 0.01) == first


async def test_a_stop_tells_the_agent_to_exit(rig: Rig):
    """While it waits."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 0)
    waiting = asyncio.create_task(rig.agents.wanted(name, 1, version(first), 30))
    await asyncio.sleep(0)
    await rig.clusters.stop(ALICE, name)
    async with asyncio.timeout(5):
        assert (await waiting).exit


async def test_reports_that_come_at_the_same_time_all_count(rig: Rig):
    """Each is a change of the newest record."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 3)
    await rig.turn(name)
    each = (rig.report(name, workers=frozenset({f"default-{n}"})) for n in (1, 2, 3))
    await asyncio.gather(*each)
    assert {w.state for w in rig.cluster(name).workers} == {WorkerState.RUNNING}


async def test_the_load_cannot_fill_the_history(rig: Rig):
    """An agent whose demand goes to and fro is slowed down, and what comes on top of that is refused.

    Bursts are free: ten workers that register make a few reports at once.
    """
    name = await rig.bring_up()
    await rig.clusters.adapt(ALICE, name, 1, 4)
    agents = Agents(rig.records, rig.bus, rig.clock, ReportPace(lambda: 0.0))
    toggles = [Report(SchedulerFacts(1, 40001, 40002), demand={"default": 1 + n % 2}) for n in range(1000)]

    reports = [asyncio.ensure_future(agents.report(name, report)) for report in toggles]
    done, waiting = await asyncio.wait(reports, timeout=0.05)

    taken = [report for report in done if report.exception() is None]
    assert BURST <= len(taken) <= BURST + 1
    assert len(waiting) <= 5 * LONGEST_WAIT + 1
    assert all(isinstance(report.exception(), Busy) for report in done - set(taken))
    other = await rig.bring_up()
    await asyncio.wait_for(agents.report(other, toggles[0]), 1)
    for report in waiting:
        report.cancel()


async def test_time_makes_room_for_reports():
    """Five a second, for as long as it goes on."""
    clock = ManualClock(1000.0)
    pace = ReportPace(clock)
    assert [pace.admit("one") for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)
    assert [pace.admit("one") for _ in range(2)] == pytest.approx([0.2, 0.4])
    clock.advance(0.6)
    assert [pace.admit("one") for _ in range(2)] == pytest.approx([0.0, 0.2], abs=1e-9)
    clock.advance(86400)
    assert [pace.admit("one") for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)
