"""What users can ask about use: how much of what they, or for administrators everybody, have used, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from tidegate.control.budgets import BudgetWatch
from tidegate.control.clusters import Clusters
from tidegate.model.budgets import Standing
from tidegate.model.errors import Invalid, NotAllowed
from tidegate.model.principal import Principal
from tidegate.model.usage import DAY_SECONDS, Books, Dimension, Query
from tidegate.store.base import Store

DEFAULT_DAYS = 30
"""So many days are told of when nobody says which, today among them."""
LONGEST_DAYS = 3660
LINES_LIMIT = 20_000
"""Lines of one answer, some 4 MB of JSON: nobody reads more, and a program asks for fewer days at a time."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants to know, in their own words.

    Parameters
    ----------
    by : collection of Dimension
        By what it is told apart.
    since, until : int or None
        The first and the last day, since 1970-01-01; by default the last 30 days, until today.
    everybody : bool
        Of everybody, not only their own.
    user, group, cluster : str or None
        Only of that one.
    """

    by: Collection[Dimension] = (Dimension.DAY,)
    since: int | None = None
    until: int | None = None
    everybody: bool = False
    user: str | None = None
    group: str | None = None
    cluster: str | None = None


class Usage:
    """The books, as those read them who have used something.

    Parameters
    ----------
    store : Store
    clusters : Clusters
        Who knows what users call their clusters.
    clock : callable
        Returns the time, in seconds since the epoch.
    currency : str
        What prices are in.
    budgets : BudgetWatch, optional
        Who knows how the budgets stand.
    """

    def __init__(
        self,
        store: Store,
        clusters: Clusters,
        clock: Callable[[], float],
        currency: str = "",
        budgets: BudgetWatch | None = None,
    ) -> None:
        self._budgets = budgets
        self._store = store
        self._clusters = clusters
        self._clock = clock
        self.currency = currency

    @property
    def today(self) -> int:
        """The number of this day."""
        return int(self._clock() // DAY_SECONDS)

    async def read(self, principal: Principal, asked: Asked) -> tuple[Query, Books]:
        """Return what was used, and by which query it was found.

        Raises
        ------
        NotAllowed
            It is not theirs to read.
        Invalid
            The days make no sense, or it would be too much.
        """
        query = await self._query(principal, asked)
        books = await self._store.usage(query)
        if len(books.lines) > LINES_LIMIT:
            raise Invalid(
                f"cannot tell of this use: it would be {len(books.lines)} lines, and {LINES_LIMIT} are the most. Ask "
                "for fewer days, or tell it less apart",
                field="since",
            )
        return query, books

    async def budgets(self, principal: Principal, query: Query) -> list[Standing]:
        """Return how the budgets stand that hold for the user of a query; of several users none is told.

        The groups of others are those that they were in when they made the clusters that they have now.
        """
        if self._budgets is None or query.user is None:
            return []
        mine = query.user == principal.name
        groups = principal.groups if mine else (await self._store.groups_of_owners()).get(query.user, ())
        return await self._budgets.standings(query.user, groups)

    async def _query(self, principal: Principal, asked: Asked) -> Query:
        user = _of_whom(principal, asked)
        until = self.today if asked.until is None else asked.until
        since = until - DEFAULT_DAYS + 1 if asked.since is None else asked.since
        if min(since, until) < 0:
            raise Invalid("cannot tell of this use: there are no books of days before 1970-01-01", field="since")
        if since > until:
            raise Invalid("cannot tell of this use: the first day comes after the last", field="since")
        if until - since >= LONGEST_DAYS:
            raise Invalid(f"cannot tell of this use: {LONGEST_DAYS} days are the most", field="since")
        cluster = None if asked.cluster is None else await self._clusters.resolve(principal, asked.cluster)
        return Query(since, until, frozenset(asked.by), user, asked.group, cluster)


def _of_whom(principal: Principal, asked: Asked) -> str | None:
    """Return whose use is read; None for everybody's.

    A group's is its members', whoever they are, so it is for administrators as well.
    """
    if not principal.admin:
        if asked.everybody or asked.group is not None or asked.user not in (None, principal.name):
            raise NotAllowed(
                "cannot read the use of others: only an administrator of this gateway may. Ask for your own, without "
                "user, group and of=all"
            )
        return principal.name
    return asked.user if asked.user or asked.group or asked.everybody else principal.name
