"""What was used: metered from what ran, by cluster, user, group and day.

How to think about it
---------------------
* What runs uses at a **rate** (``rate_of``), a pure function of the record: the workers that the scheduler has or had
  until they have ended, and the scheduler, as far as it was given a size. What is only asked for uses nothing.
* The rate of a cluster changes only when its record does. So the books are kept there: the store, in the transaction
  that changes the rate, books what was used at the old one since the last such moment, and notes the moment
  (``metered_at``). No timer counts, and a gateway that was killed, or was away for a day, has missed nothing.
* What runs *now* is added when the books are read: the rate, for the time since that moment.
* Days begin at midnight UTC, and are numbered from 1970-01-01 on: a second belongs to one of them.

What costs what is the cluster's own (``Cluster.prices``), so what was booked stays as it was when prices change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum

from tidegate.model.cluster import Cluster, ClusterState, Worker, WorkerState

DAY_SECONDS = 86400
HOUR_SECONDS = 3600.0
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Use:
    """How much was used: cores, GiB of memory and GPUs, each times seconds, and what that cost."""

    core_seconds: float = 0.0
    gib_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.core_seconds + other.core_seconds,
            self.gib_seconds + other.gib_seconds,
            self.gpu_seconds + other.gpu_seconds,
            self.cost + other.cost,
        )

    def __mul__(self, factor: float) -> Use:
        return Use(self.core_seconds * factor, self.gib_seconds * factor, self.gpu_seconds * factor, self.cost * factor)


NOTHING = Use()


# -- metering ----------------------------------------------------------------------------------------------------------


def rate_of(cluster: Cluster, workers: int | None = None) -> Use:
    """Return what a cluster uses in one second, as its record stands.

    ``workers`` is how many run, where somebody has counted that without loading them.
    """
    spec, prices = cluster.spec, cluster.prices
    count = sum(map(runs, cluster.workers)) if workers is None else workers
    has_scheduler = cluster.started_at is not None and cluster.state in (ClusterState.RUNNING, ClusterState.STOPPING)
    cores = count * spec.worker_cores + has_scheduler * spec.scheduler_cores
    gib = (count * spec.worker_memory + has_scheduler * spec.scheduler_memory) / GIB
    gpus = float(count * spec.worker_gpus)
    hourly = cores * prices.core_hour + gib * prices.gib_hour + gpus * prices.gpu_hour
    return Use(cores, gib, gpus, hourly / HOUR_SECONDS)


def runs(worker: Worker) -> bool:
    """Whether a worker uses anything."""
    # One that is let go holds what it has until nothing of it is left; one that never came to run has nothing.
    let_go = worker.state is WorkerState.STOPPING and worker.started_at is not None
    return worker.state is WorkerState.RUNNING or let_go


def split(rate: Use, since: float, until: float) -> Iterator[tuple[int, Use]]:
    """Yield what is used at ``rate`` between two times (seconds since the epoch), day by day.

    A clock that was set back (``until`` before ``since``) has used nothing.
    """
    while since < until:
        day = int(since // DAY_SECONDS)
        end = min(until, float((day + 1) * DAY_SECONDS))
        if rate != NOTHING:
            yield day, rate * (end - since)
        since = end


# -- reading the books -------------------------------------------------------------------------------------------------


class Dimension(str, Enum):
    """By what use can be told apart."""

    DAY = "day"
    USER = "user"
    GROUP = "group"
    """A cluster counts for every group that its owner was in when they made it: groups do not add up to the whole."""
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Line:
    """What was used, and by whom; what it is not told apart by is None.

    Parameters
    ----------
    use : Use
    day : int or None
        Days since 1970-01-01.
    user, group, cluster : str or None
    alias : str
        What the owner called the cluster.
    groups : tuple of str
        All groups of the owner, before they are told apart.
    """

    use: Use
    day: int | None = None
    user: str | None = None
    group: str | None = None
    cluster: str | None = None
    alias: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """Which use somebody wants to read, and by what told apart.

    Parameters
    ----------
    since, until : int
        The first and the last day.
    by : frozenset of Dimension
    user, group, cluster : str or None
        Only of that one; None for all.
    """

    since: int
    until: int
    by: frozenset[Dimension] = frozenset()
    user: str | None = None
    group: str | None = None
    cluster: str | None = None

    @property
    def needs_groups(self) -> bool:
        """Whether lines must be told apart by their owners' groups, as long as they are read."""
        return self.group is not None or Dimension.GROUP in self.by


@dataclass(frozen=True, slots=True)
class Books:
    """The answer: lines in the order of what they are told apart by, and what was used in all."""

    lines: Sequence[Line]
    total: Use


def running_lines(cluster: Cluster, metered_at: float | None, now: float, workers: int | None = None) -> Iterator[Line]:
    """Yield what a cluster has used since it was last booked, day by day; ``workers`` as in ``rate_of``."""
    if metered_at is None:
        return
    for day, use in split(rate_of(cluster, workers), metered_at, now):
        yield Line(use, day, cluster.owner, None, cluster.name, cluster.alias, cluster.owner_groups)


def summarise(lines: Iterable[Line], query: Query) -> Books:
    """Return what fits the query, added up by its dimensions."""
    chosen = [line for line in lines if _fits(line, query)]
    total = sum((line.use for line in chosen), NOTHING)
    if Dimension.GROUP in query.by:
        groups = None if query.group is None else {query.group}
        chosen = [replace(line, group=group) for line in chosen for group in _told_apart(line, groups)]
    sums: dict[Hashable, Line] = {}
    for line in chosen:
        key = tuple(value(line) for dimension, value in _VALUES.items() if dimension in query.by)
        before = sums.get(key)
        sums[key] = _only(line, query.by) if before is None else replace(before, use=before.use + line.use)
    return Books(sorted(sums.values(), key=_order), total)


def _fits(line: Line, query: Query) -> bool:
    # What a line does not tell was asked for when it was read.
    return (
        (line.day is None or query.since <= line.day <= query.until)
        and (line.user is None or query.user in (None, line.user))
        and (line.cluster is None or query.cluster in (None, line.cluster))
        and (query.group is None or query.group in line.groups)
    )


def _told_apart(line: Line, groups: Collection[str] | None) -> Collection[str]:
    """Return the groups that a line counts for, of these; an owner without any is in the group without a name."""
    return [group for group in line.groups if groups is None or group in groups] or [""]


_VALUES: dict[Dimension, Callable[[Line], Hashable]] = {
    Dimension.DAY: lambda line: line.day,
    Dimension.USER: lambda line: line.user,
    Dimension.GROUP: lambda line: line.group,
    Dimension.CLUSTER: lambda line: line.cluster,
}


def _only(line: Line, by: Collection[Dimension]) -> Line:
    """Return ``line`` without what is not told apart; a cluster tells its owner."""
    names_cluster = Dimension.CLUSTER in by
    return Line(
        line.use,
        day=line.day if Dimension.DAY in by else None,
        user=line.user if Dimension.USER in by or names_cluster else None,
        group=line.group if Dimension.GROUP in by else None,
        cluster=line.cluster if names_cluster else None,
        alias=line.alias if names_cluster else "",
    )


def _order(line: Line) -> tuple[int, str, str, str]:
    return line.day or 0, line.user or "", line.group or "", line.cluster or ""


USE_FIELDS = tuple(field.name for field in fields(Use))
