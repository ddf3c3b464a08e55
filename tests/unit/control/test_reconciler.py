"""The loop: brings clusters where they are wanted, whatever wakes it, and whatever happens to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import eventually
from tests.unit.control.rig import ALICE, START_TIMEOUT, Rig, rigged
from tidegate.control.reconciler import Reconciler
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, WorkerState
from tidegate.model.errors import BackendFailed, Busy


@contextlib.asynccontextmanager
async def turning(rig: Rig) -> AsyncIterator[None]:
    """Let the loop turn."""
    loop = asyncio.create_task(rig.reconciler.run())
    try:
        yield
    finally:
        loop.cancel()
        await asyncio.wait([loop])


async def is_state(rig: Rig, name: str, state: ClusterState) -> None:
    """Wait until a cluster is in a state."""
    await eventually(lambda: rig.cluster(name).state is state, what=f"{state.value}, it is {rig.cluster(name).state}")


async def test_a_whole_life(rig: Rig):
    """Create, report, scale up and down, stop: the loop does all of it, woken by what happens."""
    async with turning(rig):
        name = await rig.create()
        await is_state(rig, name, ClusterState.STARTING)
        await rig.report(name)
        await is_state(rig, name, ClusterState.RUNNING)

        await rig.clusters.scale(ALICE, name, 3)
        await eventually(lambda: len(rig.simulation.registered(name)) == 3)
        await rig.report(name)
        assert {w.state for w in rig.cluster(name).workers} == {WorkerState.RUNNING}

        await rig.clusters.scale(ALICE, name, 1)
        await rig.report(name, retired=frozenset({"default-2", "default-3"}))
        await eventually(lambda: rig.simulation.registered(name) == {"default-1"})

        await rig.clusters.stop(ALICE, name)
        await is_state(rig, name, ClusterState.STOPPED)
        assert rig.simulation.remaining() == set()


async def test_many_clusters_come_up_side_by_side(rig: Rig):
    """Fifty clusters of ten workers each, all at once: every one comes to what is wanted."""
    async with turning(rig):
        names = await asyncio.gather(*(rig.create() for _ in range(50)))
        await eventually(lambda: all(rig.cluster(n).state is ClusterState.STARTING for n in names))
        await asyncio.gather(*(rig.report(n) for n in names))
        await eventually(lambda: all(rig.cluster(n).state is ClusterState.RUNNING for n in names))
        await asyncio.gather(*(rig.clusters.scale(ALICE, n, 10) for n in names))
        await eventually(lambda: all(len(rig.simulation.registered(n)) == 10 for n in names))
        assert rig.backend.count("start_workers") == 50
        await asyncio.gather(*(rig.report(n) for n in names))
        assert all(len(rig.cluster(n).active_workers()) == 10 for n in names)
        await asyncio.gather(*(rig.clusters.stop(ALICE, n) for n in names))
        await eventually(lambda: all(rig.cluster(n).state is ClusterState.STOPPED for n in names))
    assert rig.simulation.remaining() == set()


async def test_a_hint_that_is_lost_costs_time_only(rig: Rig):
    """The backend hears nothing of a death; the slow timer finds it."""
    name = await rig.bring_up()
    rig.simulation.on_change.clear()
    async with turning(rig):
        rig.clock.advance(1)
        rig.simulation.kill(name)
        await is_state(rig, name, ClusterState.FAILED)
    assert rig.cluster(name).reason.code == reasons.SCHEDULER_EXITED


async def test_a_hint_of_the_backend_wakes_at_once(tmp_path: Path):
    """A worker that dies is seen without the timer."""
    async with rigged(tmp_path, interval=3600) as rig:
        name = await rig.bring_up(workers=1)
        rig.backend.looks.clear()
        async with turning(rig):
            await eventually(lambda: rig.backend.looks)
            rig.clock.advance(1)
            rig.simulation.kill(name, "default-1")
            await eventually(lambda: rig.cluster(name).workers[0].state is WorkerState.ENDED)


async def test_a_change_of_a_record_wakes_at_once(tmp_path: Path):
    """A new cluster is launched, and a stop is done, without the timer."""
    async with rigged(tmp_path, interval=3600) as rig:
        running = await rig.bring_up()
        rig.simulation.on_change.clear()
        rig.backend.looks.clear()
        async with turning(rig):
            await eventually(lambda: rig.backend.looks)
            name = await rig.create()
            await is_state(rig, name, ClusterState.STARTING)
            await rig.clusters.stop(ALICE, running)
            await is_state(rig, running, ClusterState.STOPPED)


async def test_the_timer_costs_one_look_for_all(rig: Rig):
    """Twenty clusters at rest: one call, and no pass."""
    names = {await rig.bring_up() for _ in range(20)}
    rig.backend.looks.clear()
    await rig.reconciler.look_around()
    assert rig.backend.looks == [names]
    assert not rig.reconciler._queue._ready


async def test_the_timer_wakes_only_where_there_is_something_to_do(rig: Rig):
    """One of twenty has died: one pass."""
    names = [await rig.bring_up() for _ in range(20)]
    rig.clock.advance(1)
    rig.simulation.kill(names[7])
    await rig.reconciler.look_around()
    assert list(rig.reconciler._queue._ready) == [names[7]]


async def test_a_launch_does_not_wait_for_a_look(rig: Rig):
    """A new cluster is launched at once, while the backend is busy looking at others."""
    rig.backend.gate = asyncio.Event()
    name = await rig.create()
    await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.STARTING
    assert rig.backend.looks == []


@pytest.mark.parametrize("failure", [BackendFailed("away"), Busy("later"), ZeroDivisionError("a bug of the backend")])
async def test_the_loop_outlives_what_happens_to_one_cluster(rig: Rig, failure, caplog):
    """Whatever a pass raises: it is tried again, other clusters go on, and the log says what happened."""
    caplog.set_level(logging.INFO)
    async with turning(rig):
        rig.backend.failure = failure
        name = await rig.create()
        await eventually(lambda: rig.backend.count("launch") >= 3)
        rig.backend.failure = None
        await is_state(rig, name, ClusterState.STARTING)
    assert name in caplog.text


async def test_the_loop_outlives_a_broken_store(rig: Rig, caplog):
    """A database that is away for a moment is an error in the log, and then everything goes on."""
    name = await rig.bring_up()
    rig.clock.advance(1)
    rig.simulation.kill(name)
    active, rig.store.active = rig.store.active, None
    async with turning(rig):
        await eventually(lambda: "cannot look around" in caplog.text)
        rig.store.active = active
        await is_state(rig, name, ClusterState.FAILED)


async def test_passes_of_one_cluster_never_overlap(tmp_path: Path):
    """Woken a hundred times while a pass is under way, it comes again once, afterwards."""
    async with rigged(tmp_path, interval=3600) as rig:
        name = await rig.bring_up()
        loads, load = 0, rig.store.load

        async def counting(cluster: str):
            nonlocal loads
            loads += 1
            return await load(cluster)

        rig.store.load = counting
        rig.backend.gate = asyncio.Event()
        rig.backend.looks.clear()
        async with turning(rig):
            await asyncio.sleep(0)  # Now it listens.
            rig.bus.publish(rig.cluster(name))
            await eventually(lambda: loads == 1)
            for _ in range(100):
                rig.bus.publish(rig.cluster(name))
                await asyncio.sleep(0)
            assert loads == 1
            rig.backend.gate.set()
            await eventually(lambda: loads == 2)
            await asyncio.sleep(0)
        assert loads == 2


async def test_a_stop_that_takes_its_time_is_not_asked_for_again_and_again(rig: Rig):
    """While the engine is at it, the same stop is repeated less and less often; hints in between do not add to it."""
    rig.simulation.script.stop_delay = 30
    name = await rig.bring_up()
    await rig.clusters.stop(ALICE, name)
    for _ in range(200):
        await rig.reconciler.reconcile(name)
    assert rig.backend.count("stop") == 1
    for _ in range(29):
        rig.clock.advance(1)
        await rig.reconciler.reconcile(name)
    assert 5 <= rig.backend.count("stop") <= 15
    rig.clock.advance(2)
    await rig.reconciler.reconcile(name)
    assert rig.cluster(name).state is ClusterState.STOPPED


async def test_time_without_control_does_not_count_against_a_start(rig: Rig):
    """A scheduler that was starting while control was away could report to nobody: its deadline begins anew."""
    name = await rig.create()
    await rig.turn(name)
    rig.clock.advance(10 * START_TIMEOUT)
    async with turning(rig):
        await eventually(lambda: len(rig.backend.looks) >= 3)
        assert rig.cluster(name).state is ClusterState.STARTING
        await rig.report(name)
        await is_state(rig, name, ClusterState.RUNNING)


async def test_a_clock_that_is_set_back_stops_nothing(rig: Rig):
    """Two hours back: the slow timer wakes the cluster, its times follow, and a death is seen."""
    name = await rig.bring_up(workers=1)
    rig.clock.advance(-7200)
    rig.simulation.kill(name)
    await rig.reconciler.look_around()
    assert list(rig.reconciler._queue._ready) == [name]
    await rig.turn(name, times=3)
    assert rig.cluster(name).state is ClusterState.FAILED


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
async def test_a_clock_that_is_set_fails_no_start(rig: Rig, jump: float):
    """An hour passes on the clock and none in the world: who is starting has its full time still."""
    loop = Reconciler(rig.records, {"sim": rig.backend}, rig.executor, rig.bus, rig.clock, steady=lambda: 0.0)
    name = await rig.create()
    await loop.reconcile(name)
    rig.clock.advance(jump)
    for _ in range(3):
        await loop.reconcile(name)
    assert rig.cluster(name).state is ClusterState.STARTING

    await rig.report(name)
    await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.RUNNING


async def test_a_deadline_wakes_by_itself(rig: Rig):
    """A pass says when to come back: at the start's deadline."""
    name = await rig.create()
    await rig.turn(name)
    rig.clock.advance(1)
    assert await rig.reconciler.reconcile(name) == pytest.approx(START_TIMEOUT - 1)


async def test_clusters_of_a_backend_that_is_gone_are_left_alone(rig: Rig, caplog):
    """The operator is told; nothing is called lost, for nobody could look."""
    name = await rig.bring_up()
    loop = Reconciler(rig.records, {}, rig.executor, rig.bus, rig.clock)
    await loop.look_around()
    await loop.reconcile(name)
    assert rig.cluster(name).state is ClusterState.RUNNING
    assert "'sim'" in caplog.text
