"""Handing out what has become free under the limits, and asking loads for what is not theirs while others wait.

A part of the control loop, on its slow timer: the order of the line and the fair sizes are worked out for all clusters
at once (``model/line.py``, ``model/pressure.py``). Whose turn would change nothing, as the records were when the look
began, is not tried; each change is made by itself, in a transaction with the ledger as it is then. A look thus costs
what *changes*, not a transaction for each that waits; what became free meanwhile is found by the next one.

What is remembered from look to look may be forgotten: the fair sizes, to which a load is held that grows meanwhile, the
numbers in line, and what was used, which is read anew every half minute while somebody waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from tidegate.control.records import Records
from tidegate.model.admission import serve
from tidegate.model.cluster import Cluster
from tidegate.model.ledgers import Ledgers
from tidegate.model.limits import Rules
from tidegate.model.line import WINDOW_DAYS, faded, in_line, is_waiting, waits_for
from tidegate.model.policy import Capacity
from tidegate.model.pressure import FairSize, Sharing, give_back
from tidegate.model.usage import DAY_SECONDS, Dimension, Query, Use

READ_USE = 30.0
"""Seconds after which what was used is read anew: each time the rows of a week are added up."""


class HandingOut:
    """Gives those who wait their turns.

    Parameters
    ----------
    records : Records
        Whose decisions are told by ``records.fair`` what is fair.
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, records: Records, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock
        self._past: Mapping[str, Use] = {}
        self._read_at = -math.inf

    async def hand_out(self, active: Sequence[Cluster]) -> None:
        """Look at all clusters that have not ended, and give those who wait what there is, in order."""
        if not any(map(is_waiting, active)):
            self._records.fair = {}
            self._records.number([])
            return
        rules = self._records.rules.overlaid(await self._records.store.rules())
        active = await self._share_out(active, rules)
        ledgers, waiting, blocked = Ledgers(active, rules), [], frozenset[str]()
        for cluster in in_line(active, rules.weights, self._clock(), await self._used()):
            served = cluster
            if self._gets_something(cluster, ledgers, blocked):
                served = await self._records.admit(cluster.name, partial(serve, blocked=blocked)) or cluster
                ledgers.put(served)
            if is_waiting(served):
                waiting.append(served)
                blocked |= {limit for limit in (waits_for(served),) if limit is not None}
        self._records.number(waiting)

    def _gets_something(self, cluster: Cluster, ledgers: Ledgers, blocked: frozenset[str]) -> bool:
        """Whether a turn would change anything: else it is not worth a transaction, of which each would need one."""
        ledger = self._records.informed(cluster, ledgers.ledger(cluster, self._clock()))
        after, happened = serve(cluster, ledger, blocked=blocked)
        return bool(happened) or after != cluster

    async def _share_out(self, active: Sequence[Cluster], rules: Rules) -> list[Cluster]:
        """See what is fair, and have those give back who have more while others wait; return all as they are then."""
        frozen = {c.name for c in active if self._records.spent(c.owner, c.owner_groups) is not None}
        sharing = Sharing(active, rules.limits_of, rules.weights, frozen)
        self._records.fair = _by_cluster(sharing.sizes())
        now = self._clock()
        now_are = {cluster.name: cluster for cluster in active}
        for size in sharing.to_give_back(now):
            changed = await self._records.change(size.cluster, partial(give_back, size=size, now=now))
            if changed is not None:
                now_are[size.cluster] = changed
        return list(now_are.values())

    async def _used(self) -> Mapping[str, Use]:
        now = self._clock()
        if not 0 <= now - self._read_at < READ_USE:
            today = int(now // DAY_SECONDS)
            query = Query(today - WINDOW_DAYS, today, frozenset({Dimension.USER, Dimension.DAY}))
            self._past = faded((await self._records.store.usage(query)).lines, now)
            self._read_at = now
        return self._past


def _by_cluster(sizes: Collection[FairSize]) -> dict[str, dict[str, Capacity]]:
    found: dict[str, dict[str, Capacity]] = {}
    for size in sizes:
        found.setdefault(size.cluster, {})[size.group] = size.capacity
    return found
