"""What users do, each with the real client and a result that can be checked.

An operation works on a ``Subject``: a cluster and its user. It raises what the user would see. What it leaves behind
(``subject.workers``: how many the cluster must settle at) is judged by ``invariants.py``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from tests.support import eventually_sync
from tidegate import Gateway

WORKERS_SECONDS = 60.0
"""In which workers must have come, or gone."""
RESULT_SECONDS = 60.0
"""In which a computation of two seconds must have a result."""

SHAPE = {"worker_cores": 1, "worker_memory": 0.5}
"""Small, for there are many."""


@dataclass
class Subject:
    """A cluster of a round, and what its user has of it."""

    user: Gateway
    names: list[str] = field(default_factory=list)
    """Every cluster that the API granted."""
    cluster: Any = None
    client: Client | None = None
    workers: tuple[int, int] = (0, 0)
    """The fewest and the most workers that it may settle at."""
    ends: bool = False
    """Whether its user has asked for its end."""
    held: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The cluster; empty while there is none."""
        return self.names[-1] if self.names else ""

    def create(self, workers: int) -> None:
        """Have a cluster of this size, with a client."""
        self.names.append(self.user.submit(**SHAPE))
        self.cluster = self.user.connect(self.name)
        self.scale(workers)
        self.client = self.cluster.get_client(set_as_default=False)

    def scale(self, workers: int) -> None:
        """Ask for a size, and wait until it is there."""
        self.workers = (workers, workers)
        self.cluster.scale(workers)
        if workers:
            self.cluster.wait_for_workers(workers, timeout=WORKERS_SECONDS)

    def close(self) -> None:
        """Let go of client and cluster object; the cluster goes on."""
        if self.client is not None:
            self.client.close(timeout=5)
        if self.cluster is not None:
            self.cluster.close(shutdown=False)


@dataclass(frozen=True)
class Operation:
    """Something that a user does.

    Parameters
    ----------
    name : str
    span : float
        Seconds within which it is disturbed: about what it takes by itself.
    run : callable
        Does it.
    workers : int
        How many the cluster has before.
    prepare : callable, optional
        What else is made ready.
    """

    name: str
    span: float
    run: Callable[[Subject], None]
    workers: int | None = 1
    prepare: Callable[[Subject], None] = lambda _: None

    def make_ready(self, subject: Subject) -> None:
        """Bring the subject to where the operation begins."""
        if self.workers is not None:
            subject.create(self.workers)
        self.prepare(subject)


def create(subject: Subject) -> None:
    """Ask for a cluster with one worker, and use it."""
    subject.create(1)
    check_computes(subject)


def scale_up(subject: Subject) -> None:
    """From one worker to four."""
    subject.scale(4)


def hold_results(subject: Subject) -> None:
    """Have results on all workers."""
    assert subject.client is not None
    subject.held = subject.client.map(_square, range(40), pure=False)


def scale_down(subject: Subject) -> None:
    """From three workers to one; what the others hold is not lost."""
    assert subject.client is not None
    subject.scale(1)
    eventually_sync(lambda: _has_one_worker(subject), WORKERS_SECONDS, "two workers are gone")
    assert sum(subject.client.gather(subject.held)) == sum(n * n for n in range(40)), "a wrong result"


def _has_one_worker(subject: Subject) -> bool:
    report = subject.user.get_cluster(subject.name)
    if not report.status.usable:
        raise report.end_error("scale")
    return bool(report.workers == 1 and report.starting == 0)


def adapt(subject: Subject) -> None:
    """From no worker at all to as many as the load asks for."""
    assert subject.client is not None
    subject.workers = (0, 3)
    subject.cluster.adapt(minimum=0, maximum=3)
    futures = subject.client.map(_slow_square, range(20), pure=False)
    assert sum(subject.client.gather(futures)) == sum(n * n for n in range(20)), "a wrong result"


def compute(subject: Subject) -> None:
    """A tree of sums over chunks that move between the workers."""
    assert subject.client is not None
    client = subject.client
    layer = client.map(_chunk, range(32), pure=False)
    while len(layer) > 1:
        layer = client.map(_add, layer[::2], layer[1::2], pure=False)
    total = layer[0].result(timeout=RESULT_SECONDS)
    assert total == bytes([sum(range(32)) % 251]) * CHUNK, "a wrong result"


def shut_down(subject: Subject) -> None:
    """End the cluster."""
    subject.ends = True
    subject.cluster.shutdown()


OPERATIONS = (
    Operation("create", 2.0, create, workers=None),
    Operation("scale up", 1.0, scale_up),
    Operation("scale down", 1.0, scale_down, workers=3, prepare=hold_results),
    Operation("adapt", 2.0, adapt, workers=0),
    Operation("compute", 2.0, compute, workers=2),
    Operation("shut down", 0.12, shut_down, workers=2),
)


def check_computes(subject: Subject) -> None:
    """Raise if the cluster cannot be used."""
    assert subject.client is not None
    assert subject.client.submit(operator.pow, 3, 4, pure=False).result(timeout=RESULT_SECONDS) == 81


# -- tasks: by value, since a worker cannot import this file ---------------------------------------------------------

CHUNK = 100_000
"""Bytes in a chunk: large enough to be moved between workers as data is."""


def _by_value(task: Callable[..., Any]) -> Callable[..., Any]:
    # What belongs to no module is sent whole.
    task.__module__ = "__main__"
    return task


@_by_value
def _square(number: int) -> int:
    return number * number


@_by_value
def _slow_square(number: int) -> int:
    import time

    time.sleep(0.1)
    return number * number


@_by_value
def _chunk(number: int, size: int = CHUNK) -> bytes:
    import time

    time.sleep(0.08)
    return bytes([number]) * size


@_by_value
def _add(left: bytes, right: bytes) -> bytes:
    import time

    time.sleep(0.02)
    return bytes([(left[0] + right[0]) % 251]) * len(left)
