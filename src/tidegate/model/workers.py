"""The workers of a running cluster: who is gone, who is missing, who is too many.

A part of the lifecycle (``model/lifecycle.py`` says when it is asked). A worker's name is recorded before it is started
and never used again, so a start may be repeated, and an end is an end. ``Worker.changed_at`` is to a worker what
``Cluster.changed_at`` is to its cluster: a look that began before it does not prove that the worker is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.cluster import Cluster, Reason, Worker, WorkerGroup, WorkerState
from tidegate.model.event import Event
from tidegate.model.observation import ProcessSeen, ProcessState, Seen
from tidegate.model.steps import Mark, StartWorkers, Step, StopWorkers


@dataclass(frozen=True, slots=True)
class Timing:
    """The numbers of the workers' lifecycle, in seconds.

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


def plan_workers(cluster: Cluster, seen: Seen, now: float, timing: Timing) -> list[Step]:
    """Return the steps that bring the workers of a running cluster nearer to the wanted sizes."""
    after, happened = _settle_ended(cluster, seen, now, timing)
    after, troubles = _note_troubles(after, seen)
    for group in after.groups:
        after = _resize(after, group, now, timing)
    after = _forget_old(after, now, timing)

    steps: list[Step] = []
    if after != cluster:
        steps.append(Mark(after, (*happened, *troubles, *_counts_changed(cluster, after))))
    to_stop = _unwanted(after, seen)
    if to_stop:
        steps.append(StopWorkers(to_stop))
    to_start = tuple(w for w in after.workers if w.state is WorkerState.REQUESTED)
    if to_start:
        names = tuple(w.name for w in to_start)
        handed_over = after.with_workers(*(replace(w, state=WorkerState.STARTING) for w in to_start))
        steps += [StartWorkers(names), Mark(handed_over, stamp_workers=names)]
    return steps


def _unwanted(cluster: Cluster, seen: Seen) -> tuple[str, ...]:
    """Return the names that run although the record does not want them to.

    Besides those that are being stopped, these are late comers: a start that was on its way when its control process
    died, and that the record has since given up.
    """
    wanted = {w.name for w in cluster.workers if w.state.active}
    return tuple(n for n, p in seen.workers.items() if p.state is not ProcessState.EXITED and n not in wanted)


def _settle_ended(cluster: Cluster, seen: Seen, now: float, timing: Timing) -> tuple[Cluster, list[Event]]:
    """Record which workers are gone, why, and from when on they may be replaced."""
    ended: list[Worker] = []
    for worker in cluster.workers:
        process = seen.workers.get(worker.name)
        if worker.state is WorkerState.ENDED or not _is_gone(worker, process, seen):
            continue
        unexpected = worker.state is not WorkerState.STOPPING and not (process and process.expected)
        reason = _why_worker_ended(process) if unexpected else None
        ended.append(replace(worker, state=WorkerState.ENDED, reason=reason, changed_at=now))
    return _record_ends(cluster, ended, now, timing)


def _is_gone(worker: Worker, process: ProcessSeen | None, seen: Seen) -> bool:
    if process is not None:
        return process.state is ProcessState.EXITED
    return worker.state is not WorkerState.REQUESTED and seen.at >= worker.changed_at


def _record_ends(cluster: Cluster, ended: Sequence[Worker], now: float, timing: Timing) -> tuple[Cluster, list[Event]]:
    happened: list[Event] = []
    troubles: dict[str, Reason] = {}
    for worker in ended:
        if worker.reason is not None:
            troubles[worker.group] = worker.reason
            words = f"Worker {worker.name}: {worker.reason.message}"
            data = {"worker": worker.name, **reasons.to_data(worker.reason)}
            happened.append(Event(events.WORKER_ENDED, words, data))
    cluster = cluster.with_workers(*ended)
    for name, reason in troubles.items():
        cluster = cluster.with_group(_after_failure(cluster.group(name), reason, now, timing))
    return cluster, happened


def _after_failure(group: WorkerGroup, reason: Reason, now: float, timing: Timing) -> WorkerGroup:
    # Several that fall at once count as one failure: the cause is one.
    failures = group.failures + 1
    # The exponent is bounded because a float overflows at 2 ** 1024: a night of failures.
    delay = min(timing.backoff * 2.0 ** min(failures - 1, 64), timing.backoff_limit)
    return replace(group, failures=failures, retry_at=now + delay, trouble=reason)


def delay_workers(
    cluster: Cluster, names: Collection[str], reason: Reason, now: float, timing: Timing = DEFAULT_TIMING
) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record, and the events, after the backend could not start these workers now, and will be asked again.

    They stay REQUESTED, and their groups carry the reason to the owner. Failures before ``retry_at`` count as one, so
    that the history grows no faster than that of workers which fail, however often the loop tries.
    """
    waiting = {w.group for w in cluster.workers if w.name in names and w.state is WorkerState.REQUESTED}
    groups = [_after_failure(g, reason, now, timing) for g in cluster.groups if g.name in waiting and now >= g.retry_at]
    for group in groups:
        cluster = cluster.with_group(group)
    return cluster, (Event(events.WORKERS, reason.message, worker_counts(cluster)),) if groups else ()


def refuse_workers(
    cluster: Cluster, names: Collection[str], reason: Reason, now: float, timing: Timing = DEFAULT_TIMING
) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record, and the events, after the backend refused for good to start these workers.

    The cluster goes on: it carries the reason to its owner, and tries again later with new names.
    """
    refused = [
        replace(w, state=WorkerState.ENDED, reason=reason, changed_at=now)
        for w in cluster.workers
        if w.name in names and w.state is WorkerState.REQUESTED
    ]
    after, happened = _record_ends(cluster, refused, now, timing)
    return after, (*happened, *_counts_changed(cluster, after))


def _why_worker_ended(process: ProcessSeen | None) -> Reason:
    if process is None:
        return reasons.reason(reasons.LOST)
    code = process.code if process.code in reasons.WORKER_CODES else reasons.EXITED
    return reasons.reason(code, why=process.why, log_tail=process.log_tail)


def _note_troubles(cluster: Cluster, seen: Seen) -> tuple[Cluster, list[Event]]:
    """Record what went wrong at workers that go on: their owner sees a task fail and wants to know why.

    Once for each worker, and once more when it is memory. What tells of it is in the hands of the cluster's user, who
    could else fill the history.
    """
    noted: list[Worker] = []
    for worker in cluster.active_workers():
        process = seen.workers.get(worker.name)
        if process is None or process.state is not ProcessState.RUNNING or not process.why:
            continue
        code = process.code if process.code in reasons.WORKER_CODES else reasons.EXITED
        if worker.reason is None or (code == reasons.OUT_OF_MEMORY != worker.reason.code):
            noted.append(replace(worker, reason=Reason(code, f"It goes on, but {process.why}")))
    happened = [
        Event(events.WORKER_TROUBLE, f"Worker {w.name}: {w.reason.message}", {"worker": w.name, "code": w.reason.code})
        for w in noted
        if w.reason is not None
    ]
    return cluster.with_workers(*noted), happened


def _resize(cluster: Cluster, group: WorkerGroup, now: float, timing: Timing) -> Cluster:
    """Name the workers that are missing; let go of those that are too many and not running yet.

    Those that run are too precious to be taken from outside: the agent sees the wanted size, moves their results away,
    and reports which it retired.
    """
    active = cluster.active_workers(group.name)
    running = sum(w.state is WorkerState.RUNNING for w in active)
    if running >= group.wanted and group.trouble and now >= group.retry_at + timing.calm:
        group = replace(group, failures=0, retry_at=0.0, trouble=None)
        cluster = cluster.with_group(group)
    # Those that are being stopped still hold their cores and memory, and no replacement may hold more beside them: what
    # a cluster holds is only raised where it is held against the limits.
    there = [w for w in cluster.workers if w.state is not WorkerState.ENDED]
    room = cluster.spec.max_workers - len(there)
    missing = min(group.wanted - sum(w.group == group.name for w in there), room)
    if missing > 0 and now >= group.retry_at:
        first = group.launched + 1
        names = [f"{group.name}-{n}" for n in range(first, first + missing)]
        cluster = cluster.with_workers(*(Worker(name, group.name, changed_at=now) for name in names))
        return cluster.with_group(replace(group, launched=group.launched + missing))
    surplus = len(active) - group.wanted
    if surplus > 0:
        waiting = [w for w in reversed(active) if w.state is not WorkerState.RUNNING]
        # Even one that was only named may be on its way: we may have died between the effect and its record. As
        # STOPPING it is stopped if it is seen, and ended when a look from now on does not show it.
        let_go = (replace(w, state=WorkerState.STOPPING, changed_at=now) for w in waiting[:surplus])
        return cluster.with_workers(*let_go)
    return cluster


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
    return Event(events.WORKERS, f"Workers running: {counts['running']} of {counts['wanted']}", counts)
