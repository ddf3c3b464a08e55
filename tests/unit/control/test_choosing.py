"""What users are offered, what the administrator's hook makes of their choice, and where secrets go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.rig import ALICE, MALLORY, Rig, rigged
from tidegate.control.choosing import HOOK_THREADS, Choosing
from tidegate.model.cluster import Adaptive, ClusterSpec
from tidegate.model.errors import Busy, Invalid
from tidegate.model.known import BACKENDS, GATEWAYS_OWN
from tidegate.model.offer import Offer, Variant
from tidegate.model.options import Kind, Option
from tidegate.model.principal import Principal

CORES = Option("worker_cores", Kind.INTEGER, 1, maximum=8)
QUEUE = Option("queue", Kind.STRING, "long", hidden=True)
VARIABLES = next(option for option in BACKENDS if option.name == "variables")
SIZES = tuple(option for option in GATEWAYS_OWN if option.name in ("workers", "minimum", "maximum"))
OFFER = Offer((CORES, QUEUE, VARIABLES, *SIZES), {"worker_cores": (Variant("staff", CORES),)})
BASE = ClusterSpec()


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """A control whose gateway offers something."""
    async with rigged(tmp_path, options=OFFER) as rig:
        yield rig


def asked(hook: Any, **given: Any) -> Any:
    """Return what follows from a choice of alice's."""
    return Choosing(OFFER, hook, hook_seconds=0.2).choose(ALICE, given, BASE)


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_hook_sees_and_changes_everything(is_async: bool) -> None:
    """Who asks, their groups, and hidden values too; its word holds beyond all bounds."""
    seen: list[Any] = []

    def hook(user: str, groups: frozenset[str], values: dict[str, Any]) -> dict[str, Any]:
        seen.append((user, groups, values["queue"], threading.current_thread() is threading.main_thread()))
        return {"queue": "gpu", "worker_cores": 32.0}

    async def async_hook(*arguments: Any) -> dict[str, Any]:
        return hook(*arguments)

    chosen = await asked(async_hook if is_async else hook, worker_cores=2)

    assert seen == [("alice", frozenset(), "long", is_async)]
    assert chosen.choice.spec.extra == {"queue": "gpu"}
    assert chosen.choice.spec.worker_cores == 32
    assert "queue" not in chosen.options


async def test_a_hook_may_have_nothing_to_say() -> None:
    """None changes nothing."""
    assert (await asked(lambda *_: None)).choice.spec.worker_cores == 1


@pytest.mark.parametrize(
    "error", [ValueError("no more\nthan two\n  lines"), PermissionError("no more\nthan two\n  lines")]
)
async def test_what_a_hook_raises_is_for_the_user(error: Exception) -> None:
    """Every line of it."""

    def hook(*_: Any) -> None:
        raise error

    with pytest.raises(Invalid) as caught:
        await asked(hook)
    assert caught.value.message == "no more\nthan two\n  lines"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (["a"], "returned no values. Tell them"),
        ({"nope": 1}, "set nope, which this gateway has not declared"),
        ({"worker_cores": "many"}, "cannot set worker_cores to 'many': it must be a whole number"),
        ({"variables": {"A B": "geheim"}}, "cannot set environment variable number 1"),
    ],
)
async def test_what_a_hook_returns_is_checked(answer: Any, words: str) -> None:
    """Nothing that cannot be run, and no traceback."""
    with pytest.raises(Invalid) as caught:
        await asked(lambda *_: answer)
    assert words in caught.value.message
    assert "geheim" not in caught.value.message


async def test_a_hook_that_hangs_is_left_alone() -> None:
    """The user is told that it did not answer, and others are served meanwhile."""
    leave = threading.Event()

    def hook(user: str, *_: Any) -> None:
        if user == "alice":
            leave.wait(30)

    choosing = Choosing(OFFER, hook, hook_seconds=0.2)
    try:
        hung = asyncio.ensure_future(choosing.choose(ALICE, {}, BASE))
        await choosing.choose(MALLORY, {}, BASE)
        with pytest.raises(Busy, match="options hook did not answer within"):
            await hung
    finally:
        leave.set()


def test_a_hook_that_hangs_holds_up_no_shutdown() -> None:
    """A gateway that is to stop stops, whatever code of its administrator is at."""
    program = (
        "import asyncio, time\n"
        "from tests.unit.control.test_choosing import ALICE, BASE, OFFER\n"
        "from tidegate.control.choosing import Choosing\n"
        "choosing = Choosing(OFFER, lambda *_: time.sleep(60), hook_seconds=0.1)\n"
        "try: asyncio.run(choosing.choose(ALICE, {}, BASE))\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert "options hook did not answer within" in done.stdout


async def test_hooks_that_hang_are_not_piled_up() -> None:
    """So many go on at a time and no more; when they have come back, others are served."""
    leave, begun = threading.Event(), []

    def hook(*_: Any) -> None:
        begun.append(1)
        leave.wait(30)

    choosing = Choosing(OFFER, hook, hook_seconds=0.5)
    try:
        hung = [asyncio.ensure_future(choosing.choose(ALICE, {}, BASE)) for _ in range(HOOK_THREADS + 3)]
        for one in hung:
            with pytest.raises(Busy, match="did not answer"):
                await one
        assert len(begun) == HOOK_THREADS
        leave.set()
        await choosing.choose(ALICE, {}, BASE)
    finally:
        leave.set()


async def test_variables_are_sealed_with_the_credentials(rig: Rig) -> None:
    """They reach what is launched, and nothing else that is recorded or told."""
    cluster = await rig.clusters.create(ALICE, {"variables": {"KEY": "geheim"}})
    await rig.turn(cluster.name)

    assert cluster.options["variables"] == {"KEY": "***"}
    assert "geheim" not in repr(rig.cluster(cluster.name)) + repr(rig.tables.events)
    (launch,) = (what for name, what in rig.backend.calls if name == "launch")
    assert launch.files["variables.json"] == b'{"KEY": "geheim"}'
    assert "geheim" not in repr(launch)


async def test_without_variables_there_is_no_file(rig: Rig) -> None:
    """Nothing is laid down that says nothing."""
    await rig.turn((await rig.clusters.create(ALICE, {})).name)
    assert "variables.json" not in rig.backend.calls[0][1].files


async def test_a_cluster_begins_with_the_size_that_was_chosen(rig: Rig) -> None:
    """By hand, by the load, and no larger than it may be, which its history tells."""
    rig.simulation.script.max_workers = 10
    by_hand = await rig.clusters.create(ALICE, {"workers": 3})
    by_load = await rig.clusters.create(ALICE, {"minimum": 1, "maximum": 5})
    large = await rig.clusters.create(ALICE, {"workers": 30})

    assert (by_hand.group().wanted, by_hand.group().adaptive) == (3, None)
    assert (by_load.group().wanted, by_load.group().adaptive) == (1, Adaptive(1, 5))
    assert large.group().wanted == 10
    told = [entry.event.message for entry in rig.tables.events if entry.cluster == large.name]
    assert "would exceed resource limit of 10 workers" in told[0]


async def test_workers_start_as_soon_as_the_scheduler_runs(rig: Rig) -> None:
    """Nobody has to ask for them again."""
    name = (await rig.clusters.create(ALICE, {"workers": 2})).name
    await rig.turn(name)
    wanted = await rig.report(name)
    await rig.turn(name, 2)

    assert len(rig.cluster(name).active_workers()) == 2
    assert wanted is not None


async def test_everybody_sees_what_is_for_them(rig: Rig) -> None:
    """What is hidden is nobody's to set."""
    assert [option.name for option in rig.clusters.options(ALICE).shown()][:2] == ["worker_cores", "variables"]
    with pytest.raises(Invalid, match="Unknown fields \\['queue'\\]"):
        await rig.clusters.create(Principal("bob", frozenset({"staff"})), {"queue": "gpu"})
