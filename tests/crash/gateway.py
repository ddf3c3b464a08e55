"""Control as the crash tests run it: built anew after each death, on the tables and the world that last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.crash.world import CALM, MAX_WORKERS, Crash, World
from tests.memory_store import MemoryStore, Tables
from tidegate.control.agents import Agents, ReportPace
from tidegate.control.bus import Bus
from tidegate.control.choosing import Choosing
from tidegate.control.clients import Clients
from tidegate.control.clusters import Clusters
from tidegate.control.credentials import LaunchFiles, route_to
from tidegate.control.execute import Executor
from tidegate.control.reconciler import Reconciler
from tidegate.control.records import Records
from tidegate.control.sweep import Sweep
from tidegate.control.terms import Terms
from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.admission import Admission
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Target, WorkerState
from tidegate.model.ends import ANSWER_COUNTS, DRIFT, EndRules
from tidegate.model.errors import TidegateError
from tidegate.model.event import Event
from tidegate.model.lifecycle import due
from tidegate.model.limits import Rules
from tidegate.model.offer import Offer
from tidegate.model.principal import Principal
from tidegate.model.report import Report
from tidegate.model.usage import Dimension, Query
from tidegate.store.base import Credentials, StaleRecord

ALICE = Principal("alice")
IDLE, NO_CLIENT, WARNING = 20.0, 6.0, 5.0
"""Seconds after which an unused cluster ends here, and before which it is announced: a run takes a minute."""
PATIENT = 1e9
"""Seconds: in these runs no start is ever overdue, so that every end has another cause."""


class CrashingStore(MemoryStore):
    """A store at whose writes control may die, before or after."""

    def __init__(self, tables: Tables, world: World) -> None:
        super().__init__(tables, world.clock)
        self._world = world

    async def admit(self, name: str, admission: Admission) -> Cluster | None:
        """Change what is held, or die."""
        self._world.maybe_crash("before")
        saved = await super().admit(name, admission)
        self._world.maybe_crash("after")
        return saved

    async def save(self, cluster: Cluster, events: Sequence[Event] = ()) -> Cluster:
        """Save, or die."""
        self._world.maybe_crash("before")
        if not self._world.has_late_comers:
            self._check_ends(cluster)
        self._check_why(cluster)
        saved = await super().save(cluster, events)
        self._world.maybe_crash("after")
        return saved

    def _check_ends(self, cluster: Cluster) -> None:
        """What the record calls ended must have ended, at the moment when it is recorded."""
        alive = self._world.alive(cluster.name)
        if cluster.state.ended:
            assert not alive, f"{cluster.name} is called {cluster.state.value} while {alive} run"
        ended = {w.name for w in cluster.workers if w.state is WorkerState.ENDED}
        assert not ended.intersection(alive), f"{ended.intersection(alive)} are called ended and run"

    def _check_why(self, cluster: Cluster) -> None:
        """What ends because it is unused must be unused: a moment ago its agent said so, who had been asked."""
        reason, before = cluster.reason, self.tables.clusters[cluster.name]
        if reason is None or before.target is Target.STOPPED or reason.code not in (reasons.IDLE, reasons.NO_CLIENT):
            return
        place, activity = self._world.places[cluster.name], before.activity
        assert activity.asked_at is not None, "nobody asked"
        answered_at, idle = self._world.answers[cluster.name, activity.question]
        assert idle is not None, "something ran"
        assert self._world.now - answered_at < ANSWER_COUNTS + 1, "the answer is old"
        if reason.code == reasons.IDLE:
            assert idle >= IDLE - DRIFT, f"it was idle for {idle:g} s only"
            assert self._world.now - before.activity.warned[reasons.IDLE] >= WARNING, "it was not announced"
        else:
            assert place.clients == 0, "there is a client"
            assert self._world.now - place.clientless_since >= NO_CLIENT, "there was a client"


class NoFiles(LaunchFiles):
    """Lays nothing beside the processes of a world that has no disk."""

    def build(self, cluster: Cluster, credentials: Credentials) -> dict[str, bytes]:
        """Return no files."""
        return {}


class Gateway:
    """One life of control after the other.

    Parameters
    ----------
    world : World
    rules : Rules, optional
        The limits.
    """

    def __init__(self, world: World, rules: Rules | None = None) -> None:
        self.world = world
        self.rules = rules
        self.tables = Tables()
        self.asked_to_stop: set[str] = set()
        self.deaths = 0
        self._reports: list[tuple[str, Report]] = []
        self._interrupted = False
        self.used: dict[str, float] = {}
        """For each cluster, the seconds of its workers that were on record as running, counted as they passed."""
        world.interrupt = self._interrupt
        world.passing = self._count
        self._start()

    def _start(self) -> None:
        world = self.world
        world.crashed = False
        bus = Bus()
        store = CrashingStore(self.tables, world)
        backends = {"world": world}
        records = Records(store, bus, self.rules)
        executor = Executor(records, backends, world, NoFiles(""), world.clock)
        self.reconciler = Reconciler(records, backends, executor, bus, world.clock)
        terms = Terms(start_timeout=PATIENT)
        self.clusters = Clusters(records, backends, "world", bus, world.clock, Choosing(Offer()), terms)
        self.clients = Clients(records, world, world.clock, world.clock)
        pace = ReportPace(world.clock)
        self.agents = Agents(records, bus, world.clock, pace, self.clients.clientless)
        self.sweep = Sweep(store, backends, world.clock)
        # What Routing.start does: the proxies are sent the routes of what runs.
        running = (c for c in self.tables.clusters.values() if c.state is ClusterState.RUNNING)
        world.routes = {
            c.name: route_to(c, self.tables.credentials[c.name]) for c in running if c.target is Target.RUNNING
        }

    async def insert(self, name: str) -> None:
        """Record a cluster, as ``Clusters.create`` does after it has minted credentials."""
        rules = EndRules(IDLE, NO_CLIENT, warn=WARNING)
        spec = replace(ClusterSpec(), max_workers=MAX_WORKERS, start_timeout=PATIENT)
        spec = rules.applied_to(spec, shutdown_on_close=True)
        now = self.world.now
        cluster = Cluster(name, "alice", "world", spec, created_at=now, changed_at=now)
        secrets = Credentials(*(f"{part}-{name}" for part in Credentials.__slots__))
        await MemoryStore(self.tables, self.world.clock).insert(cluster, secrets, [])

    async def do(self, action: object) -> None:
        """Await something that control does; when it dies of it, start it again."""
        try:
            await action  # type: ignore[misc]
        except Crash:
            if self._interrupted:
                # It happened within a pass, which dies with it.
                raise
            self.deaths += 1
            self._start()
        except (StaleRecord, TidegateError):
            # What the real loop logs, and tries again.
            pass

    async def reconcile(self, name: str) -> None:
        """Make one pass."""
        await self.do(self.reconciler.reconcile(name))

    async def stop(self, name: str) -> None:
        """Ask for the end of a cluster; whether it was heard is in the record."""
        try:
            await self.do(self.clusters.stop(ALICE, name))
        finally:
            record = self.tables.clusters[name]
            if record.target is Target.STOPPED and record.reason is None:
                self.asked_to_stop.add(name)

    def _interrupt(self) -> None:
        """Let something else happen in the middle of a pass. It waits for nothing, so it can be driven by hand."""
        if self._interrupted:
            return
        self._interrupted = True
        try:
            name = self.world.random.choice(list(self.tables.clusters))
            self.world.step()
            action = self.report(name) if self.world.chance(0.7) else self.request(name)
            with pytest.raises(StopIteration):
                action.send(None)
        finally:
            self._interrupted = False

    async def request(self, name: str) -> None:
        """Let the owner ask for something."""
        random = self.world.random
        choice = random.random()
        if choice < 0.6:
            await self.do(self.clusters.scale(ALICE, name, random.randint(0, MAX_WORKERS)))
        elif choice < 0.9:
            low, high = sorted((random.randint(0, MAX_WORKERS), random.randint(0, MAX_WORKERS)))
            await self.do(self.clusters.adapt(ALICE, name, low, high, active=random.random() < 0.8))
        else:
            await self.stop(name)

    async def report(self, name: str) -> None:
        """Let the agent of a cluster report; the report may be lost, or come later."""
        world = self.world
        if name not in world.places:
            return
        report = world.report_of(name)
        if report is not None and world.chance(world.chances.late_report):
            self._reports.append((name, report))
        elif report is not None and not world.chance(world.chances.lost_report):
            await self.do(self._deliver(name, report))
        if self._reports and world.chance(0.3):
            await self.do(self._deliver(*self._reports.pop(0)))

    async def _deliver(self, name: str, report: Report) -> None:
        wanted = await self.agents.report(name, report)
        self.world.hear_wanted(name, wanted)

    async def converge(self, *, sweep: bool, rounds: int = 80) -> int:
        """Let everything go well from here on, until nothing is left to do; return how many rounds it took."""
        self.world.chances = CALM
        self.world.interrupt = None
        quiet = 0
        for number in range(rounds):
            before = dict(self.tables.clusters)
            self.world.step()
            self.world.pass_time(2.0)
            for name in list(self.tables.clusters):
                await self.report(name)
                await self.reconcile(name)
            await self.do(self.clients.look())
            swept = await self.sweep.stop_orphans() if sweep else set()
            waiting = any(due(c, self.world.now) for c in before.values() if c.state is ClusterState.RUNNING)
            settled = self.world.settled and not self._reports and not waiting and not swept
            at_rest = settled and before == self.tables.clusters
            quiet = quiet + 1 if at_rest else 0
            if quiet == 3:
                return number
        raise AssertionError(f"it does not come to rest within {rounds} rounds: {self.tables.clusters}")

    def check(self) -> None:
        """Hold the records against the world, after it has come to rest."""
        for name in self.world.places:
            assert name in self.tables.clusters
        for name, cluster in self.tables.clusters.items():
            alive = self.world.alive(name)
            if cluster.state.ended:
                assert not alive, f"orphans of {cluster.state.value} {name}: {alive}"
                assert name not in self.world.routes, f"a route leads to {name}, which has ended"
                assert all(w.state is WorkerState.ENDED for w in cluster.workers)
            else:
                self._check_running(name, cluster, alive)
            self._check_end(name, cluster)
        for recorded in self.tables.events:
            if recorded.event.kind == events.WORKER_ENDED:
                worker = recorded.event.data["worker"]
                died = (recorded.cluster, worker) in self.world.dead_workers or recorded.cluster in self.world.died
                assert died, f"nothing happened to {worker}: {recorded.event.message}"

    def _count(self, seconds: float) -> None:
        for name, cluster in self.tables.clusters.items():
            running = sum(
                w.state is WorkerState.RUNNING or (w.state is WorkerState.STOPPING and w.started_at is not None)
                for w in cluster.workers
            )
            self.used[name] = self.used.get(name, 0.0) + running * seconds

    async def check_books(self) -> float:
        """Hold the books against what was counted, and return how many seconds that were."""
        query = Query(0, 10**6, frozenset({Dimension.CLUSTER}))
        books = await MemoryStore(self.tables, self.world.clock).usage(query)
        booked = {line.cluster: line.use.core_seconds for line in books.lines}
        assert booked == pytest.approx({name: seconds for name, seconds in self.used.items() if seconds})
        return sum(self.used.values())

    def _check_running(self, name: str, cluster: Cluster, alive: list[str]) -> None:
        assert cluster.state is ClusterState.RUNNING, f"{name} is left {cluster.state.value}"
        active = {w.name for w in cluster.active_workers()}
        assert set(alive) == {"scheduler"} | active, f"{alive} run, {active} are on record"
        assert all(w.state is WorkerState.RUNNING for w in cluster.active_workers())
        assert len(active) == cluster.group().wanted, f"{len(active)} run, {cluster.group().wanted} are wanted"
        assert name in self.world.routes, f"no route leads to {name}, which runs"
        assert self.world.routes[name].port == self.world.places[name].port

    def _check_end(self, name: str, cluster: Cluster) -> None:
        asked, died = name in self.asked_to_stop, name in self.world.died
        if cluster.reason is not None and cluster.reason.code in (reasons.IDLE, reasons.NO_CLIENT):
            assert cluster.state is ClusterState.STOPPED, f"{name} was not used, and is {cluster.state.value}"
            return
        if asked and not died:
            assert cluster.state is ClusterState.STOPPED, f"{name} was stopped, and is {cluster.state.value}"
        elif died and not asked:
            assert cluster.state is ClusterState.FAILED, f"{name} died, and is {cluster.state.value}"
        elif not asked:
            assert cluster.state is ClusterState.RUNNING, f"nobody ended {name}: {cluster.reason}"
        else:
            assert cluster.state.ended
