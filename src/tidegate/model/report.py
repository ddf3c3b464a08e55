"""What the agent in a scheduler says, what follows from it for the record, and what it is told.

The agent is hostile until proved otherwise: it can only lie about its own cluster, and every number that it names is
held against the bounds of the record before it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tidegate.model.cluster import Cluster, ClusterState, SchedulerFacts, Target, Worker, WorkerState
from tidegate.model.event import Event
from tidegate.model.workers import worker_counts, workers_event


@dataclass(frozen=True, slots=True)
class Report:
    """The facts that one report carries.

    Parameters
    ----------
    facts : SchedulerFacts
        Where this launch of the scheduler listens, and its versions.
    workers : frozenset of str
        Names of the workers that the scheduler has now.
    retired : frozenset of str
        Names of the workers that the agent has retired so far: their results are elsewhere.
    demand : mapping of str to int
        For each group, how many workers the load asks for, while the group is adaptive.
    """

    facts: SchedulerFacts
    workers: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    demand: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The whole wanted state, as the agent is told it; never a delta.

    ``exit`` tells a scheduler that it belongs to nothing any more: an older attempt, or a cluster that ends.
    ``groups`` maps each group to ``(wanted, minimum, maximum)``; the bounds are None where the size is set by hand.
    ``withdrawn`` are the serial numbers of clients' certificates that the scheduler is to refuse, hexadecimal.
    """

    exit: bool
    groups: Mapping[str, tuple[int, int | None, int | None]] = field(default_factory=dict)
    withdrawn: tuple[str, ...] = ()


def absorb(cluster: Cluster, report: Report, now: float) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record after ``report``, and the events that follow. A report of another attempt changes nothing."""
    if report.facts.attempt != cluster.attempt or cluster.target is Target.STOPPED:
        return cluster, ()
    after = cluster
    if cluster.state is not ClusterState.RUNNING and cluster.scheduler != report.facts:
        # Once the way is open the addresses stand: a scheduler does not move, and the proxies are not told again.
        after = replace(after, scheduler=report.facts)
    after = after.with_workers(*_moved_workers(cluster, report, now))
    for group in cluster.groups:
        if group.adaptive is not None and group.name in report.demand:
            upper = min(group.adaptive.maximum, cluster.spec.max_workers)
            wanted = max(group.adaptive.minimum, min(report.demand[group.name], upper))
            after = after.with_group(replace(after.group(group.name), wanted=wanted))
    changed = worker_counts(after) != worker_counts(cluster)
    return after, (workers_event(after),) if changed else ()


def _moved_workers(cluster: Cluster, report: Report, now: float) -> Iterator[Worker]:
    for worker in cluster.workers:
        if not worker.state.active:
            continue
        if worker.name in report.retired:
            yield replace(worker, state=WorkerState.STOPPING, changed_at=now)
        elif worker.name in report.workers and worker.state is not WorkerState.RUNNING:
            # The time matters: the start may have come after a look that the backend is still busy with.
            yield replace(worker, state=WorkerState.RUNNING, changed_at=now)


def wanted_of(cluster: Cluster | None, attempt: int) -> Wanted:
    """Return what to tell the agent that reports for ``attempt`` of ``cluster`` (None: there is no such record)."""
    if cluster is None or attempt != cluster.attempt or cluster.target is Target.STOPPED:
        return Wanted(exit=True)
    return Wanted(
        exit=False,
        groups={
            g.name: (
                g.wanted,
                g.adaptive.minimum if g.adaptive else None,
                g.adaptive.maximum if g.adaptive else None,
            )
            for g in cluster.groups
        },
        withdrawn=tuple(leaf.serial for leaf in cluster.leaves if leaf.withdrawn),
    )
