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
  look does not show is repeated, or a stopped cluster is called gone while its job is still on its way.

The moves between the states::

    REQUESTED --launched--> STARTING --reported, routes live--> RUNNING
        |                      |                                   |
        +------ target STOPPED, or a reason to fail ---------------+--> STOPPING --nothing remains--> STOPPED | FAILED
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.cluster import (
    Cluster,
    ClusterState,
    Reason,
    Target,
    Worker,
    WorkerGroup,
    WorkerState,
)
from tidegate.model.event import Event
from tidegate.model.observation import ProcessSeen, ProcessState, Seen


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the scheduler of the current attempt. The second time it finds the first."""


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Start the workers of these names. Those that exist are left as they are."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """Take these workers away. Those that are gone already are no error."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopCluster:
    """Take away everything of the cluster that runs."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Open the way to the scheduler in every proxy, and return when it is open."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Close the way in every proxy."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Record this value, if the record is still at the revision that the plan was made from.

    ``stamp`` says that an effect came before: ``changed_at`` becomes the time *after* it. ``stamp_workers`` does the
    same for single workers.
    """

    cluster: Cluster
    events: tuple[Event, ...] = ()
    stamp: bool = False
    stamp_workers: tuple[str, ...] = ()

    def stamped(self, now: float) -> Cluster:
        """Return the value to record at the time ``now``."""
        cluster = replace(self.cluster, changed_at=now) if self.stamp else self.cluster
        if not self.stamp_workers:
            return cluster
        names = set(self.stamp_workers)
        return cluster.with_workers(*(replace(w, changed_at=now) for w in cluster.workers if w.name in names))


Step = Launch | StartWorkers | StopWorkers | StopCluster | Publish | Withdraw | Mark


@dataclass(frozen=True, slots=True)
class Timing:
    """The numbers of the lifecycle, in seconds.

    ``backoff`` is how long a worker's replacement waits after the first failure; it doubles with each, up to
    ``backoff_limit`` (Kubernetes' CrashLoopBackOff has the same shape, from 10 s to 5 min; a notebook user waits for
    less). ``calm`` is how long nothing must fail before the count starts again. ``keep_ended`` is how long an ended
    worker stays in the record, with its reason; ``keep_ended_count`` is how many at the most.
    """

    backoff: float = 0.5
    backoff_limit: float = 60.0
    calm: float = 60.0
    keep_ended: float = 3600.0
    keep_ended_count: int = 50


DEFAULT_TIMING = Timing()


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
    if cluster.state is ClusterState.REQUESTED:
        started = replace(cluster, state=ClusterState.STARTING)
        return [Launch(), Mark(started, (Event(events.STARTING, "The scheduler is starting"),), stamp=True)]
    if cluster.state is ClusterState.STARTING:
        return _plan_start(cluster, seen, now)
    return _plan_run(cluster, seen, now, timing)


def due(cluster: Cluster, now: float) -> float | None:
    """Return in how many seconds the plan may change without anything happening, or None."""
    moments = [g.retry_at for g in cluster.groups if g.retry_at > now]
    if cluster.state is ClusterState.STARTING:
        moments.append(cluster.changed_at + cluster.spec.start_timeout)
    return max(0.0, min(moments) - now) if moments else None


def _plan_start(cluster: Cluster, seen: Seen | None, now: float) -> list[Step]:
    if seen is not None and seen.scheduler is not None and seen.scheduler.state is ProcessState.EXITED:
        return _fail(cluster, _why_scheduler_ended(seen.scheduler))
    if cluster.reported and cluster.host is None and seen is not None and seen.scheduler is not None:
        cluster = replace(cluster, host=seen.scheduler.host)
    if cluster.reported and cluster.host is not None:
        running = replace(cluster, state=ClusterState.RUNNING, started_at=now)
        # The way is opened before RUNNING is said: clients connect the moment they read it.
        return [Mark(cluster), Publish(), Mark(running, (Event(events.RUNNING, "The cluster is running"),))]
    if seen is None:
        return []
    if seen.scheduler is None:
        # Recorded as launched, yet no trace of it: we died before the effect. The deadline goes on counting.
        return _start_overdue(cluster, now) or [Launch()]
    if seen.scheduler.state is ProcessState.QUEUED:
        # Waiting in a queue is not starting: the deadline counts from the last time it was seen to wait.
        half_way = cluster.changed_at + cluster.spec.start_timeout / 2
        return [Mark(cluster, stamp=True)] if now > half_way else []
    return _start_overdue(cluster, now)


def _start_overdue(cluster: Cluster, now: float) -> list[Step]:
    if now <= cluster.changed_at + cluster.spec.start_timeout:
        return []
    return _fail(cluster, reasons.reason(reasons.START_TIMEOUT, seconds=cluster.spec.start_timeout))


def _plan_run(cluster: Cluster, seen: Seen | None, now: float, timing: Timing) -> list[Step]:
    if seen is None:
        return []
    if seen.scheduler is None:
        return _fail(cluster, reasons.reason(reasons.SCHEDULER_LOST))
    if seen.scheduler.state is ProcessState.EXITED:
        return _fail(cluster, _why_scheduler_ended(seen.scheduler))
    return _plan_workers(cluster, seen, now, timing)


def _why_scheduler_ended(process: ProcessSeen) -> Reason:
    return reasons.reason(reasons.SCHEDULER_EXITED, why=process.why, log_tail=process.log_tail)


def _fail(cluster: Cluster, reason: Reason) -> list[Step]:
    return _begin_end(replace(cluster, target=Target.STOPPED, reason=reason))


def fail(cluster: Cluster, reason: Reason) -> Cluster:
    """Return the record of a cluster that is to end because of ``reason`` (an earlier reason is kept)."""
    return replace(cluster, target=Target.STOPPED, reason=cluster.reason or reason)


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
    if cluster.reason is not None:
        state, event = (
            ClusterState.FAILED,
            Event(events.FAILED, cluster.reason.message, _reason_data(cluster.reason)),
        )
    else:
        state, event = ClusterState.STOPPED, Event(events.STOPPED, "The cluster has shut down")
    workers = tuple(replace(w, state=WorkerState.ENDED) for w in cluster.workers)
    # Withdraw again: we may have died between recording STOPPING and an acknowledgement of every proxy.
    return [Withdraw(), Mark(replace(cluster, state=state, stopped_at=now, workers=workers), (event,))]


def _processes(seen: Seen) -> Iterable[ProcessSeen]:
    if seen.scheduler is not None:
        yield seen.scheduler
    yield from seen.workers.values()


def _reason_data(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "log_tail": reason.log_tail}


# -- workers ---------------------------------------------------------------------------------------------------------


def _plan_workers(cluster: Cluster, seen: Seen, now: float, timing: Timing) -> list[Step]:
    after, happened = _settle_ended(cluster, seen, now, timing)
    for group in after.groups:
        after = _resize(after, group, now, timing)
    after = _forget_old(after, now, timing)

    steps: list[Step] = []
    if after != cluster:
        steps.append(Mark(after, (*happened, *_counts_changed(cluster, after))))
    to_start = tuple(w.name for w in after.workers if w.state is WorkerState.REQUESTED)
    to_stop = tuple(
        w.name
        for w in after.workers
        if w.state is WorkerState.STOPPING and (p := seen.workers.get(w.name)) and p.state is not ProcessState.EXITED
    )
    if to_stop:
        steps.append(StopWorkers(to_stop))
    if to_start:
        handed_over = after.with_workers(
            *(replace(w, state=WorkerState.STARTING) for w in after.workers if w.name in to_start)
        )
        steps += [StartWorkers(to_start), Mark(handed_over, stamp_workers=to_start)]
    return steps


def _settle_ended(cluster: Cluster, seen: Seen, now: float, timing: Timing) -> tuple[Cluster, list[Event]]:
    """Record which workers are gone, why, and from when on they may be replaced."""
    happened: list[Event] = []
    failed_groups: dict[str, Reason] = {}
    for worker in cluster.workers:
        if worker.state in (WorkerState.ENDED, WorkerState.REQUESTED) or seen.at < worker.changed_at:
            continue
        process = seen.workers.get(worker.name)
        if process is not None and process.state is not ProcessState.EXITED:
            continue
        unexpected = worker.state is not WorkerState.STOPPING and not (process and process.expected)
        reason = _why_worker_ended(process) if unexpected else None
        cluster = cluster.with_workers(replace(worker, state=WorkerState.ENDED, reason=reason, changed_at=now))
        if reason is not None:
            failed_groups[worker.group] = reason
            words = f"Worker {worker.name}: {reason.message}"
            happened.append(Event(events.WORKER_ENDED, words, {"worker": worker.name, **_reason_data(reason)}))
    for name, reason in failed_groups.items():
        group = cluster.group(name)
        # Several that fall at once count as one failure: the cause is one.
        failures = group.failures + 1
        delay = min(timing.backoff * 2.0 ** (failures - 1), timing.backoff_limit)
        cluster = cluster.with_group(replace(group, failures=failures, retry_at=now + delay, trouble=reason))
    return cluster, happened


def _why_worker_ended(process: ProcessSeen | None) -> Reason:
    if process is None:
        return reasons.reason(reasons.LOST)
    return reasons.reason(process.code or reasons.EXITED, why=process.why, log_tail=process.log_tail)


def _resize(cluster: Cluster, group: WorkerGroup, now: float, timing: Timing) -> Cluster:
    """Name the workers that are missing; let go of those that are too many and not running yet.

    Those that run are too precious to be taken from outside: the agent sees the wanted size, moves their results away,
    and reports which it retired.
    """
    active = cluster.active_workers(group.name)
    running = [w for w in active if w.state is WorkerState.RUNNING]
    if len(running) >= group.wanted and group.trouble and now >= group.retry_at + timing.calm:
        group = replace(group, failures=0, retry_at=0.0, trouble=None)
        cluster = cluster.with_group(group)
    room = cluster.spec.max_workers - len(cluster.active_workers())
    missing = min(group.wanted - len(active), room)
    if missing > 0 and now >= group.retry_at:
        first = group.launched + 1
        names = [f"{group.name}-{n}" for n in range(first, first + missing)]
        cluster = cluster.with_workers(*(Worker(name, group.name, changed_at=now) for name in names))
        return cluster.with_group(replace(group, launched=group.launched + missing))
    surplus = len(active) - group.wanted
    if surplus > 0:
        waiting = [w for w in reversed(active) if w.state is not WorkerState.RUNNING]
        return cluster.with_workers(*(_let_go(w) for w in waiting[:surplus]))
    return cluster


def _let_go(worker: Worker) -> Worker:
    # A worker that was only named may still be on its way: we may have died between the effect and its record.
    # As STOPPING it is stopped if it is seen, and ended when it is not.
    return replace(worker, state=WorkerState.STOPPING)


def _forget_old(cluster: Cluster, now: float, timing: Timing) -> Cluster:
    ended = [w for w in cluster.workers if w.state is WorkerState.ENDED]
    kept = [w for w in ended if now - w.changed_at <= timing.keep_ended][-timing.keep_ended_count :]
    if len(kept) == len(ended):
        return cluster
    names = {w.name for w in kept}
    workers = tuple(w for w in cluster.workers if w.state is not WorkerState.ENDED or w.name in names)
    return replace(cluster, workers=workers)


def _counts_changed(before: Cluster, after: Cluster) -> tuple[Event, ...]:
    if worker_counts(before) == worker_counts(after):
        return ()
    return (workers_event(after),)


def worker_counts(cluster: Cluster) -> dict[str, int]:
    """Return how many workers are ``wanted``, ``running`` and ``starting``."""
    active = cluster.active_workers()
    running = sum(w.state is WorkerState.RUNNING for w in active)
    wanted = sum(g.wanted for g in cluster.groups)
    return {"wanted": wanted, "running": running, "starting": len(active) - running}


def workers_event(cluster: Cluster) -> Event:
    """Return the event that tells the present number of workers."""
    counts = worker_counts(cluster)
    return Event(events.WORKERS, f"{counts['running']} of {counts['wanted']} workers are running", counts)
