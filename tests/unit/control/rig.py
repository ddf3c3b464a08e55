"""All of control around a simulated engine, with a clock that a test moves. No loop turns unless a test turns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.memory_store import MemoryStore, Tables
from tidegate.backends.simulated import SimulatedBackend
from tidegate.backends.simulation import ManualClock, Script, Simulation
from tidegate.control.agents import Agents
from tidegate.control.bus import Bus
from tidegate.control.choosing import Choosing, Hook
from tidegate.control.clusters import Clusters
from tidegate.control.credentials import LaunchFiles
from tidegate.control.execute import Executor
from tidegate.control.reconciler import Pace, Reconciler
from tidegate.control.records import Records
from tidegate.control.routing import Routing
from tidegate.control.shares import Shares, SharingRules
from tidegate.control.sweep import Sweep
from tidegate.control.terms import Terms
from tidegate.model.cluster import Cluster, ClusterState, SchedulerFacts
from tidegate.model.limits import Rules
from tidegate.model.offer import Offer
from tidegate.model.principal import Principal
from tidegate.model.report import Report, Wanted
from tidegate.store.base import Store

ALICE = Principal("alice")
MALLORY = Principal("mallory")
START_TIMEOUT = 60.0


class CountingBackend(SimulatedBackend):
    """A simulated backend that remembers what it was asked, and can be made to fail or to wait."""

    def __init__(self, simulation: Simulation, clock: ManualClock) -> None:
        super().__init__(clock=clock, simulation=simulation)
        self.calls: list[tuple[str, Any]] = []
        self.looks: list[set[str]] = []
        self.failure: Exception | None = None
        """What every call raises, if set."""
        self.gate: asyncio.Event | None = None
        """What every look waits for, if set."""
        self.unknown: set[str] = set()
        """Clusters of which no look can tell anything."""

    async def launch(self, launch: Any) -> None:
        """Count, then launch."""
        await self._called("launch", launch)
        await super().launch(launch)

    async def start_workers(self, launch: Any, scheduler: str, names: Any) -> None:
        """Count, then start workers."""
        await self._called("start_workers", (scheduler, tuple(names)))
        await super().start_workers(launch, scheduler, names)

    async def stop(self, cluster: str) -> None:
        """Count, then stop."""
        await self._called("stop", cluster)
        await super().stop(cluster)

    async def observe(self, clusters: Any) -> Any:
        """Count, then look."""
        self.looks.append(set(clusters))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return await super().observe(set(clusters) - self.unknown)

    async def list_clusters(self) -> set[str]:
        """List, unless that fails."""
        if self.failure is not None:
            raise self.failure
        return await super().list_clusters()

    async def _called(self, name: str, what: Any) -> None:
        self.calls.append((name, what))
        if self.failure is not None:
            raise self.failure

    def count(self, name: str) -> int:
        """Return how often a call was made."""
        return sum(called == name for called, _ in self.calls)


class Rig:
    """One control, whose parts a test reaches."""

    def __init__(
        self,
        folder: Path,
        *,
        terms: Terms | None = None,
        rules: Rules | None = None,
        options: Offer | None = None,
        hook: Hook | None = None,
        interval: float = 0.05,
        store: Store | None = None,
        simulation: Simulation | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.tables = Tables()
        self.store: Store = store or MemoryStore(self.tables, self.clock)
        self.bus = Bus()
        self.records = Records(self.store, self.bus, rules)
        self.simulation = simulation or Simulation(self.clock, Script())
        self.backend = CountingBackend(self.simulation, self.clock)
        backends = {"sim": self.backend}
        self.routing = Routing(self.store, folder)
        files = LaunchFiles("http://127.0.0.1:8000")
        self.executor = Executor(self.records, backends, self.routing, files, self.clock)
        pace = Pace(interval=interval, retry=0.01, repeat=0.01)
        self.reconciler = Reconciler(self.records, backends, self.executor, self.bus, self.clock, pace=pace)
        self.clusters = Clusters(
            self.records,
            backends,
            "sim",
            self.bus,
            self.clock,
            Choosing(options or Offer(), hook, hook_seconds=0.2),
            terms or Terms(start_timeout=START_TIMEOUT),
        )
        self.shares = Shares(self.clusters, self.records, self.routing, self.clock, SharingRules())
        self.agents = Agents(self.records, self.bus, self.clock)
        self.sweep = Sweep(self.store, backends, self.clock)

    async def create(self, **values: Any) -> str:
        """Create a cluster of alice's and return its name."""
        return (await self.clusters.create(ALICE, {}, **values)).name

    def cluster(self, name: str) -> Cluster:
        """Return the record."""
        return self.tables.clusters[name]

    def token(self, name: str) -> str:
        """Return the token of a cluster's agent."""
        return self.tables.credentials[name].agent_token

    async def turn(self, name: str, times: int = 1) -> None:
        """Make passes, as the loop would when it is woken."""
        for _ in range(times):
            self.clock.advance(0.1)
            await self.reconciler.reconcile(name)

    async def report(self, name: str, **values: Any) -> Wanted:
        """Let the agent of a cluster report what its scheduler has."""
        workers = self.simulation.registered(name) or frozenset()
        report = Report(SchedulerFacts(1, 40001, 40002), **{"workers": workers} | values)
        return await self.agents.report(name, report)

    async def bring_up(self, workers: int = 0) -> str:
        """Create a cluster, and bring it to RUNNING with so many workers."""
        name = await self.create()
        await self.turn(name)
        await self.report(name)
        await self.turn(name)
        if workers:
            await self.clusters.scale(ALICE, name, workers)
            await self.turn(name)
            await self.report(name)
        assert self.cluster(name).state is ClusterState.RUNNING
        assert len(self.cluster(name).active_workers()) == workers
        return name


@asynccontextmanager
async def rigged(folder: Path, **settings: Any) -> AsyncIterator[Rig]:
    """Start a rig, and let go of it in the end."""
    rig = Rig(folder, **settings)
    await rig.backend.start()
    await rig.routing.start()
    try:
        yield rig
    finally:
        await rig.routing.close()
        await rig.backend.close()
