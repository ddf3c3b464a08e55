"""Who gets how much of what the limits leave: decided on a record and a ledger, in the transaction that writes it.

Nothing here lets a cluster hold more than fits; what does not fit is said with the limit, what is in use of it and what
was asked. A cluster that is new gets in or is refused; of a size as many workers are given as there is room for. What
the load asks for beyond that is kept in the record (``WorkerGroup.asked``), and given when there is room (``grow``);
where it is scarce, no more than the fair share (``pressure.py``). Where the administrator has them wait, people stand
in line (``line.py``), and each is given what there is when it is their turn (``serve``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tidegate.model import event as events
from tidegate.model.amounts import ROUNDING, Resource
from tidegate.model.cluster import Adaptive, Cluster, ClusterSpec, ClusterState, Target, WorkerGroup
from tidegate.model.errors import Invalid, LimitReached
from tidegate.model.event import Event
from tidegate.model.limits import Ledger, Limit, Rules, cluster_base, exceeded, holding_of, room, worker_shape
from tidegate.model.line import MOST_WAITING, is_person_waiting, is_short, is_waiting, line_up, told, words_of
from tidegate.model.policy import Capacity
from tidegate.model.workers import workers_event

Decide = Callable[[Cluster, Ledger], tuple[Cluster, Sequence[Event]]]
"""From a record and the ledger to the record that it should become, and the events to go with it; or it raises."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What the store needs to let a cluster hold more: the rules of the configuration, and what decides."""

    rules: Rules
    decide: Decide


def most_workers(cluster: Cluster, group: WorkerGroup, ledger: Ledger) -> Capacity:
    """Return how many workers a group may be given, and why no more.

    What it was given before it keeps: a limit that is lowered takes nothing away.
    """
    own = Capacity(cluster.spec.max_workers, cluster.spec.max_workers_reason)
    if ledger.spent is not None:
        return Capacity(min(group.wanted, own.max_workers), _say_spent(ledger.spent))
    left = room(ledger, cluster, group.name)
    most = max(left.workers, group.wanted)
    if left.limit is None or most >= own.max_workers:
        return own
    return Capacity(int(most), _say_limit(left.limit, cluster, ledger))


def capacity(spec: ClusterSpec, limits: Sequence[Limit], backend: Callable[[ClusterSpec], Capacity]) -> Capacity:
    """Return how many workers a cluster may have: what limits of one cluster say, else what the backend can carry.

    Raises
    ------
    LimitReached
        Not even one worker fits a limit.
    Invalid
        Not even one fits the backend.
    """
    by_number = next((limit for limit in limits if limit.resource is Resource.WORKERS), None)
    if by_number is not None:
        if by_number.amount < 1:
            raise LimitReached(f"cannot create a cluster: it could have no worker, as the limit is {by_number.tell()}")
        most = Capacity(int(by_number.amount), _say_rule(by_number))
    elif (most := backend(spec)).max_workers < 1:
        raise Invalid(f"cannot create a cluster: not even one such worker fits. {most.reason}")
    base, each = cluster_base(spec), worker_shape(spec)
    for limit in limits:
        if limit is by_number or each.of(limit.resource) <= 0:
            continue
        fits = math.floor((limit.amount - base.of(limit.resource) + ROUNDING) / each.of(limit.resource))
        if fits < 1:
            raise LimitReached(_too_large(spec, limit))
        if fits < most.max_workers:
            most = Capacity(fits, _say_rule(limit))
    return most


def admit_new(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, str | None]:
    """Return a new cluster, with no more workers than fit, and a note when it begins otherwise than it was asked for.

    Where there is no room for it, it is refused, or waits in line (``Cluster.queued``).

    Raises
    ------
    LimitReached
        There is no room for it and it cannot wait; or there never can be, for it or for a worker of its.
    """
    if ledger.spent is not None:
        raise LimitReached(f"cannot create a cluster: {_say_spent(ledger.spent)}. {_HELP_SPENT}")
    empty = _empty(cluster)
    ever = room(ledger.alone(), empty, cluster.groups[0].name)
    if ever.limit is not None and ever.workers < 1:
        raise LimitReached(_too_large(cluster.spec, ever.limit))
    limit = exceeded(ledger, holding_of(empty))
    if limit is None:
        return _let_in(cluster, ledger)
    never = exceeded(ledger.alone(), holding_of(empty)) is not None
    if ledger.line is None or never:
        raise LimitReached(_refusal(limit, holding_of(empty).of(limit.resource), ledger))
    if ledger.line >= MOST_WAITING:
        raise LimitReached(
            f"cannot create a cluster: {ledger.line} clusters of {cluster.owner} wait for room already, and "
            f"{MOST_WAITING} are the most. {_HELP}"
        )
    queued = replace(cluster, queued=True)
    waiting = line_up(queued, limit.place, _say_limit(limit, queued, ledger), ledger.at)
    return waiting, words_of(waiting)


def _empty(cluster: Cluster) -> Cluster:
    return replace(cluster, groups=tuple(replace(g, wanted=0) for g in cluster.groups))


def _let_in(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, str | None]:
    """Return a cluster for which there is room, with as many workers as there is room for, and a note if not all."""
    after, notes = _empty(cluster), []
    for group in cluster.groups:
        most = most_workers(after, after.group(group.name), ledger)
        if group.wanted > most.max_workers:
            notes.append(f"{group.wanted} workers were to start, and {most.max_workers} do: {most.reason}")
        after = after.with_group(_cut(group, most.max_workers))
    return settle(after, ledger), " ".join(notes) or None


def _cut(group: WorkerGroup, most: int) -> WorkerGroup:
    """Return a group with no more workers to begin with; its adaptive minimum is what there are at once."""
    bounds = group.adaptive
    if bounds is not None and bounds.minimum > most:
        bounds = Adaptive(most, bounds.maximum)
    if group.wanted <= most:
        return replace(group, adaptive=bounds)
    return replace(group, wanted=most, adaptive=bounds, asked=group.wanted)


def settle(cluster: Cluster, ledger: Ledger) -> Cluster:
    """Return a cluster with its place in the line, if it was asked to have more workers than it was given.

    For what there can never be room nobody waits; nor for what a person asked, where they are refused instead.
    """
    for group in filter(is_short, cluster.groups):
        found = _obstacle(cluster, group, ledger)
        if found is not None and (group.adaptive is not None or ledger.line is not None):
            return line_up(cluster, *found, ledger.at)
    return replace(cluster, waiting=None)


def _obstacle(cluster: Cluster, group: WorkerGroup, ledger: Ledger) -> tuple[str, str] | None:
    """Return at which limit a group that is short waits, empty if nobody waits behind it there, and why, in words.

    None where it waits for nothing: there is room, or there can never be.
    """
    if ledger.spent is not None:
        return "", _say_spent(ledger.spent)
    fair = ledger.fair.get(group.name)
    if group.adaptive is not None and fair is not None and fair.max_workers <= group.wanted:
        return "", fair.reason
    limit = room(ledger, cluster, group.name).limit
    if limit is None or most_workers(cluster, group, ledger.alone()).max_workers <= group.wanted:
        return None
    place = limit.place if ledger.line is not None else ""
    # A load asks many times a minute: how much is in use just then is not worth a change of the record.
    return place, _say_limit(limit, cluster, ledger) if group.adaptive is None else f"the limit is {limit.tell()}"


def serve(
    cluster: Cluster, ledger: Ledger, *, blocked: frozenset[str] = frozenset()
) -> tuple[Cluster, Sequence[Event]]:
    """Return the record of a cluster in the line after its turn, and the events: what there was room for it has.

    ``blocked`` are the limits at which those wait who stand before it. Nothing changes for whoever goes on waiting
    behind others.
    """
    if not is_waiting(cluster):
        return cluster, ()
    # It waits behind those before it, and not behind all.
    ledger = replace(ledger, blocked=blocked)
    if cluster.queued:
        held = holding_of(_empty(replace(cluster, queued=False)))
        limit = exceeded(ledger, held)
        if ledger.spent is not None:
            return _still_waiting(cluster, line_up(cluster, "", _say_spent(ledger.spent), ledger.at))
        if limit is None:
            return _begin(cluster, ledger)
        # A limit may have been lowered. For what can no longer come others do not wait.
        where = limit.place if exceeded(ledger.alone(), held) is None else ""
        return _still_waiting(cluster, line_up(cluster, where, _say_limit(limit, cluster, ledger), ledger.at))
    after = cluster
    for group in filter(is_short, cluster.groups):
        after = after.with_group(_grown(after, group, ledger))
    after, waits = _still_waiting(cluster, settle(after, ledger))
    happened = [workers_event(after)] if after.groups != cluster.groups else []
    return after, (*happened, *waits)


def _still_waiting(before: Cluster, after: Cluster) -> tuple[Cluster, Sequence[Event]]:
    """Return a record after its turn, and the event that says so if it waits for something else now.

    How much of a limit is in use changes all the time, and is no event.
    """
    if not is_person_waiting(after) or _what_it_waits_for(after) == _what_it_waits_for(before):
        return after, ()
    return after, (told(after),)


def _what_it_waits_for(cluster: Cluster) -> tuple[str, bool] | None:
    waiting = cluster.waiting
    return None if waiting is None else (waiting.limit, waiting.reason.startswith(_OTHERS_WAIT))


def _begin(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
    """Let a cluster in that has waited. Its start counts from now."""
    after, note = _let_in(replace(cluster, queued=False, waiting=None, changed_at=ledger.at), ledger)
    words = f"There is room now. {note}" if note else "There is room now"
    return after, (Event(events.WAITING, words, {"reason": note or ""}),)


def load_waits(cluster: Cluster) -> bool:
    """Whether the load asks for more workers than a running cluster was given."""
    if cluster.state is not ClusterState.RUNNING or cluster.target is not Target.RUNNING:
        return False
    return any(is_short(group) and group.adaptive is not None for group in cluster.groups)


def grow(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record after it was given what the load asks for, as far as there is room, and the events.

    What there is no room for is noted with the reason.
    """
    if not load_waits(cluster):
        return cluster, ()
    after = cluster
    for group in cluster.groups:
        if is_short(group) and group.adaptive is not None:
            after = after.with_group(_grown(after, group, ledger))
    happened = (workers_event(after),) if after != cluster else ()
    return settle(after, ledger), happened


def _grown(cluster: Cluster, group: WorkerGroup, ledger: Ledger) -> WorkerGroup:
    """Return a group with as many of the workers that are asked for as there is room for."""
    most = most_workers(cluster, group, ledger).max_workers
    fair = ledger.fair.get(group.name)
    if group.adaptive is not None and fair is not None:
        most = min(most, fair.max_workers)
    return replace(group, wanted=max(group.wanted, min(group.asked or 0, most)))


# -- what people read --------------------------------------------------------------------------------------------------

_HELP = "Stop what is no longer needed, or ask the administrator of this gateway for more"
_HELP_SPENT = "Wait until enough of what was used is older than that, or ask the administrator of this gateway for more"


def _refusal(limit: Limit, asked: float, ledger: Ledger) -> str:
    # Clusters are counted one by one, so what is asked for is what everybody knows.
    needs = "" if limit.resource is Resource.CLUSTERS else f" it needs {limit.resource.tell(asked)}, and"
    return f"cannot create a cluster:{needs} the limit is {limit.tell(ledger.besides(limit))}. {_HELP}"


def _too_large(spec: ClusterSpec, limit: Limit) -> str:
    each = limit.resource.tell(worker_shape(spec).of(limit.resource))
    return f"cannot create a cluster: not even one worker fits. It has {each}, and the limit is {limit.tell()}"


def _say_spent(budget: str) -> str:
    return f"the budget is spent: {budget}"


def _say_rule(limit: Limit) -> str:
    return f"{limit.tell()}, set by the administrator of this gateway"


_OTHERS_WAIT = "others wait before this cluster"


def _say_limit(limit: Limit, cluster: Cluster, ledger: Ledger) -> str:
    if limit.place in ledger.blocked:  # There may be room. It is theirs.
        return f"{_OTHERS_WAIT} at the limit of {limit.tell()}"
    # Where it is asked what could ever be, nothing is known of the others.
    used = ledger.besides(limit) + holding_of(cluster).of(limit.resource) if ledger.others else None
    return f"the limit is {limit.tell(used)}"
