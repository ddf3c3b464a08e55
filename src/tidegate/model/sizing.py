"""What becomes of a cluster's record when somebody sizes it, limits it or has it stopped, and what its history tells.

Whoever does that to a cluster that is not their own is named: in the event, and where it bounds or ends the cluster in
the record, for its owner to read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tidegate.model import admission, policy, reasons
from tidegate.model import event as events
from tidegate.model.cluster import Adaptive, Cluster, ClusterState, Target, WorkerGroup
from tidegate.model.errors import Conflict, Invalid
from tidegate.model.event import Event
from tidegate.model.limits import Ledger
from tidegate.model.line import tidied
from tidegate.model.principal import Principal

LARGEST_LIMIT = 1_000_000
"""Workers that a cluster may be allowed at the most: what the setting ``limits.cluster.workers`` takes."""

_SHOWN = 64


@dataclass(frozen=True, slots=True)
class Sized:
    """A record after it was sized: the cluster, the events that tell of it, and which limit shrank what was asked."""

    cluster: Cluster
    events: tuple[Event, ...]
    note: str | None = None


def stranger(principal: Principal, cluster: Cluster) -> str | None:
    """Return who ``principal`` is, in words, if they do something to a cluster that is not their own; else None."""
    if not principal.actor and principal.name == cluster.owner:
        return None
    return f"administrator {principal.who}" if principal.admin or principal.actor else principal.who


def requested(cluster: Cluster, by: Principal, note: str | None = None) -> Event:
    """Return the first event of a cluster; ``note`` tells how it differs from what was asked."""
    words, data = _signed("The cluster was requested", {"options": dict(cluster.options)}, cluster, by)
    if note is None:
        return Event(events.REQUESTED, words, data)
    return Event(events.REQUESTED, f"{words}. {note}", {**data, "note": note})


def create(cluster: Cluster, by: Principal, note: str | None, ledger: Ledger) -> tuple[Cluster, tuple[Event, ...]]:
    """Let a new cluster in, and return it as it may begin, with its first event.

    Raises
    ------
    LimitReached
        There is no room for it.
    """
    admitted, cut = admission.admit_new(cluster, ledger)
    told = " ".join(words for words in (note, cut) if words)
    return admitted, (requested(cluster, by, told or None),)


def scale(cluster: Cluster, group: str, count: int, by: Principal, ledger: Ledger) -> Sized:
    """Set the size of a group by hand, as far as the limits leave room, and turn its adaptive scaling off."""
    before = _group(cluster, group)
    size = policy.fit(admission.most_workers(cluster, before, ledger), count)
    asked, note = min(count, admission.most_workers(cluster, before, ledger.alone()).max_workers), size.note
    waits = ledger.line is not None and asked > size.count
    if waits and note is not None:
        note = f"{note} The others follow when {'there is room' if ledger.spent is None else 'the budget allows it'}."
    if waits and (before.adaptive is not None or asked > (before.asked or 0)):
        # More than it waits for by hand: for that it waits from now on.
        cluster = replace(cluster, waiting=None)
    after = replace(before, wanted=size.count, adaptive=None, asked=asked if waits else None)
    sized = _resized(cluster, after, by, note)
    return replace(sized, cluster=admission.settle(sized.cluster, ledger))


def adapt(cluster: Cluster, group: str, minimum: Any, maximum: Any, by: Principal, ledger: Ledger) -> Sized:
    """Let the load set the size of a group, within bounds (None: no bound) and limits."""
    before = _group(cluster, group)
    now = admission.most_workers(cluster, before, ledger)
    ever = admission.most_workers(cluster, before, ledger.alone())
    bounds, note = policy.fit_adaptive(ever, now, minimum, maximum)
    # It is the load that asks from now on, and its wait begins then.
    return _resized(replace(cluster, waiting=None), _within(before, bounds), by, note)


def stop_adapting(cluster: Cluster, group: str, by: Principal) -> Sized:
    """Leave a group at the size that it has."""
    sized = _resized(cluster, replace(_group(cluster, group), adaptive=None, asked=None), by)
    return replace(sized, cluster=tidied(sized.cluster))


def limit(cluster: Cluster, most: int, by: Principal) -> Sized:
    """Set the most workers that a cluster may have.

    What runs goes on: only the bounds between which the load decides are drawn in, and the next size that is asked for.

    Raises
    ------
    Conflict
        The cluster has ended or is ending.
    """
    if cluster.state.ended or cluster.target is not Target.RUNNING:
        raise Conflict(f"cannot limit cluster {cluster.name}: it has ended, or is ending")
    who = by.who if by.actor else f"administrator {by.who}"
    spec = replace(cluster.spec, max_workers=most, max_workers_reason=f"set by {who}")
    groups = tuple(_drawn_in(group, most) for group in cluster.groups)
    limited = tidied(replace(cluster, spec=spec, groups=groups))
    if limited == cluster:
        return Sized(cluster, ())
    words = f"At most {_workers(most)} may run: set by {who}"
    return Sized(limited, (Event(events.LIMITED, words, {"max_workers": most, "by": by.who}),))


def stop(cluster: Cluster, by: Principal) -> Sized:
    """Have a cluster stopped; its owner reads who it was, if it was somebody else."""
    if cluster.target is Target.STOPPED:
        return Sized(cluster, ())
    who = stranger(by, cluster)
    why = reasons.reason(reasons.STOPPED_BY, who=who) if who else None
    return Sized(replace(cluster, target=Target.STOPPED, reason=why, waiting=None), ())


def check_limit(value: Any) -> int:
    """Return ``value`` if a cluster can be limited to so many workers, else raise ``Invalid``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_LIMIT:
        rule = f"max_workers must be a whole number from 0 to {LARGEST_LIMIT:,}"
        raise Invalid(f"cannot limit the cluster: {rule}", field="max_workers")
    return value


def _drawn_in(group: WorkerGroup, most: int) -> WorkerGroup:
    if group.adaptive is None or group.adaptive.maximum <= most:
        return group
    return _within(group, Adaptive(min(group.adaptive.minimum, most), most))


def _within(group: WorkerGroup, bounds: Adaptive) -> WorkerGroup:
    asked = None if group.asked is None else min(group.asked, bounds.maximum)
    wanted = max(bounds.minimum, min(group.wanted, bounds.maximum))
    return replace(group, wanted=wanted, adaptive=bounds, asked=asked)


def _group(cluster: Cluster, name: str) -> WorkerGroup:
    if cluster.state is not ClusterState.RUNNING or cluster.target is not Target.RUNNING:
        why = f": {cluster.reason.message}" if cluster.reason is not None else ""
        raise Conflict(f"cluster {cluster.name} is not running{why}")
    try:
        return cluster.group(name)
    except KeyError:
        known = ", ".join(g.name for g in cluster.groups)
        raise Invalid(
            f"cannot scale the worker group {show_name(name)}: cluster {cluster.name} has {known}", field="group"
        ) from None


def show_name(name: str) -> str:
    """Return a name from outside as it can stand in a message: not longer than a line, and no control characters."""
    text = "".join(c if c.isprintable() else "?" for c in name[:_SHOWN])
    return text + "..." if len(name) > _SHOWN else text


def _resized(cluster: Cluster, group: WorkerGroup, by: Principal, note: str | None = None) -> Sized:
    after = cluster.with_group(group)
    if after == cluster:
        return Sized(cluster, (), note)
    bounds = group.adaptive
    words = f"{_workers(group.wanted)} {'is' if group.wanted == 1 else 'are'} wanted"
    if bounds is not None:
        words = f"Between {bounds.minimum} and {bounds.maximum} workers are wanted, as the load asks"
    data: dict[str, Any] = {
        "group": group.name,
        "wanted": group.wanted,
        "minimum": bounds.minimum if bounds else None,
        "maximum": bounds.maximum if bounds else None,
    }
    return Sized(after, (Event(events.SCALED, *_signed(words, data, cluster, by)),), note)


def _signed(words: str, data: dict[str, Any], cluster: Cluster, by: Principal) -> tuple[str, dict[str, Any]]:
    """Return words and data of an event, with whoever did it to a cluster that is not their own."""
    who = stranger(by, cluster)
    return (f"{words} ({who})", {**data, "by": by.who}) if who else (words, data)


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"
