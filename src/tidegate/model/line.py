"""The line of those who wait for room under the limits, where they wait instead of being refused.

How to think about it
---------------------
* In the line stand new clusters that were not let in yet (``Cluster.queued``: they hold nothing and start nothing), and
  clusters that were asked by hand to have more workers than there was room for. A load that asks for more does not
  stand in line: it gets what they leave.
* Each waits at one limit, the one that binds. Nobody is given more there who came later, whether they stand in line or
  have just asked (``Ledger.blocked``): a request for much would else wait for ever while those for little pass.
  Who is not counted there does not wait for them.
* The order is fair by use: first comes who holds least, as a share of what all hold, by their weight. Whoever has
  waited for ``PATIENCE`` goes before all who have not, in the order in which they came; so everybody's turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tidegate.model import event as events
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Cluster, Target, Waiting, WorkerGroup
from tidegate.model.event import Event
from tidegate.model.limits import holding_of

PATIENCE = 600.0
"""Seconds after which a place in the line counts by its age alone. Ten minutes: after that a person gives up."""

MOST_WAITING = 20
"""How many clusters of one user may wait; whoever asks for more is refused."""


def is_waiting(cluster: Cluster) -> bool:
    """Whether a cluster stands in line."""
    return cluster.waiting is not None and cluster.target is Target.RUNNING and not cluster.state.ended


def waits_for(cluster: Cluster) -> str | None:
    """Return at which limit others wait behind a cluster, if they do."""
    return cluster.waiting.limit or None if cluster.waiting is not None and is_waiting(cluster) else None


def is_short_by_hand(group: WorkerGroup) -> bool:
    """Whether a group was asked by hand to have more workers than it was given."""
    return group.adaptive is None and group.asked is not None and group.asked > group.wanted


def line_up(cluster: Cluster, limit: str, reason: str, at: float, place: int = 0) -> Cluster:
    """Return a cluster that waits at a limit; what it waited before counts."""
    since = at if cluster.waiting is None else cluster.waiting.since
    return replace(cluster, waiting=Waiting(since, limit, reason, place))


def told(cluster: Cluster) -> Event:
    """Return the event that tells a cluster's place in the line."""
    waiting = cluster.waiting
    data = {} if waiting is None else {"place": waiting.place, "reason": waiting.reason}
    return Event(events.WAITING, words_of(cluster) or "", data)


def words_of(cluster: Cluster) -> str | None:
    """Return the place of a cluster in the line in words, if it waits."""
    waiting = cluster.waiting
    if waiting is None or not is_waiting(cluster):
        return None
    place = f" as number {waiting.place} in line" if waiting.place else ""
    what = "It waits" if cluster.queued else "Workers wait"
    return f"{what} for room{place}: {waiting.reason}"


def shortage(cluster: Cluster) -> list[str]:
    """Return in sentences what limits leave a cluster without, and its place in the line."""
    if cluster.state.ended or cluster.target is not Target.RUNNING:
        return []
    if (words := words_of(cluster)) is not None:
        return [words]
    return [
        f"A limit leaves room for {group.wanted} of the {group.asked} workers that are asked for"
        for group in cluster.groups
        if group.asked is not None and group.asked > group.wanted
    ]


def in_line(active: Iterable[Cluster], weights: Mapping[str, float], now: float) -> list[Cluster]:
    """Return those who wait, in the order in which it is their turn."""
    clusters = list(active)
    used: dict[str, Amounts] = {}
    for cluster in clusters:
        used[cluster.owner] = used.get(cluster.owner, NOTHING) + holding_of(cluster)
    whole = sum(used.values(), NOTHING)

    def turn(cluster: Cluster) -> tuple[bool, float, float, str]:
        since = cluster.waiting.since if cluster.waiting is not None else now
        patient = now - since < PATIENCE
        share = _share(used[cluster.owner], whole) / _weight(cluster, weights)
        return patient, share if patient else 0.0, since, cluster.name

    return sorted(filter(is_waiting, clusters), key=turn)


def _share(mine: Amounts, whole: Amounts) -> float:
    """Return the part of what all hold: of the resource of which it is the largest."""
    return max((mine.of(r) / whole.of(r) for r in Resource if whole.of(r) > 0), default=0.0)


def _weight(cluster: Cluster, weights: Mapping[str, float]) -> float:
    return max((weights[group] for group in cluster.owner_groups if group in weights), default=1.0)
