"""The simulated engine: delays on a clock that a test moves, failures on demand, and the part of the agent."""

from __future__ import annotations

import asyncio
import time

import pytest

from tidegate.backends.base import Launch
from tidegate.backends.simulated import SimulatedBackend
from tidegate.backends.simulation import ManualClock, Script, Simulation
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import BackendFailed, Busy
from tidegate.model.observation import ProcessState

LAUNCH = Launch("c1", "alice", 1, ClusterSpec())
ADDRESS = "tls://127.0.0.1:1"


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


def make(clock: ManualClock, **script: object) -> tuple[Simulation, SimulatedBackend]:
    """Return a scripted engine and a backend that looks at it."""
    simulation = Simulation(clock, Script(**script))  # type: ignore[arg-type]
    return simulation, SimulatedBackend(clock=clock, simulation=simulation)


async def look(backend: SimulatedBackend, process: str = "scheduler") -> ProcessState | None:
    """Return the state of a process."""
    seen = (await backend.observe(["c1"]))["c1"]
    found = seen.scheduler if process == "scheduler" else seen.workers.get(process)
    return found.state if found else None


async def test_things_take_the_time_of_the_script(clock: ManualClock) -> None:
    """Queued, running, registered, and stopped: each when the clock says so, not before."""
    simulation, backend = make(clock, queue_delay=10, start_delay=5, stop_delay=3)
    await backend.launch(LAUNCH)
    assert await look(backend) is ProcessState.QUEUED
    clock.advance(10)
    assert await look(backend) is ProcessState.RUNNING
    assert simulation.registered("c1") is None
    clock.advance(5)
    assert simulation.registered("c1") == frozenset()
    await backend.start_workers(LAUNCH, ADDRESS, ["default-1"])
    clock.advance(14)
    assert simulation.registered("c1") == frozenset()
    clock.advance(1)
    assert simulation.registered("c1") == {"default-1"}
    await backend.stop("c1")
    assert (await backend.observe(["c1"]))["c1"].remains
    clock.advance(3)
    assert not (await backend.observe(["c1"]))["c1"].remains


async def test_failures_are_scripted(clock: ManualClock) -> None:
    """A worker that cannot start says why; an engine that refuses raises what it is told to."""
    simulation, backend = make(clock, worker_error=lambda name: "no room" if name.endswith("2") else "")
    await backend.launch(LAUNCH)
    await backend.start_workers(LAUNCH, ADDRESS, ["default-1", "default-2"])
    failed = (await backend.observe(["c1"]))["c1"].workers["default-2"]
    assert (failed.state, failed.code, failed.why) == (ProcessState.EXITED, "cannot-start", "no room")
    assert simulation.registered("c1") == {"default-1"}
    simulation.script.refusal = Busy("the engine is away")
    with pytest.raises(Busy):
        await backend.stop("c1")
    assert await look(backend) is ProcessState.RUNNING
    simulation.script.refusal = None
    simulation.kill("c1")
    with pytest.raises(BackendFailed):
        await backend.start_workers(LAUNCH, ADDRESS, ["default-3"])


async def test_retired_workers_end_as_the_scheduler_ends_them(clock: ManualClock) -> None:
    """They are EXITED by themselves, and the scheduler has them no longer."""
    simulation, backend = make(clock)
    await backend.launch(LAUNCH)
    await backend.start_workers(LAUNCH, ADDRESS, ["default-1", "default-2"])
    simulation.retire("c1", "default-2")
    assert simulation.registered("c1") == {"default-1"}
    assert await look(backend, "default-2") is ProcessState.EXITED


async def test_with_the_real_clock_time_passes_by_itself() -> None:
    """A started backend lets things happen when they are due, and tells who listens."""
    backend = SimulatedBackend(settings={"start_delay": 0.05})
    await backend.start()
    changes = backend.changes()
    try:
        hearing = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await backend.launch(LAUNCH)
        assert await asyncio.wait_for(hearing, 20) == "c1"
        while backend.simulation.registered("c1") is None:
            assert await asyncio.wait_for(anext(changes), 20) == "c1"
    finally:
        await changes.aclose()  # type: ignore[attr-defined]
        await backend.close()


async def test_five_hundred_clusters_are_no_work(clock: ManualClock) -> None:
    """An observation of 500 clusters with 10 workers each takes far less than a second."""
    _, backend = make(clock, start_delay=1)
    names = [f"c{n}" for n in range(500)]
    for name in names:
        launch = Launch(name, "alice", 1, ClusterSpec())
        await backend.launch(launch)
        await backend.start_workers(launch, ADDRESS, [f"default-{n}" for n in range(10)])
    clock.advance(1)
    began = time.process_time()
    seen = await backend.observe(names)
    assert time.process_time() - began < 1
    assert sum(len(look.workers) for look in seen.values()) == 5000
