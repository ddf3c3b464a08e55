"""Watching budgets: what is used of each, who gets nothing new, and what is to end.

Use grows with time, not with requests, so how budgets stand is looked up every half minute, not in the transaction of a
request: a budget of hours is overdrawn by seconds. What is remembered here is only the last look. Since when a cluster
counts for a budget that is spent stands in its record (``Activity.spent_since``), so no restart gives it new grace.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import cache, partial

from tidegate.control.records import Records
from tidegate.model.budgets import Budgets, Standing
from tidegate.model.cluster import Cluster, Target
from tidegate.model.errors import Busy
from tidegate.model.event import Event
from tidegate.model.limits import Scope, ScopeKind
from tidegate.model.usage import DAY_SECONDS, Dimension, Query, Use

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two looks: each adds up the rows of the window."""

TOLD_AT_ONCE = 50
"""Of how many users and groups a look finds out when something of their spent budget is left again: each is a query
that is needed once a day."""


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
        self._seen_at = -math.inf
        self._reading = asyncio.Lock()
        # Of what may be spent: what was used on each day before this one, which changes no more.
        self._before: tuple[int, dict[Scope, Mapping[int, Use]]] = 0, {}
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
        await self._see()
        spent_of = cache(lambda owner, groups: self.budgets.spent(owner, groups, self._used))
        for cluster in await self._records.store.active():
            spent = spent_of(cluster.owner, cluster.owner_groups)
            if (spent is None) == (cluster.activity.spent_since is None) or cluster.target is not Target.RUNNING:
                continue
            try:
                await self._records.change(cluster.name, partial(self._noted, spent=spent))
            except Busy as error:  # The next look comes soon, and the others must not wait for it.
                log.info("%s", error.message)

    async def _see(self) -> None:
        """Read what is used."""
        today = self._today
        used: dict[Scope, Use] = {}
        for dimension, kind in ((Dimension.USER, ScopeKind.USER), (Dimension.GROUP, ScopeKind.GROUP)):
            query = Query(today - self.budgets.days + 1, today, frozenset({dimension}))
            for line in (await self._records.store.usage(query)).lines:
                used[Scope(kind, (line.user if dimension is Dimension.USER else line.group) or "")] = line.use
        before = self._before[1] if self._before[0] == today else {}
        spent = [scope for scope, use in used.items() if self.budgets.may_be_spent(scope, use)]
        for scope in [scope for scope in spent if scope not in before][:TOLD_AT_ONCE]:
            before[scope] = await self._by_day(scope, today)
        self._used, self._before, self._seen_at = used, (today, before), self._clock()

    async def _by_day(self, scope: Scope, today: int) -> Mapping[int, Use]:
        """Return what was used within a scope on each day of the window before this one."""
        user = scope.name if scope.kind is ScopeKind.USER else None
        group = scope.name if scope.kind is ScopeKind.GROUP else None
        query = Query(today - self.budgets.days + 1, today - 1, frozenset({Dimension.DAY}), user, group)
        return {line.day: line.use for line in (await self._records.store.usage(query)).lines if line.day is not None}

    @property
    def _today(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _noted(self, cluster: Cluster, *, spent: Standing | None) -> tuple[Cluster, tuple[Event, ...]]:
        activity = replace(cluster.activity, spent_since=None, spent_grace=0.0, spent_why="")
        if spent is not None:
            since = self._clock() if cluster.activity.spent_since is None else cluster.activity.spent_since
            grace, why = self.budgets.grace, spent.budget.words
            activity = replace(activity, spent_since=since, spent_grace=grace, spent_why=why)
        return replace(cluster, activity=activity), ()

    def spent(self, owner: str, groups: Collection[str]) -> str | None:
        """Return which budget is spent that the clusters of ``owner`` count for, in words; None if none is."""
        standing = self.budgets.spent(owner, groups, self._used)
        if standing is None:
            return None
        today, before = self._before
        again = standing.left_again(before[standing.scope], today) if standing.scope in before else None
        if again is None:
            return standing.words
        first = datetime.fromtimestamp(again * DAY_SECONDS, timezone.utc)
        return f"{standing.words}; if nothing more is used, some is left again on {first:%F} (UTC)"

    async def standings(self, owner: str, groups: Collection[str]) -> list[Standing]:
        """Return how the budgets stand that hold for a user, as of the last look, or of now where that is long ago."""
        if not self.budgets:
            return []
        async with self._reading:
            if not 0 <= self._clock() - self._seen_at <= INTERVAL:
                await self._see()
        return self.budgets.standings(owner, groups, self._used)
