"""The line of those who wait for room under the limits.

How to think about it
---------------------
* In the line stand new clusters that were not let in yet (``Cluster.queued``: they hold nothing and start nothing), and
  clusters with fewer workers than they were asked by hand, or by their load, to have.
* Each waits at one limit, the one that binds. Nobody is given more there who came later, whether they stand in line or
  have just asked (``Ledger.blocked``): a request for much would else wait for ever while those for little pass.
  Who is not counted there does not wait for them. Nobody waits for a load that has its fair share (``pressure.py``).
* Whoever asks for more than they wait for takes a new place; else one would hold a place early by asking for little.
* What *number* somebody has in line changes with whoever leaves before them. It is on no record, but filled in where
  a record is shown (``placed``).
* Where those are refused for whom there is no room, only loads stand in line, and nobody waits behind them: the order
  says who gets first what becomes free.

The order
---------
It is that of arrival, but everybody arrives later the more they have *used*, by up to ``HANDICAP``: whoever has used
most of those in line by the whole of it, whoever has used half as much by half of it. What counts is one's part of what
all have used within ``WINDOW_DAYS`` (what was used a ``HALF_LIFE`` ago counts half), added to one's part of what all
hold now; of cores, memory or GPUs that of which it is the most; divided by the weight of one's group.

**Nobody starves.** A handicap is never negative and never more than ``HANDICAP``, so whoever comes that much later than
somebody stands behind them, whatever either has used and will use. Before a cluster there are thus at most those that
had come before it, and those that came within ``HANDICAP`` after it: a number that grows no more from then on, and gets
smaller with each that gets what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidegate.model import event as events
from tidegate.model import usage
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Cluster, Target, Waiting, WorkerGroup
from tidegate.model.event import Event
from tidegate.model.limits import holding_of
from tidegate.model.patterns import nearest
from tidegate.model.usage import DAY_SECONDS, Line, Use

HANDICAP = 3600.0
"""Seconds by which whoever has used most stands behind whoever has used nothing. An hour: less would be felt in no line
that is long enough to need an order, and who waits for an hour has a right to what comes next."""

HALF_LIFE = float(DAY_SECONDS)
"""Seconds after which use counts half. A day, as HTCondor has it: who computed all night comes after who did not, and
not for the rest of the week."""

WINDOW_DAYS = 7
"""Days before this one whose use counts: what is older counts less than a hundredth."""

MOST_WAITING = 20
"""How many clusters of one user may wait; whoever asks for more is refused."""


def is_waiting(cluster: Cluster) -> bool:
    """Whether a cluster stands in line."""
    return cluster.waiting is not None and cluster.target is Target.RUNNING and not cluster.state.ended


def tidied(cluster: Cluster) -> Cluster:
    """Return a cluster without its place in the line, if it has all that it was asked to have."""
    if cluster.waiting is None or cluster.queued or any(map(is_short, cluster.groups)):
        return cluster
    return replace(cluster, waiting=None)


def waits_for(cluster: Cluster) -> str | None:
    """Return at which limit others wait behind a cluster, if they do."""
    return cluster.waiting.limit or None if cluster.waiting is not None and is_waiting(cluster) else None


def is_short(group: WorkerGroup) -> bool:
    """Whether a group was asked, by hand or by the load, to have more workers than it was given."""
    return group.asked is not None and group.asked > group.wanted


def is_person_waiting(cluster: Cluster) -> bool:
    """Whether it waits for what somebody asked for by hand, and not only for what its load asks."""
    by_hand = any(is_short(group) and group.adaptive is None for group in cluster.groups)
    return is_waiting(cluster) and (cluster.queued or by_hand)


def line_up(cluster: Cluster, limit: str, reason: str, at: float) -> Cluster:
    """Return a cluster that waits at a limit; what it waited before counts."""
    since = at if cluster.waiting is None else cluster.waiting.since
    return replace(cluster, waiting=Waiting(since, limit, reason))


def placed(cluster: Cluster, places: Mapping[str, int]) -> Cluster:
    """Return a record as it is shown: with its number in line, of those that ``numbered`` gave to all."""
    waiting, place = cluster.waiting, places.get(cluster.name, 0)
    if waiting is None or waiting.place == place or not is_waiting(cluster):
        return cluster
    return replace(cluster, waiting=replace(waiting, place=place))


def numbered(line: Iterable[Cluster]) -> dict[str, int]:
    """Return the number in line of each for which a person asked, by name. Loads are counted, and told none."""
    return {cluster.name: number for number, cluster in enumerate(line, 1) if is_person_waiting(cluster)}


def told(cluster: Cluster) -> Event:
    """Return the event that tells that a cluster waits, why, and its place where it is known."""
    waiting = cluster.waiting
    data: dict[str, Any] = {} if waiting is None else {"reason": waiting.reason}
    if waiting is not None and waiting.place:
        data["place"] = waiting.place
    return Event(events.WAITING, words_of(cluster) or "", data)


def words_of(cluster: Cluster) -> str | None:
    """Return the place of a cluster in the line in words, if it waits."""
    waiting = cluster.waiting
    if waiting is None or not is_person_waiting(cluster):
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
    why = f": {cluster.waiting.reason}" if cluster.waiting is not None else ""
    return [
        f"A limit leaves room for {group.wanted} of the {group.asked} workers that are asked for{why}"
        for group in filter(is_short, cluster.groups)
    ]


# -- the order ---------------------------------------------------------------------------------------------------------


def faded(lines: Iterable[Line], now: float) -> dict[str, Use]:
    """Return what each user has used, of what is told apart by user and day; older use counts less.

    A day's use counts as of the day's end, so that of today counts in full.
    """
    used: dict[str, Use] = {}
    for line in lines:
        if line.user is not None and line.day is not None:
            age = max(0.0, now - (line.day + 1) * DAY_SECONDS)
            used[line.user] = used.get(line.user, usage.NOTHING) + line.use * 0.5 ** (age / HALF_LIFE)
    return used


def in_line(
    active: Iterable[Cluster], weights: Mapping[str, float], now: float, past: Mapping[str, Use] | None = None
) -> list[Cluster]:
    """Return those who wait, in the order in which it is their turn.

    Parameters
    ----------
    active : iterable of Cluster
        All that have not ended.
    weights : mapping of str to float
        Of groups.
    now : float
        The time, in seconds since the epoch.
    past : mapping of str to Use, optional
        What each owner has used (``faded``).
    """
    clusters = list(active)
    burden = burdens(clusters, past or {})
    waiting = [(c, burden.get(c.owner, 0.0) / weight_of(c, weights)) for c in clusters if is_waiting(c)]
    most = max((heavy for _, heavy in waiting), default=0.0)

    def turn(entry: tuple[Cluster, float]) -> tuple[float, float, bool, str]:
        cluster, heavy = entry
        since = cluster.waiting.since if cluster.waiting is not None else now
        arrival = since + (HANDICAP * heavy / most if most > 0 else 0.0)
        return arrival, since, not is_person_waiting(cluster), cluster.name

    return [cluster for cluster, _ in sorted(waiting, key=turn)]


def burdens(clusters: Iterable[Cluster], past: Mapping[str, Use]) -> dict[str, float]:
    """Return for each owner their part of what all have used, and that of what all hold, added up."""
    held: dict[str, Amounts] = {}
    for cluster in clusters:
        held[cluster.owner] = held.get(cluster.owner, NOTHING) + holding_of(cluster)
    all_held, all_used = sum(held.values(), NOTHING), sum(past.values(), usage.NOTHING)
    return {
        owner: part_of(held.get(owner, NOTHING), all_held) + _part_used(past.get(owner, usage.NOTHING), all_used)
        for owner in {*held, *past}
    }


def part_of(mine: Amounts, whole: Amounts) -> float:
    """Return the part of what all hold: of cores, memory or GPUs, that of which it is the largest."""
    return max((mine.of(r) / whole.of(r) for r in _MACHINES if whole.of(r) > 0), default=0.0)


_MACHINES = (Resource.CORES, Resource.MEMORY, Resource.GPUS)
"""What machines have. Clusters and workers are counted too, but one with many small ones has not more for it."""


def _part_used(mine: Use, whole: Use) -> float:
    pairs = (
        (mine.core_seconds, whole.core_seconds),
        (mine.gib_seconds, whole.gib_seconds),
        (mine.gpu_seconds, whole.gpu_seconds),
    )
    return max((part / of_all for part, of_all in pairs if of_all > 0), default=0.0)


def weight_of(cluster: Cluster, weights: Mapping[str, float]) -> float:
    """Return the weight of a cluster: that of the heaviest of its owner's groups, 1 where none has one."""
    said = (nearest(group, weights) for group in cluster.owner_groups)
    return max((weights[name] for name in said if name is not None), default=1.0)
