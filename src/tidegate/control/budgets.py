"""Watching budgets: what is used of each, who gets nothing new, and what is to end.

Use grows with time, not with requests, so how budgets stand is looked up every half minute, not in the transaction of a
request: a budget of hours is overdrawn by seconds. What is remembered here is only the last look. Since when a cluster
counts for a budget that is spent stands in its record (``Activity.spent_since``), so no restart gives it new grace.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from tidegate.control.records import Records
from tidegate.model.budgets import Budgets, Standing
from tidegate.model.cluster import Cluster, Target
from tidegate.model.event import Event
from tidegate.model.limits import Scope, ScopeKind
from tidegate.model.usage import DAY_SECONDS, Dimension, Query, Use

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two looks: each adds up the rows of the window."""


class BudgetWatch:
    """Looks how the budgets stand, and tells the records.

    Parameters
    ----------
    budgets : Budgets
    records : Records
        Whose decisions are told by ``records.spent`` what is spent.
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, budgets: Budgets, records: Records, clock: Callable[[], float]) -> None:
        self.budgets = budgets
        self._records = records
        self._clock = clock
        self._used: Mapping[Scope, Use] = {}
        records.spent = self.spent

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("cannot see how the budgets stand; next try in %g s", INTERVAL)
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """See what is used, and note in each cluster whether a budget is spent that it counts for."""
        if not self.budgets:
            return
        self._used = await self._read()
        for cluster in await self._records.store.active():
            spent = self.budgets.spent(cluster.owner, cluster.owner_groups, self._used)
            if (spent is None) != (cluster.activity.spent_since is None) and cluster.target is Target.RUNNING:
                await self._records.change(cluster.name, lambda c, spent=spent: self._noted(c, spent))  # type: ignore[misc]

    async def _read(self) -> dict[Scope, Use]:
        today = int(self._clock() // DAY_SECONDS)
        used: dict[Scope, Use] = {}
        for dimension, kind in ((Dimension.USER, ScopeKind.USER), (Dimension.GROUP, ScopeKind.GROUP)):
            query = Query(today - self.budgets.days + 1, today, frozenset({dimension}))
            for line in (await self._records.store.usage(query)).lines:
                used[Scope(kind, (line.user if dimension is Dimension.USER else line.group) or "")] = line.use
        return used

    def _noted(self, cluster: Cluster, spent: Standing | None) -> tuple[Cluster, tuple[Event, ...]]:
        activity = replace(cluster.activity, spent_since=None, spent_grace=0.0, spent_why="")
        if spent is not None:
            since = self._clock() if cluster.activity.spent_since is None else cluster.activity.spent_since
            grace, why = self.budgets.grace, spent.budget.words
            activity = replace(activity, spent_since=since, spent_grace=grace, spent_why=why)
        return replace(cluster, activity=activity), ()

    def spent(self, owner: str, groups: Collection[str]) -> str | None:
        """Return which budget is spent that the clusters of ``owner`` count for, in words; None if none is."""
        standing = self.budgets.spent(owner, groups, self._used)
        return None if standing is None else standing.words

    async def standings(self, owner: str, groups: Collection[str]) -> list[Standing]:
        """Return how the budgets stand that hold for a user, as of now."""
        if not self.budgets:
            return []
        return self.budgets.standings(owner, groups, await self._read())
