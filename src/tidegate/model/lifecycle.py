"""What to do about a cluster: one pure function, ``plan(cluster, seen, now)``.

How to think about it
---------------------
The record says what is wanted, the observation says what is there, and the plan is the list of steps that brings them
together. Nobody tells the plan *why* it is asked: a request, a report, a timer and a restart all lead to the same
question. Any process may die between any two steps, so

* every effect (``Launch``, ``StartWorkers``, ...) may be repeated: names derive from the record, a second launch finds
  the first;
* what an effect needs (the names of new workers) is recorded *before* it, what it achieved *after* it;
* an observation that began before the record last changed counts as unknown. Without this rule a launch that a stale
  look does not show is repeated, or a stopped cluster is called gone while its job is still on its way. Every worker
  has such a time of its own. (That something *exited* is never stale: no name is used twice.)

The moves between the states::

    REQUESTED --launched--> STARTING --reported, routes live--> RUNNING
        |                      |                                   |
        +------ target STOPPED, or a reason to fail ---------------+--> STOPPING --nothing remains--> STOPPED | FAILED

When a cluster ends that nobody uses is a part of its own: ``model/ends.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from tidegate.model import ends, reasons
from tidegate.model import event as events
from tidegate.model.clocks import CLOCK_STEP
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Reason, Target, WorkerState
from tidegate.model.durations import describe_duration
from tidegate.model.event import Event
from tidegate.model.observation import ProcessSeen, ProcessState, Seen
from tidegate.model.steps import Launch, Mark, Publish, Step, StopCluster, Withdraw
from tidegate.model.workers import DEFAULT_TIMING, Timing, plan_workers


def needs_look(cluster: Cluster) -> bool:
    """Return whether ``plan`` depends on what the backend sees. A first launch and a first stop do not wait for it."""
    if cluster.state is ClusterState.STOPPING:
        return True
    started = cluster.state in (ClusterState.STARTING, ClusterState.RUNNING)
    return started and cluster.target is Target.RUNNING


def plan(cluster: Cluster, seen: Seen | None, now: float, timing: Timing = DEFAULT_TIMING) -> list[Step]:
    """Return the steps that bring ``cluster`` nearer to its target, in order; none if there is nothing to do.

    Parameters
    ----------
    cluster : Cluster
        The record, as loaded.
    seen : Seen or None
        What the backend sees; None if it could not look.
    now : float
        The time, in seconds since the epoch.
    """
    if cluster.state.ended:
        return []
    if seen is not None and seen.at < cluster.changed_at:
        seen = None
    if cluster.target is Target.STOPPED or cluster.state is ClusterState.STOPPING:
        return _plan_end(cluster, seen, now)
    if cluster.queued:
        return []  # until it is let in: ``admission.serve``
    if cluster.state is ClusterState.REQUESTED:
        started = replace(cluster, state=ClusterState.STARTING)
        return [Launch(), Mark(started, (Event(events.STARTING, "The scheduler is starting"),), stamp=True)]
    if cluster.state is ClusterState.STARTING:
        return _plan_start(cluster, seen, now)
    return _plan_run(cluster, seen, now, timing)


def due(cluster: Cluster, now: float) -> float | None:
    """Return in how many seconds the plan may change without anything happening, or None."""
    moments = []
    if cluster.state is ClusterState.RUNNING:
        moments += [g.retry_at for g in cluster.groups]
        moments += ends.due_moments(cluster)
    if cluster.state is ClusterState.STARTING:
        moments.append(_start_deadline(cluster))
    return min((m - now for m in moments if now < m < math.inf), default=None)


def rewind(cluster: Cluster, now: float) -> Cluster:
    """Return the record as it is to be after the clock was set back; the same record if it was not.

    Every look would otherwise count as too old until the clock has caught up, and nothing would be done till then.
    """
    times = [cluster.changed_at, ends.latest_moment(cluster.activity), *(w.changed_at for w in cluster.workers)]
    waiting = cluster.waiting
    times += [waiting.since] if waiting is not None else []
    if cluster.state.ended or max(times) <= now + CLOCK_STEP:
        return cluster
    workers = tuple(replace(w, changed_at=min(w.changed_at, now)) for w in cluster.workers)
    groups = tuple(replace(g, retry_at=min(g.retry_at, now)) for g in cluster.groups)
    activity = ends.rewound(cluster.activity, now)
    waiting = replace(waiting, since=min(waiting.since, now)) if waiting is not None else None
    changed_at = min(cluster.changed_at, now)
    return replace(cluster, changed_at=changed_at, workers=workers, groups=groups, activity=activity, waiting=waiting)


def _plan_start(cluster: Cluster, seen: Seen | None, now: float) -> list[Step]:
    scheduler = seen.scheduler if seen is not None else None
    if scheduler is not None and scheduler.state is ProcessState.EXITED:
        return _fail(cluster, _why_scheduler_ended(scheduler, cluster.spec))
    if seen is not None and scheduler is None and cluster.reported:
        return _fail(cluster, reasons.reason(reasons.SCHEDULER_LOST))
    host = cluster.host or (scheduler.host if scheduler is not None else None)
    if cluster.reported and host:
        return _open(replace(cluster, host=host), cluster, now)
    if seen is None:
        return []
    if scheduler is None:
        # The engine accepted it and shows no trace: it lost it, or is slow to show it. The deadline goes on counting.
        # It is the same attempt, so that a launch that arrives late is found by its name and not doubled. A new one
        # would have its agent told to exit. No plan needs one: a scheduler that has ended is the end of its cluster.
        return _start_overdue(cluster, now) or [Launch()]
    if scheduler.state is ProcessState.QUEUED:
        # Waiting in a queue is not starting: the deadline counts from the last time it was seen to wait.
        half_way = cluster.changed_at + cluster.spec.start_timeout / 2
        return [Mark(cluster, stamp=True)] if now >= half_way else []
    return _start_overdue(cluster, now)


def _open(cluster: Cluster, recorded: Cluster, now: float) -> list[Step]:
    running = replace(cluster, state=ClusterState.RUNNING, started_at=now)
    # The way is opened before RUNNING is said: clients connect the moment they read it.
    steps: list[Step] = [Publish(), Mark(running, (Event(events.RUNNING, "The cluster is running"),))]
    # What the proxies are told is recorded first: the host that they dial is the one that the backend named.
    return steps if cluster == recorded else [Mark(cluster), *steps]


def _start_deadline(cluster: Cluster) -> float:
    return cluster.changed_at + cluster.spec.start_timeout


def _start_overdue(cluster: Cluster, now: float) -> list[Step]:
    if now < _start_deadline(cluster):
        return []
    return _fail(cluster, reasons.reason(reasons.START_TIMEOUT, seconds=cluster.spec.start_timeout))


def _plan_run(cluster: Cluster, seen: Seen | None, now: float, timing: Timing) -> list[Step]:
    if seen is not None and seen.scheduler is None:
        return _fail(cluster, reasons.reason(reasons.SCHEDULER_LOST))
    if seen is not None and seen.scheduler is not None and seen.scheduler.state is ProcessState.EXITED:
        return _fail(cluster, _why_scheduler_ended(seen.scheduler, cluster.spec))
    if (why := ends.over(cluster, now)) is not None:
        return _fail(cluster, why)
    after, happened = ends.advance(cluster, now)
    if after != cluster:
        return [Mark(after, happened)]
    return [] if seen is None else plan_workers(cluster, seen, now, timing)


def _why_scheduler_ended(process: ProcessSeen, spec: ClusterSpec) -> Reason:
    if spec.idle_timeout is not None and ends.FAREWELL in process.log_tail:
        return reasons.reason(reasons.IDLE, time=describe_duration(spec.idle_timeout))
    return reasons.reason(reasons.SCHEDULER_EXITED, why=process.why, log_tail=process.log_tail)


def _fail(cluster: Cluster, reason: Reason) -> list[Step]:
    return _begin_end(fail(cluster, reason))


def fail(cluster: Cluster, reason: Reason) -> Cluster:
    """Return the record of a cluster that is to end because of ``reason``.

    One that is to end anyway stays as it is: the first reason is the true one, and so is the owner's wish.
    """
    if cluster.target is Target.STOPPED:
        return cluster
    return replace(cluster, target=Target.STOPPED, reason=reason)


def _begin_end(cluster: Cluster) -> list[Step]:
    words = cluster.reason.message if cluster.reason else "The cluster is shutting down"
    stopping = replace(cluster, state=ClusterState.STOPPING)
    return [Withdraw(), Mark(stopping, (Event(events.STOPPING, words),), stamp=True), StopCluster()]


def _plan_end(cluster: Cluster, seen: Seen | None, now: float) -> list[Step]:
    if cluster.state is not ClusterState.STOPPING:
        return _begin_end(cluster)
    if seen is None:
        return []
    if seen.remains or any(p.state is not ProcessState.EXITED for p in _processes(seen)):
        return [StopCluster()]
    why = cluster.reason
    if why is None or why.code in reasons.WANTED:
        state, event = ClusterState.STOPPED, Event(events.STOPPED, "The cluster has shut down")
    else:
        state, event = ClusterState.FAILED, Event(events.FAILED, why.message, reasons.to_data(why))
    workers = tuple(replace(w, state=WorkerState.ENDED) for w in cluster.workers)
    return [Mark(replace(cluster, state=state, stopped_at=now, workers=workers), (event,))]


def _processes(seen: Seen) -> Iterable[ProcessSeen]:
    if seen.scheduler is not None:
        yield seen.scheduler
    yield from seen.workers.values()
