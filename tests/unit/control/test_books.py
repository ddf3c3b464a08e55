"""The books over whole histories: the real loop, the real store and a simulated engine, with a clock that moves.

They are held against a count of its own: whenever the clock moves, every worker that a scheduler has said it has, and
of which the gateway has not seen the end, has run for that long.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.control.rig import ALICE, Rig, rigged
from tidegate.backends.simulation import ManualClock, Script, Simulation
from tidegate.model.cluster import Cluster, ClusterState, SchedulerFacts, Worker, WorkerState
from tidegate.model.errors import TidegateError
from tidegate.model.offer import Offer
from tidegate.model.options import Kind, Option
from tidegate.model.report import Report
from tidegate.model.usage import DAY_SECONDS, Dimension, Query
from tidegate.store.base import StaleRecord
from tidegate.store.sql import SqlStore

CORES = 2
OPTIONS = Offer((Option("worker_cores", Kind.INTEGER, CORES), Option("scheduler_cores", Kind.INTEGER, 1)))
ALL = Query(0, 10**6, frozenset({Dimension.CLUSTER, Dimension.DAY}))


class History:
    """One gateway after the other over one store and one engine, and what happens to them."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder, self.random = folder, random
        # Near midnight, so that many histories have two days.
        self.clock = ManualClock(20_000.0 * DAY_SECONDS + random.uniform(0, DAY_SECONDS))
        self.steady = ManualClock(0.0)
        self.simulation = Simulation(self.clock, Script())
        self.stack = AsyncExitStack()
        self.counted: dict[tuple[str, int], float] = defaultdict(float)
        self.reported: set[tuple[str, str]] = set()
        self.happened: set[str] = set()

    async def begin(self) -> None:
        """Start a gateway; the one before is gone."""
        await self.stack.aclose()
        store = SqlStore(self.folder, clock=self.clock, steady=self.steady)
        await store.start()
        self.stack.push_async_callback(store.close)
        settings = {"store": store, "simulation": self.simulation, "clock": self.clock, "options": OPTIONS}
        self.rig: Rig = await self.stack.enter_async_context(rigged(self.folder, **settings))

    async def step(self) -> None:
        """Let something happen, and time pass."""
        moves = [*["create"] * 2, *["scale"] * 3, *["live"] * 6, "kill", "dead", "fail", "stop", "restart", "wait"]
        active = await self.rig.store.active()
        move = self.random.choice(moves) if active else "create"
        cluster = self.random.choice(active) if active else None
        try:
            await self._do(move, cluster)
        except (TidegateError, StaleRecord):
            self.happened.add("error")
        self.happened.add(move)
        await self._pass(self.random.choice([0, 1, 60, 0.25, 5000]))

    async def _do(self, move: str, cluster: Cluster | None) -> None:
        if move == "create" or cluster is None:
            if len(await self.rig.store.active()) < 3:
                await self.rig.create()
        elif move == "restart":
            await self.begin()
        elif move == "scale":
            await self.rig.clusters.scale(ALICE, cluster.name, self.random.randint(0, 5))
        elif move == "stop" and self.random.random() < 0.3:
            await self.rig.clusters.stop(ALICE, cluster.name)
        elif move == "kill" and (there := self.simulation.registered(cluster.name)):
            self.simulation.kill(cluster.name, self.random.choice(sorted(there)))  # it is replaced
        elif move == "dead" and self.simulation.registered(cluster.name) is not None and self.random.random() < 0.3:
            self.simulation.kill(cluster.name)
        elif move == "fail":
            is_wrong = self.random.random() < 0.3
            self.simulation.script.worker_error = lambda name: "no such software" if is_wrong else ""
            self.simulation.script.start_delay = self.random.choice([0.0, 0.0, 30.0])
        elif move == "live":
            for one in await self.rig.store.active():
                await self._live(one.name)

    async def _live(self, name: str) -> None:
        await self.rig.reconciler.reconcile(name)
        there = self.simulation.registered(name)
        cluster = await self.rig.store.load(name)
        if there is None or cluster is None or cluster.state.ended:
            return
        wanted = await self.rig.agents.report(name, Report(SchedulerFacts(1, 40001, 40002), there))
        if wanted.exit:
            return
        self.reported |= {(name, worker) for worker in there}
        surplus = sorted(there)[wanted.groups["default"][0] :]
        if surplus:
            await self.rig.agents.report(
                name, Report(SchedulerFacts(1, 40001, 40002), there, retired=frozenset(surplus))
            )
            if self.random.random() < 0.5:
                return  # it takes a while until it is gone
            self.simulation.retire(name, *surplus)
        await self.rig.reconciler.reconcile(name)

    async def _pass(self, seconds: float) -> None:
        """Let time pass, and count it."""
        since = self.clock.now
        self.clock.advance(seconds)
        self.steady.advance(seconds)
        for cluster in await self.rig.store.active():
            cores = sum(CORES for worker in cluster.workers if self._counts(cluster, worker))
            cores += cluster.started_at is not None
            for day in range(int(since // DAY_SECONDS), int(self.clock.now // DAY_SECONDS) + 1):
                overlap = min(self.clock.now, (day + 1) * DAY_SECONDS) - max(since, day * DAY_SECONDS)
                if cores and overlap > 0:
                    self.counted[cluster.name, day] += cores * overlap

    def _counts(self, cluster: Cluster, worker: Worker) -> bool:
        return (cluster.name, worker.name) in self.reported and worker.state is not WorkerState.ENDED

    async def booked(self) -> dict[tuple[str, int], float]:
        """Return what the books say."""
        lines = (await self.rig.store.usage(ALL)).lines
        return {(line.cluster or "", line.day or 0): line.use.core_seconds for line in lines if line.use.core_seconds}


@settings(max_examples=15, deadline=None, phases=set(Phase) - {Phase.explain, Phase.shrink})
@given(st.integers(0, 2**32))
async def test_the_books_balance_whatever_happens(seed):
    """Workers that come, die, are replaced, let go or never start; schedulers that die; gateways that are gone and come
    back: every second of everything that ran is in the books once, for its cluster, on its day."""
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder), Random(seed))
        await history.begin()
        try:
            for _ in range(40):
                await history.step()
            booked = await history.booked()
        finally:
            await history.stack.aclose()

    assert booked == pytest.approx(dict(history.counted))


async def test_these_histories_tell_of_everything(tmp_path: Path):
    """Otherwise they would show nothing: workers run, are replaced, fail and are let go, and clusters end."""
    seen: set[str] = set()
    for seed in range(8):
        history = History(tmp_path / str(seed), Random(seed))
        history.folder.mkdir(mode=0o700)
        await history.begin()
        for _ in range(40):
            await history.step()
            for cluster in await history.rig.store.active():
                seen |= {worker.state.value for worker in cluster.workers}
                seen |= {"failed" for worker in cluster.workers if worker.reason is not None}
                seen |= {"replaced"} if cluster.group().launched > cluster.group().wanted > 0 else set()
        for cluster in await history.rig.store.find(states=[ClusterState.FAILED, ClusterState.STOPPED]):
            seen.add(f"cluster {cluster.state.value}")
        assert history.counted
        await history.stack.aclose()

    assert {"running", "stopping", "ended", "failed", "replaced", "cluster failed", "cluster stopped"} <= seen


@settings(max_examples=8, deadline=None, phases=set(Phase) - {Phase.explain, Phase.shrink})
@given(st.integers(0, 2**32))
async def test_the_books_balance_when_the_clock_is_set(seed):
    """Back or ahead, again and again: what ran is counted by a clock that nobody sets."""
    with tempfile.TemporaryDirectory() as folder:
        history, random = History(Path(folder), Random(seed)), Random(seed)
        await history.begin()
        try:
            for _ in range(8):
                for _ in range(5):
                    await history.step()
                history.clock.advance(random.choice([-1, 1]) * random.uniform(10, 3000))
                booked = await history.booked()
                assert sum(booked.values()) == pytest.approx(sum(history.counted.values()), abs=1e-3)
        finally:
            await history.stack.aclose()
