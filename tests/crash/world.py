"""A small, deterministic world for the crash tests: an engine, agents, proxies, time, and a control that may die.

Everything that happens follows from one seed. The engine keeps the promises of ``backends/base.py`` and no more: it may
answer with an old look (which says when it began), fail to look at all, take its time to start and stop processes, and
go on with a call whose caller has died. It checks by itself that no attempt of a cluster is ever launched twice.

What lasts when control dies is the world and the tables of the store. Control is the real code: records, executor,
reconciler, clusters, agents, sweep.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from tidegate.backends.base import Launch, Log
from tidegate.model.cluster import ClusterSpec, SchedulerFacts
from tidegate.model.errors import BackendFailed, Busy
from tidegate.model.observation import ProcessSeen, ProcessState, Seen
from tidegate.model.policy import Capacity
from tidegate.model.report import Report, Wanted
from tidegate.wire.proxy import Route

HOST = "10.0.0.1"
MAX_WORKERS = 6


class Crash(BaseException):
    """Control is killed here. Not an ``Exception``: nothing in control may catch it, as nothing catches SIGKILL."""


@dataclass(frozen=True)
class Chances:
    """How likely each mishap is, at each occasion; and how far the engine's answers lag."""

    crash: float = 0.0
    late: float = 0.0
    stale: float = 0.0
    blind: float = 0.0
    busy: float = 0.0
    lost_report: float = 0.0
    late_report: float = 0.0
    worker_dies: float = 0.0
    scheduler_dies: float = 0.0
    load_changes: float = 0.0
    interrupt: float = 0.0
    work_changes: float = 0.0
    clients_change: float = 0.0
    speed: float = 0.6
    lag: int = 8


CALM = Chances()
ROUGH = Chances(
    crash=0.06,
    stale=0.5,
    blind=0.05,
    busy=0.03,
    lost_report=0.1,
    late_report=0.1,
    worker_dies=0.01,
    scheduler_dies=0.002,
    load_changes=0.5,
    interrupt=0.2,
    work_changes=0.03,
    clients_change=0.1,
    speed=0.5,
)
LATE = Chances(crash=0.1, late=0.6, stale=0.5, lost_report=0.1, late_report=0.1, interrupt=0.2, speed=0.5)


@dataclass
class Process:
    """A scheduler or worker of the engine."""

    name: str
    state: ProcessState = ProcessState.QUEUED
    stopping: bool = False
    expected: bool = False

    @property
    def alive(self) -> bool:
        """Whether it holds resources."""
        return self.state is not ProcessState.EXITED


@dataclass
class Place:
    """What the engine has of one cluster: its processes, and what its scheduler and agent know."""

    attempt: int
    scheduler: Process
    workers: dict[str, Process] = field(default_factory=dict)
    port: int = 8786
    retired: set[str] = field(default_factory=set)
    wanted: int = 0
    demand: int = 0
    idle_since: float | None = None
    clients: int = 0
    clientless_since: float = 0.0
    question: int = 0

    @property
    def processes(self) -> list[Process]:
        """All of them."""
        return [self.scheduler, *self.workers.values()]

    def registered(self) -> list[str]:
        """Return the workers that the scheduler has now."""
        return [
            n
            for n, p in self.workers.items()
            if p.state is ProcessState.RUNNING and not p.stopping and n not in self.retired
        ]


class World:
    """The engine and the proxies; a ``Backend`` and a ``RouteTable`` to control."""

    def __init__(self, seed: object, chances: Chances, *, lie: bool = False) -> None:
        self.random = Random(repr(seed))
        self.chances = chances
        self.has_late_comers = chances.late > 0
        """Whether calls may go on when their caller has died: then only the sweep finds all orphans."""
        self.now = 1_000_000.0
        self.places: dict[str, Place] = {}
        self.routes: dict[str, Route] = {}
        self.crash_at: tuple[int, str] | None = None
        """Die at the effect of this number, ``before`` or ``after`` it: for the exhaustive test."""
        self.effects = 0
        self.crashed = False
        self.died: set[str] = set()
        """Clusters whose scheduler ended by itself."""
        self.answers: dict[tuple[str, int], tuple[float, float | None]] = {}
        """By cluster and question: when its agent answered it last, and for how long nothing had run then."""
        self.dead_workers: set[tuple[str, str]] = set()
        """Workers that ended by themselves, with their clusters."""
        self.interrupt: Callable[[], None] | None = None
        """Lets users and agents act between two steps of a pass."""
        self.passing: Callable[[float], None] = lambda seconds: None
        """Is told of every stretch of time, before it passes."""
        self._lie = lie
        self._answer: Seen | None = None
        self._looks: list[tuple[float, dict[str, Seen]]] = []
        self._late: list[tuple[int, Callable[[], object]]] = []

    # -- time and mishaps --------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Return the time."""
        return self.now

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens now."""
        return probability > 0 and self.random.random() < probability

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.passing(seconds)
        self.now += seconds

    def maybe_crash(self, when: str) -> None:
        """Kill control here, perhaps."""
        self.pass_time(0.001)
        if self.interrupt is not None and self.chance(self.chances.interrupt):
            self.interrupt()
        if when == "before":
            self.effects += 1
        planned = self.crash_at == (self.effects, when) and not self.crashed
        if planned or (not self.crashed and self.chance(self.chances.crash / 2)):
            self.crashed = True
            raise Crash

    def _effect(self, do: Callable[[], object], *, may_be_late: bool = True) -> None:
        """Do something to the engine, dying before it, after it, or while the engine goes on with it alone."""
        self.maybe_crash("before")
        if self.chance(self.chances.busy):
            raise Busy("cannot do it now")
        if may_be_late and self.chance(self.chances.crash * self.chances.late):
            self._late.append((self.random.randint(1, 25), do))
            self.crashed = True
            raise Crash
        do()
        self.maybe_crash("after")

    def step(self) -> None:
        """Let the engine go on by one step: queued processes start, stopped ones end, some die."""
        self.pass_time(self.random.random())
        due = [do for left, do in self._late if left <= 1]
        self._late = [(left - 1, do) for left, do in self._late if left > 1]
        for do in due:
            do()
        for name, place in self.places.items():
            self._step_use(place)
            for process in place.processes:
                self._step_process(name, place, process)
        self._looks.append((self.now, self._see_all()))
        del self._looks[: -self.chances.lag]

    def _step_use(self, place: Place) -> None:
        if self.chance(self.chances.work_changes):
            place.idle_since = self.now if place.idle_since is None else None
        if self.chance(self.chances.clients_change):
            place.clients = 0 if place.clients else 1
            place.clientless_since = self.now

    def rest(self, name: str) -> None:
        """Let nothing run on a cluster from now on."""
        self.places[name].idle_since = self.now

    def leave(self, name: str) -> None:
        """Let no client be connected to a cluster from now on."""
        self.places[name].clients, self.places[name].clientless_since = 0, self.now

    def _step_process(self, name: str, place: Place, process: Process) -> None:
        if not process.alive:
            return
        if process.stopping:
            if self.chance(self.chances.speed):
                process.state, process.expected = ProcessState.EXITED, True
        elif process.state is ProcessState.QUEUED:
            if self.chance(self.chances.speed):
                process.state = ProcessState.RUNNING
        elif process is place.scheduler:
            if self.chance(self.chances.scheduler_dies):
                process.state = ProcessState.EXITED
                self.died.add(name)
        elif self.chance(self.chances.worker_dies):
            process.state = ProcessState.EXITED
            self.dead_workers.add((name, process.name))

    @property
    def settled(self) -> bool:
        """Whether nothing is on its way in the engine."""
        moving = (p.stopping or p.state is ProcessState.QUEUED for p in self.all_processes() if p.alive)
        return not self._late and not any(moving)

    def all_processes(self) -> list[Process]:
        """Return every process of every cluster."""
        return [p for place in self.places.values() for p in place.processes]

    def kill_a_worker(self, name: str) -> None:
        """Let the first worker that runs end by itself."""
        worker = next(p for p in self.places[name].workers.values() if p.state is ProcessState.RUNNING)
        worker.state = ProcessState.EXITED
        self.dead_workers.add((name, worker.name))

    def set_load(self, name: str, workers: int) -> None:
        """Let the load of a cluster ask for so many workers."""
        self.places[name].demand = workers

    def answer_once(self, seen: Seen) -> None:
        """Answer the next look with this."""
        self._answer = seen

    def alive(self, name: str) -> list[str]:
        """Return the names of what runs of one cluster."""
        place = self.places.get(name)
        return [p.name for p in place.processes if p.alive] if place else []

    # -- the backend -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to let go of."""

    def options(self) -> Sequence[object]:
        """Return no options."""
        return ()

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Return the spec."""
        return spec

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Return the size of this world."""
        return Capacity(MAX_WORKERS, "the world is small")

    async def launch(self, launch: Launch) -> None:
        """Start a scheduler."""
        self._effect(lambda: self._start_scheduler(launch.cluster, launch.attempt))

    def _start_scheduler(self, name: str, attempt: int) -> None:
        place = self.places.get(name)
        if place is None:
            self.places[name] = Place(attempt, Process("scheduler"), port=8000 + len(self.places))
        else:
            assert place.attempt == attempt, "launched under another attempt"

    async def start_workers(self, launch: Launch, scheduler: str, names: Sequence[str]) -> None:
        """Start workers."""
        place = self.places[launch.cluster]
        assert scheduler == f"tls://{HOST}:{place.port}"

        def start() -> None:
            for name in names:
                place.workers.setdefault(name, Process(name))

        self._effect(start)

    async def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """Stop workers."""

        def stop() -> None:
            workers = self.places[cluster].workers if cluster in self.places else {}
            for name in names:
                if name in workers:
                    workers[name].stopping = True

        self._effect(stop)

    async def stop(self, cluster: str) -> None:
        """Stop everything."""

        def stop() -> None:
            if cluster in self.places:
                for process in self.places[cluster].processes:
                    process.stopping = True

        self._effect(stop)

    async def observe(self, clusters: Collection[str]) -> Mapping[str, Seen]:
        """Look, perhaps with an old look, perhaps not at all."""
        if self.chance(self.chances.blind):
            raise BackendFailed("cannot look")
        if self._answer is not None:
            answer, self._answer = self._answer, None
            return dict.fromkeys(clusters, answer)
        at, seen = self.now, None
        if self._looks and self.chance(self.chances.stale):
            at, seen = self.random.choice(self._looks)
        seen = seen if seen is not None else self._see_all()
        if self._lie:
            # What the staleness rule rests on is broken: an old look passes for a new one.
            at = self.now
        self.pass_time(0.001)
        return {name: self._dated(seen.get(name), at) for name in clusters}

    def _dated(self, seen: Seen | None, at: float) -> Seen:
        if seen is None:
            return Seen(at=at)
        return Seen(at=at, scheduler=seen.scheduler, workers=seen.workers, remains=seen.remains)

    def _see_all(self) -> dict[str, Seen]:
        return {name: self._see(place) for name, place in self.places.items()}

    def _see(self, place: Place) -> Seen:
        def look(process: Process) -> ProcessSeen:
            host = HOST if process.state is ProcessState.RUNNING else ""
            return ProcessSeen(process.state, host=host, why="it ended", expected=process.expected)

        return Seen(
            at=self.now,
            scheduler=look(place.scheduler),
            workers={n: look(p) for n, p in place.workers.items()},
            remains=any(p.alive for p in place.processes),
        )

    async def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Agents tell the truth in this world."""
        return True

    async def list_clusters(self) -> set[str]:
        """Return the clusters of which anything runs."""
        return {name for name, place in self.places.items() if any(p.alive for p in place.processes)}

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return what the scheduler wrote."""
        return [Log("scheduler", "the last line")]

    async def forget(self, cluster: str) -> None:
        """Forget a cluster that has ended."""

    async def changes(self) -> AsyncIterator[str]:
        """Hear nothing."""
        return
        yield

    # -- the proxies -------------------------------------------------------------------------------------------------

    async def put(self, route: Route) -> None:
        """Open a way."""
        self._effect(lambda: self.routes.__setitem__(route.name, route), may_be_late=False)

    async def delete(self, name: str) -> None:
        """Close a way."""
        self._effect(lambda: self.routes.pop(name, None), may_be_late=False)

    def open_ways(self) -> set[str]:
        """Return the clusters to which a way is open."""
        return set(self.routes)

    def connections(self, name: str) -> int | None:
        """Return how many clients are connected, if the proxies are there to tell."""
        return None if self.chance(self.chances.blind) else self.places[name].clients

    # -- the agents --------------------------------------------------------------------------------------------------

    def report_of(self, name: str) -> Report | None:
        """Return what the agent of this cluster would report now, None if it does not run."""
        place = self.places[name]
        if place.scheduler.state is not ProcessState.RUNNING or place.scheduler.stopping:
            return None
        surplus = place.registered()[place.wanted :]
        for worker in surplus:
            # The agent has moved its results away and closes it.
            place.retired.add(worker)
            place.workers[worker].stopping = True
        facts = SchedulerFacts(place.attempt, place.port, 8787)
        if self.chance(self.chances.load_changes):
            place.demand = self.random.randint(0, MAX_WORKERS + 2)
        demand = {"default": place.demand}
        registered, retired = frozenset(place.registered()), frozenset(place.retired)
        idle = None if place.idle_since is None else self.now - place.idle_since
        self.answers[name, place.question] = (self.now, idle)
        return Report(facts, registered, retired, demand, idle, place.question)

    def hear_wanted(self, name: str, wanted: Wanted) -> None:
        """Tell the agent what is wanted."""
        place = self.places[name]
        if wanted.exit:
            place.scheduler.stopping = True
        else:
            place.wanted = wanted.groups["default"][0]
            place.question = wanted.question
