"""What loads give back while others wait: the fair sizes of adaptive clusters.

How to think about it
---------------------
* Suppose that all that loads have were handed out anew, one worker at a time, each to whoever has least and wants
  more, while limits leave room for it (progressive filling). What comes of it is **max-min fair**: nobody could have
  more but at the cost of one who has no more than they. *Least* is measured by owner, as their part of all that is
  wanted, of the resource of which it is the largest, divided by the weight of their group (dominant resource fairness,
  Ghodsi et al., NSDI 2011); and between the clusters of one owner by cluster.
* Nothing is taken from a size that was set by hand, nor below the minimum that somebody gave a load: these are what
  everybody begins with. Who stands in line takes part with what they wait for.
* **It does not flap**, since what is fair follows from what is asked for and from limits, and not from who has it at
  the moment. Who has their fair size is asked for nothing, however long others wait; nobody grows beyond theirs while
  others want theirs. And nothing is taken until somebody has waited for ``SETTLE`` in vain.

A cluster that is to give workers back gets a lower wanted size (``give_back``): its agent retires as many, and Dask
moves their results first. What its load asks for stays on record, so it gets them back when there is room again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tidegate.model.amounts import NOTHING, ROUNDING, Amounts
from tidegate.model.cluster import Cluster, ClusterState, Target, WorkerGroup
from tidegate.model.event import Event
from tidegate.model.limits import Limit, Scope, cluster_base, group_holdings, scopes_of, worker_shape
from tidegate.model.line import is_waiting, line_up, part_of, weight_of
from tidegate.model.policy import Capacity
from tidegate.model.workers import workers_event

SETTLE = 15.0
"""Seconds for which somebody must have waited before others give back for them. Less would have workers go, and their
data move, for a peak that is over before they are gone; a worker takes some seconds to come and to go."""

ROUNDS = 2000
"""Into about so many parts it is divided what is handed out: one worker at a time up to so many workers, beyond that by
twos and threes, or a pass for a hundred thousand would take a second."""

NO_WORKERS: Mapping[str, int] = {}

LimitsOf = Callable[[str, Collection[str]], Sequence[Limit]]
"""From an owner and their groups to the limits that hold for their clusters."""


@dataclass(frozen=True, slots=True)
class FairSize:
    """The fair size of one group, where it is less than what is asked for.

    Parameters
    ----------
    cluster, group : str
    workers : int
        How many are fair.
    limit : Limit
        What leaves no room for more.
    """

    cluster: str
    group: str
    workers: int
    limit: Limit

    @property
    def capacity(self) -> Capacity:
        """It as a bound, with the reason."""
        return Capacity(self.workers, f"the limit is {self.limit.tell()}, and what is there is shared with others")


class _Claim:
    """What one group wants, and what it was given so far."""

    def __init__(self, cluster: Cluster, group: WorkerGroup, begin: int, demand: int, held: int, weight: float) -> None:
        self.cluster, self.group, self.weight = cluster, group, weight
        self.given, self.demand, self.held, self.step = begin, demand, held, 1
        self.unit = worker_shape(cluster.spec)
        self.base = cluster_base(cluster.spec) if cluster.queued else NOTHING
        self.obstacle: Limit | None = None

    @property
    def waits(self) -> bool:
        """Whether it has less than it is now given."""
        return self.held < self.given or (self.cluster.queued and self.base is NOTHING)

    def next(self) -> tuple[int, Amounts]:
        """Return how many workers come next, and what they take; for one that is not let in yet that comes first."""
        if self.base is not NOTHING:
            return 0, self.base
        count = min(self.step, self.demand - self.given)
        return count, self.unit * count

    def take(self, count: int) -> bool:
        """Count what came; return whether more is wanted."""
        self.base, self.given = NOTHING, self.given + count
        return self.given < self.demand


class Sharing:
    """The fair sizes of all groups at a moment.

    Parameters
    ----------
    active : iterable of Cluster
        All that have not ended.
    limits_of : callable
        Tells which limits hold for whom.
    weights : mapping of str to float
        Of groups.
    frozen : collection of str
        Clusters that get nothing more, whatever they ask for: their budget is spent.
    """

    def __init__(
        self,
        active: Iterable[Cluster],
        limits_of: LimitsOf,
        weights: Mapping[str, float],
        frozen: Collection[str] = (),
    ) -> None:
        clusters = [cluster for cluster in active if not cluster.state.ended]
        owners = {(c.owner, c.owner_groups) for c in clusters}
        self._limits = {owner: limits_of(*owner) for owner in owners}
        self._used: dict[Scope, Amounts] = {}
        self._by_owner: dict[str, Amounts] = {}
        self._by_cluster: dict[str, Amounts] = {}
        self._claims = [c for cluster in clusters for c in self._begin(cluster, weights, cluster.name in frozen)]
        wanted = (c.unit * (c.demand - c.given) + c.base for c in self._claims)
        self._whole = sum((*self._by_owner.values(), *wanted), NOTHING)
        self._fill()

    def sizes(self) -> list[FairSize]:
        """Return the fair size of each group whose load asks for more than that."""
        return [
            FairSize(c.cluster.name, c.group.name, c.given, c.obstacle)
            for c in self._claims
            if c.group.adaptive is not None and c.obstacle is not None
        ]

    def to_give_back(self, now: float) -> list[FairSize]:
        """Return the fair size of each group that is to get smaller: others have waited, for what it has too much."""
        places: set[tuple[Scope, str]] = set()
        for claim in self._claims:
            waiting = claim.cluster.waiting
            if claim.waits and waiting is not None and is_waiting(claim.cluster) and now - waiting.since >= SETTLE:
                needs = claim.unit + (cluster_base(claim.cluster.spec) if claim.cluster.queued else NOTHING)
                places |= {(limit.scope, limit.resource.value) for limit in self._of(claim.cluster, needs)}
        wanted = {(c.cluster.name, c.group.name): c for c in self._claims}
        over = []
        for size in self.sizes():
            claim = wanted[size.cluster, size.group]
            shared = {(limit.scope, limit.resource.value) for limit in self._of(claim.cluster, claim.unit)}
            if claim.group.wanted > size.workers and shared & places:
                over.append(size)
        return over

    def _begin(self, cluster: Cluster, weights: Mapping[str, float], is_frozen: bool) -> Iterator[_Claim]:
        """Count what a cluster keeps whatever others want, and yield what it may have besides."""
        kept, weight = NOTHING if cluster.queued else cluster_base(cluster.spec), weight_of(cluster, weights)
        held = NO_WORKERS if cluster.queued else group_holdings(cluster)
        for group in cluster.groups:
            begin = held.get(group.name, 0)
            asked = group.wanted if cluster.queued or is_frozen else max(group.wanted, group.asked or 0)
            if group.adaptive is not None and _is_running(cluster):
                begin = min(group.adaptive.minimum, group.wanted)
                yield _Claim(cluster, group, begin, asked, group.wanted, weight)
            elif is_waiting(cluster) and not (is_frozen or _waits_in_vain(cluster)):
                yield _Claim(cluster, group, begin, max(begin, asked), begin, weight)
            kept += worker_shape(cluster.spec) * begin
        self._count(cluster, kept)

    def _count(self, cluster: Cluster, more: Amounts) -> None:
        for scope in scopes_of(cluster.owner, cluster.owner_groups):
            self._used[scope] = self._used.get(scope, NOTHING) + more
        self._by_owner[cluster.owner] = self._by_owner.get(cluster.owner, NOTHING) + more
        self._by_cluster[cluster.name] = self._by_cluster.get(cluster.name, NOTHING) + more

    def _of(self, cluster: Cluster, more: Amounts) -> list[Limit]:
        """Return the limits of which it would take more."""
        limits = self._limits[cluster.owner, cluster.owner_groups]
        return [limit for limit in limits if more.of(limit.resource) > 0]

    def _fill(self) -> None:
        """Hand out what is wanted, each time to whoever has least."""
        step = max(1, sum(c.demand - c.given for c in self._claims) // ROUNDS)
        heap = []
        for number, claim in enumerate(self._claims):
            claim.step = step
            heap.append((self._rank(claim), number))
        heapq.heapify(heap)
        while heap:
            rank, number = heap[0]
            claim = self._claims[number]
            if rank != (now := self._rank(claim)):
                heapq.heapreplace(heap, (now, number))  # its owner has been given something since
            elif self._give(claim):
                heapq.heapreplace(heap, (self._rank(claim), number))
            else:
                heapq.heappop(heap)

    def _give(self, claim: _Claim) -> bool:
        """Give what comes next, if there is room for it; return whether there is more to give."""
        count, more = claim.next()
        obstacle = self._obstacle(claim.cluster, more)
        if obstacle is None:
            self._count(claim.cluster, more)
            return claim.take(count)
        if count > 1:
            claim.step = count // 2
            return True
        claim.obstacle = obstacle
        return False

    def _rank(self, claim: _Claim) -> tuple[float, float, float, str]:
        cluster = claim.cluster
        mine = part_of(self._by_owner[cluster.owner], self._whole) / claim.weight
        return mine, part_of(self._by_cluster[cluster.name], self._whole), cluster.created_at, cluster.name

    def _obstacle(self, cluster: Cluster, more: Amounts) -> Limit | None:
        for limit in self._of(cluster, more):
            used = self._used.get(limit.scope, NOTHING).of(limit.resource)
            if used + more.of(limit.resource) > limit.amount + ROUNDING:
                return limit
        return None


def _is_running(cluster: Cluster) -> bool:
    return cluster.state is ClusterState.RUNNING and cluster.target is Target.RUNNING


def _waits_in_vain(cluster: Cluster) -> bool:
    return cluster.queued and (cluster.waiting is None or not cluster.waiting.limit)


def give_back(cluster: Cluster, size: FairSize, now: float) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record of a cluster whose load is to do with its fair size, and the event that says so.

    What it was asked meanwhile counts: a size that somebody set by hand, or a minimum, is not touched.
    """
    group = cluster.group(size.group)
    if group.adaptive is None or not _is_running(cluster):
        return cluster, ()
    fair = max(size.workers, group.adaptive.minimum)
    if fair >= group.wanted:
        return cluster, ()
    asked = max(group.wanted, group.asked or 0)
    less = cluster.with_group(replace(group, wanted=fair, asked=asked))
    after = line_up(less, "", size.capacity.reason, now)
    told = workers_event(after)
    words = f"{fair} workers are wanted in place of {group.wanted}, since others wait: {size.capacity.reason}"
    return after, (Event(told.kind, words, dict(told.data)),)
