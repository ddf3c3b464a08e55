"""An engine without processes: what the machine is to the local backend, this is to the simulated one.

How to think about it
---------------------
A ``Simulation`` outlives the backends that look at it, and several may look. What it does, and how long it takes, is
scripted (``Script``). Time is whatever its clock says; with a ``ManualClock`` it moves when a test says so.

There is no agent in a simulated scheduler. A test plays its part with ``Simulation.registered`` (the workers that a
scheduler would report) and ``Simulation.retire``, told by ``on_change`` when to look.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from tidegate.model.errors import BackendFailed, TidegateError
from tidegate.model.observation import ProcessSeen, ProcessState, Seen

SCHEDULER = "scheduler"
HOST = "127.0.0.1"
LOG_LINES = 1000
"""Lines kept of a simulated log."""


class ManualClock:
    """A clock that moves when it is told to. Call it for the time."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class Script:
    """What the engine does. All delays in seconds; may be changed at any time, for what begins afterwards.

    Parameters
    ----------
    queue_delay : float
        For how long schedulers and workers are QUEUED before they run.
    start_delay : float
        How long it then takes a scheduler until it reports, and a worker until it is registered.
    stop_delay : float
        How long something remains of a cluster after ``stop``.
    scheduler_error : str
        If not empty, schedulers cannot start, and this is why.
    worker_error : callable
        Given a worker's name, returns why it cannot start; an empty string lets it start.
    refusal : TidegateError or None
        If set, every effect raises it.
    max_workers : int
        What ``capacity`` says.
    foreign_ports : frozenset of int
        The ports of the host on which something else listens than the scheduler that names them.
    """

    queue_delay: float = 0.0
    start_delay: float = 0.0
    stop_delay: float = 0.0
    scheduler_error: str = ""
    worker_error: Callable[[str], str] = lambda name: ""
    refusal: TidegateError | None = None
    max_workers: int = 1000
    foreign_ports: frozenset[int] = frozenset()


@dataclass
class _Process:
    seen: ProcessSeen
    up: bool = False
    log: list[str] = field(default_factory=list)

    @property
    def exited(self) -> bool:
        return self.seen.state is ProcessState.EXITED


@dataclass
class _Place:
    attempt: int
    processes: dict[str, _Process] = field(default_factory=dict)
    remains: bool = True


class Simulation:
    """The engine: what runs, what will happen, and what a test makes happen."""

    def __init__(self, clock: Callable[[], float] = time.time, script: Script | None = None) -> None:
        self.clock = clock
        self.script = script or Script()
        self.on_change: list[Callable[[str], None]] = []
        self._places: dict[str, _Place] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._moment: float | None = None

    # -- for tests -----------------------------------------------------------------------------------------------------

    def settle(self) -> float | None:
        """Let happen what is due, and return in how many seconds the next thing is, None if nothing is."""
        while self._due and self._due[0][0] <= self.clock():
            # What follows from it follows from when it was due, not from when somebody looked.
            self._moment, _, happen = heapq.heappop(self._due)
            happen()
            self._moment = None
        return max(0.0, self._due[0][0] - self.clock()) if self._due else None

    def registered(self, cluster: str) -> frozenset[str] | None:
        """Return the workers that the cluster's scheduler has; None if no scheduler is up to report."""
        self.settle()
        place = self._places.get(cluster)
        if place is None or SCHEDULER not in place.processes or not place.processes[SCHEDULER].up:
            return None
        return frozenset(name for name, process in place.processes.items() if process.up and name != SCHEDULER)

    def attempt(self, cluster: str) -> int:
        """Return the attempt of the cluster's launch."""
        return self._places[cluster].attempt

    def kill(self, cluster: str, process: str = SCHEDULER, why: str = "signal 9 (SIGKILL) ended its process") -> None:
        """End a process as nobody wanted. Workers do not outlive their scheduler."""
        self._exit(cluster, process, "killed", why)
        if process == SCHEDULER:
            for name in self._living(cluster):
                self._exit(cluster, name, "exited", "the scheduler ended")

    def retire(self, cluster: str, *workers: str) -> None:
        """End workers as the scheduler does when it has too many."""
        for name in workers:
            self._exit(cluster, name, "exited", "the scheduler closed it")

    def write(self, cluster: str, process: str, line: str) -> None:
        """Append a line to the log of a process."""
        log = self._places[cluster].processes[process].log
        log.append(line)
        del log[:-LOG_LINES]

    # -- what backends do ----------------------------------------------------------------------------------------------

    def launch(self, cluster: str, attempt: int) -> None:
        """Start a scheduler, unless this attempt or a later one was started."""
        place = self._places.get(cluster)
        if place is not None and place.attempt >= attempt:
            return
        self._places[cluster] = _Place(attempt)
        self._begin(cluster, SCHEDULER, self.script.scheduler_error)

    def start_workers(self, cluster: str, names: Sequence[str]) -> None:
        """Start those of these workers that were never started."""
        place = self._places.get(cluster)
        if place is None or SCHEDULER not in self._living(cluster):
            raise BackendFailed(f"cannot start workers of the cluster {cluster}: its scheduler does not run")
        for name in names:
            if name not in place.processes:
                self._begin(cluster, name, self.script.worker_error(name))

    def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """End workers as asked."""
        for name in names:
            self._exit(cluster, name, "exited", "it was asked to stop", expected=True)

    def stop(self, cluster: str) -> None:
        """End everything as asked; it takes ``stop_delay``."""
        if cluster in self._places:
            self._later(self.script.stop_delay, lambda: self._end(cluster))

    def forget(self, cluster: str) -> None:
        """Drop the traces."""
        self._places.pop(cluster, None)

    def look(self, cluster: str, at: float) -> Seen:
        """Return what is there."""
        place = self._places.get(cluster)
        if place is None:
            return Seen(at)
        workers = {name: process.seen for name, process in place.processes.items()}
        return Seen(at, workers.pop(SCHEDULER, None), workers, place.remains)

    def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Return whether the cluster's scheduler could listen on these ports."""
        if cluster not in self._places or SCHEDULER not in self._living(cluster):
            raise BackendFailed(f"cannot tell where the cluster {cluster} listens: its scheduler does not run")
        return self.script.foreign_ports.isdisjoint(ports)

    def remaining(self) -> set[str]:
        """Return the clusters of which something remains."""
        return {name for name, place in self._places.items() if place.remains}

    def logs(self, cluster: str) -> dict[str, list[str]]:
        """Return the lines of each log, the scheduler's first."""
        place = self._places.get(cluster)
        return {name: list(process.log) for name, process in place.processes.items()} if place else {}

    def _begin(self, cluster: str, name: str, error: str) -> None:
        process = _Process(ProcessSeen(ProcessState.QUEUED, why="it waits in the queue", host=HOST))
        place = self._places[cluster]
        place.processes[name] = process
        self.write(cluster, name, f"{name} starts")

        def run() -> None:
            if process.exited:
                return
            process.seen = ProcessSeen(ProcessState.RUNNING, host=HOST)
            if error:
                self.write(cluster, name, error)
                self._exit(cluster, name, "cannot-start", error)
            else:
                self._later(self.script.start_delay, come_up)

        def come_up() -> None:
            if not process.exited and self._places.get(cluster) is place:
                process.up = True
                self._tell(cluster)

        self._later(self.script.queue_delay, run)
        self._tell(cluster)

    def _exit(self, cluster: str, name: str, code: str, why: str, *, expected: bool = False) -> None:
        place = self._places.get(cluster)
        process = place.processes.get(name) if place else None
        if process is None or process.exited:
            return
        tail = "" if expected else "\n".join(process.log[-30:])
        process.seen = ProcessSeen(ProcessState.EXITED, why, code, HOST, tail, expected)
        process.up = False
        self._tell(cluster)

    def _end(self, cluster: str) -> None:
        for name in self._living(cluster):
            self._exit(cluster, name, "exited", "the cluster was stopped", expected=True)
        if cluster in self._places:
            self._places[cluster].remains = False
            self._tell(cluster)

    def _living(self, cluster: str) -> list[str]:
        return [name for name, process in self._places[cluster].processes.items() if not process.exited]

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        if seconds <= 0:
            happen()
        else:
            now = self.clock() if self._moment is None else self._moment
            heapq.heappush(self._due, (now + seconds, next(self._order), happen))
            self._tell("")  # Whoever waits for the next thing may have to wait for less.

    def _tell(self, cluster: str) -> None:
        for listener in list(self.on_change):
            listener(cluster)
