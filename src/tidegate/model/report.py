"""What the agent in a scheduler says, what follows from it for the record, and what it is told.

The agent is hostile until proved otherwise: it can only lie about its own cluster, and every number that it names is
held against the bounds of the record before it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from tidegate.model import ends
from tidegate.model.cluster import Cluster, ClusterState, SchedulerFacts, Target, Worker, WorkerState
from tidegate.model.event import Event
from tidegate.model.line import tidied
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
    idle : float or None
        Seconds for which nothing has run; None while something does, or where the agent does not tell.
    answer : int
        Number of the last question (``Activity.question``) that it knew when it looked.
    """

    facts: SchedulerFacts
    workers: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()
    demand: Mapping[str, int] = field(default_factory=dict)
    idle: float | None = None
    answer: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The whole wanted state, as the agent is told it; never a delta.

    ``exit`` tells a scheduler that it belongs to nothing any more: an older attempt, or a cluster that ends.
    ``groups`` maps each group to ``(wanted, minimum, maximum)``; the bounds are None where the size is set by hand.
    ``withdrawn`` are the serial numbers of clients' certificates that the scheduler is to refuse, hexadecimal.
    ``question`` counts the questions whether nothing runs: the next report answers the last one. ``tell_idle_after`` is
    for how many seconds nothing must run before that is worth a report, None where nobody wants to know;
    ``idle_timeout`` after how many the agent may end the scheduler by itself, if the gateway is away, and
    ``kept_until`` the time before which it may not.
    """

    exit: bool
    groups: Mapping[str, tuple[int, int | None, int | None]] = field(default_factory=dict)
    withdrawn: tuple[str, ...] = ()
    question: int = 0
    tell_idle_after: float | None = None
    idle_timeout: float | None = None
    kept_until: float | None = None


def absorb(
    cluster: Cluster, report: Report, now: float, clientless: float | None = None
) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record after ``report``, and the events that follow. A report of another attempt changes nothing.

    ``clientless`` are the seconds for which no client has been connected, as of now; None if one is, or nobody knows.
    """
    if report.facts.attempt != cluster.attempt or cluster.target is Target.STOPPED:
        return cluster, ()
    after = cluster
    if cluster.state is not ClusterState.RUNNING and cluster.scheduler != report.facts:
        # Once the way is open the addresses stand: a scheduler does not move, and the proxies are not told again.
        after = replace(after, scheduler=report.facts)
    moved = tuple(_moved_workers(cluster, report, now))
    after = after.with_workers(*moved)
    if any(worker.state is WorkerState.RUNNING and not cluster.group(worker.group).failures for worker in moved):
        after = ends.touch(after, now)  # whoever waited for it has it now
    for group in cluster.groups:
        if group.adaptive is not None and group.name in report.demand:
            upper = min(group.adaptive.maximum, cluster.spec.max_workers)
            asked = max(group.adaptive.minimum, min(report.demand[group.name], upper))
            # Less is given at once. For more there has to be room: ``admission.grow``.
            after = after.with_group(replace(group, wanted=min(asked, group.wanted), asked=asked))
    after = ends.hear(tidied(after), report.idle, report.answer, now, clientless)
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
            yield replace(worker, state=WorkerState.RUNNING, changed_at=now, started_at=now)


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
        question=cluster.activity.question,
        tell_idle_after=ends.tell_after(cluster.spec),
        idle_timeout=cluster.spec.idle_timeout,
        kept_until=cluster.activity.kept_until,
    )
