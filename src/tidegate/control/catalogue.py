"""The clusters, held in memory for those who ask.

How to think about it
---------------------
It is a *copy*, and every question checks first whether it is still true: the store numbers its changes, so one look
at the latest number (``Store.latest_change``) tells, and if it has moved on, what changed is loaded. It does not matter
who made the change, this process or another one, and nobody has to tell the catalogue anything: whatever was committed
before a question was asked is in the answer. What is asked at the same time shares one load.

The control loop does not ask here: what it does follows from the store itself.

Every active cluster is held, and of those that have ended the newest ones: nobody pages through all of a year's history
often enough to keep it in memory. What lies further back is read from the store, by owner; of what others share, the
held ones are all that is listed.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from enum import Enum

from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.line import placed
from tidegate.model.naming import has_alias
from tidegate.model.principal import Principal
from tidegate.model.share import Grantee, grantees_of
from tidegate.store.base import Changes, Store

HELD = 5000
"""How many clusters that have ended are held: some 3 kB each, and 50 microseconds when control starts."""

EVERYTHING = 2**63 - 1
"""More than there are, as the limit of a query."""

Place = tuple[float, str]
"""Where a cluster stands in a list: when it was created, and its name."""


class Whose(str, Enum):
    """Which clusters a list is of."""

    MINE = "mine"
    SHARED = "shared"
    """Others' that are shared with the one who asks."""
    ALL = "all"
    """Both; for an administrator every cluster."""


class Entry:
    """A cluster of one revision, and what was made of it. When the cluster changes, another entry takes its place.

    ``client_credentials`` are certificate and key of its owner's client, once somebody has asked for them: to read and
    unseal them takes longer than all the rest of a reply.
    """

    __slots__ = ("_made", "_shown", "client_credentials", "cluster")

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.client_credentials: tuple[str, str] | None = None
        self._made: dict[tuple[Hashable, ...], bytes] = {}
        self._shown: Entry | None = None

    def placed(self, places: Mapping[str, int]) -> Entry:
        """Return the same with the place in line of its cluster, which moves while the cluster does not change."""
        shown = placed(self.cluster, places)
        if shown is self.cluster:
            return self
        if self._shown is None or self._shown.cluster.waiting != shown.waiting:
            self._shown = Entry(shown)
            self._shown.client_credentials = self.client_credentials
        return self._shown

    @property
    def place(self) -> Place:
        """Where it stands in a list."""
        return self.cluster.created_at, self.cluster.name

    def made(self, make: Callable[..., bytes], *about: Hashable) -> bytes:
        """Return ``make(cluster, *about)``, which is called once: a cluster is sent to its readers many times."""
        key = (make, *about)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make(self.cluster, *about)
        return made


class Catalogue:
    """The clusters of all owners.

    Parameters
    ----------
    store : Store
    held : int
        How many clusters that have ended are held.
    """

    def __init__(self, store: Store, held: int = HELD) -> None:
        self._store = store
        self._held = held
        self._entries: dict[str, Entry] = {}
        self._owners: dict[str, _Listed] = {}
        self._grantees: dict[Grantee, _Listed] = {}
        self._called: dict[tuple[str, str], dict[str, Cluster]] = {}
        self._all = _Listed()
        self._ended = 0
        self._pruned_before = 0.0
        self._latest: int | None = None
        # Ended clusters that stand before this place are not all held.
        self._horizon: Place | None = None
        self._loading = asyncio.Lock()

    async def get(self, name: str) -> Entry | None:
        """Return a cluster, or None."""
        await self._catch_up()
        entry = self._entries.get(name)
        if entry is None and self._horizon is not None:
            cluster = await self._store.load(name)
            return None if cluster is None else Entry(cluster)
        return entry

    async def called(self, owner: str, alias: str) -> Cluster | None:
        """Return the cluster of this owner that has this alias, else the latest that had it, of those held; or None."""
        await self._catch_up()
        had_it = self._called.get((owner, alias), {}).values()
        return max(had_it, key=lambda cluster: (has_alias(cluster), cluster.created_at, cluster.name), default=None)

    async def find(
        self,
        principal: Principal,
        *,
        whose: Whose = Whose.MINE,
        owner: str | None = None,
        states: Collection[ClusterState] | None = None,
        before: Place | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return clusters that ``principal`` sees, newest first: at most ``limit``, of those that stand before
        ``before``; with ``owner``, that user's among them.
        """
        await self._catch_up()
        chosen = frozenset(ClusterState if states is None else states)
        if whose is Whose.ALL and principal.admin:
            return await self._page(owner, chosen, before, limit)
        found: list[Entry] = []
        if whose is not Whose.SHARED and owner in (None, principal.name):
            found = await self._page(principal.name, chosen, before, limit)
        if whose is Whose.MINE:
            return found
        found += self._shared(principal, owner, chosen, before)
        return sorted(found, key=_place, reverse=True)[:limit]

    async def _page(
        self, owner: str | None, states: frozenset[ClusterState], before: Place | None, limit: int | None
    ) -> list[Entry]:
        """Return a page of one owner's clusters, or of everyone's."""
        listed = self._all if owner is None else self._owners.get(owner)
        page = listed.page(states, before, limit) if listed is not None else []
        if self._reaches_beyond(page, states, limit):
            found = await self._store.find(owner=owner, states=states, before=before, limit=limit or EVERYTHING)
            return [Entry(cluster) for cluster in found]
        return page

    def _shared(
        self, principal: Principal, owner: str | None, states: frozenset[ClusterState], before: Place | None
    ) -> Iterable[Entry]:
        """Return others' clusters that are shared with ``principal``, each once, in no order."""
        lists = (self._grantees.get(grantee) for grantee in grantees_of(principal))
        found = [entry for listed in lists if listed is not None for entry in listed.page(states, before, None)]
        return {
            entry.cluster.name: entry
            for entry in found
            if entry.cluster.owner != principal.name and owner in (None, entry.cluster.owner)
        }.values()

    def _reaches_beyond(self, page: list[Entry], states: frozenset[ClusterState], limit: int | None) -> bool:
        """Whether clusters belong on the page that are not held."""
        if self._horizon is None or not any(state.ended for state in states):
            return False
        return len(page) != limit or page[-1].place < self._horizon

    async def _catch_up(self) -> None:
        """Load what was committed before this call, if it is not here yet."""
        latest = await self._store.latest_change()
        while self._latest is None or self._latest < latest:
            async with self._loading:
                if self._latest is None:
                    self._begin(await self._store.snapshot(self._held))
                elif self._latest < latest:
                    self._apply(await self._store.changed_since(self._latest))

    def _begin(self, all_there_is: Changes) -> None:
        self._entries, self._owners, self._grantees, self._called = {}, {}, {}, {}
        self._all, self._ended = _Listed(), 0
        self._pruned_before = all_there_is.pruned_before
        self._apply(all_there_is)
        ended = [entry.place for entry in self._entries.values() if entry.cluster.state.ended]
        self._horizon = None if len(ended) < self._held else min(ended, default=(math.inf, ""))

    def _apply(self, changes: Changes) -> None:
        if changes.pruned_before > self._pruned_before:
            self._prune(changes.pruned_before)
        for cluster in changes.clusters:
            self._drop(cluster.name)
            self._put(cluster)
        # When history has grown too long here, the next question begins anew.
        self._latest = changes.latest if self._ended <= 2 * self._held else None

    def _prune(self, before: float) -> None:
        for cluster in [entry.cluster for entry in self._entries.values() if entry.cluster.state.ended]:
            ended_at = cluster.changed_at if cluster.stopped_at is None else cluster.stopped_at
            if ended_at < before:
                self._drop(cluster.name)
        self._pruned_before = before

    def _put(self, cluster: Cluster) -> None:
        entry = self._entries[cluster.name] = Entry(cluster)
        self._ended += cluster.state.ended
        self._all.put(entry)
        self._owners.setdefault(cluster.owner, _Listed()).put(entry)
        for share in cluster.shares:
            self._grantees.setdefault(share.grantee, _Listed()).put(entry)
        if cluster.alias:
            self._called.setdefault((cluster.owner, cluster.alias), {})[cluster.name] = cluster

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        self._ended -= entry.cluster.state.ended
        self._all.drop(name)
        if self._owners[entry.cluster.owner].drop(name):
            del self._owners[entry.cluster.owner]
        for share in entry.cluster.shares:
            if self._grantees[share.grantee].drop(name):
                del self._grantees[share.grantee]
        if entry.cluster.alias:
            called = self._called[entry.cluster.owner, entry.cluster.alias]
            del called[name]
            if not called:
                del self._called[entry.cluster.owner, entry.cluster.alias]


class _Listed:
    """Clusters that are listed together, and the lists that were made of them since one of them changed."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._lists: dict[frozenset[ClusterState], list[Entry]] = {}

    def put(self, entry: Entry) -> None:
        self._entries[entry.cluster.name] = entry
        self._lists.clear()

    def drop(self, name: str) -> bool:
        """Forget a cluster; whether it was the last."""
        del self._entries[name]
        self._lists.clear()
        return not self._entries

    def page(self, states: frozenset[ClusterState], before: Place | None, limit: int | None) -> list[Entry]:
        """Return those in these states, newest first."""
        # Kept the other way round, in which one can search for a place.
        found = self._lists.get(states)
        if found is None:
            chosen = (entry for entry in self._entries.values() if entry.cluster.state in states)
            found = self._lists[states] = sorted(chosen, key=_place)
        end = len(found) if before is None else bisect_left(found, before, key=_place)
        start = 0 if limit is None else max(0, end - limit)
        return found[start:end][::-1]


def _place(entry: Entry) -> Place:
    return entry.place
