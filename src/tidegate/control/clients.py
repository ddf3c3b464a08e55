"""Whether clients are connected to each cluster, as the proxies count them.

A scheduler cannot tell: it counts itself among its clients, and does not count a cluster object that only looks. Who
connects does so through a proxy, so the proxies know.

How long there has been none is measured here, by a clock that nobody sets, from the moment at which *this* process saw
it: what happened while control was away, or a proxy, nobody knows, and the time counts anew. The record is told when
clients come and go; it is there for people to read, and to say when to look closer (``model/ends.py``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from tidegate.control.records import Records
from tidegate.model.cluster import Cluster
from tidegate.model.ends import see_clients
from tidegate.model.errors import TidegateError
from tidegate.model.event import Event

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often the counts are compared: a few dictionary look-ups for each cluster."""


class Counts(Protocol):
    """What is asked of the routes."""

    def open_ways(self) -> set[str]:
        """Return the clusters to which a way is open."""

    def connections(self, name: str) -> int | None:
        """Return how many connections there are to this cluster, None if nobody knows."""


class Clients:
    """Counts.

    Parameters
    ----------
    records : Records
    counts : Counts
    clock : callable
        Returns the time, in seconds since the epoch.
    steady : callable
        Returns seconds that nobody sets.
    """

    def __init__(
        self, records: Records, counts: Counts, clock: Callable[[], float], steady: Callable[[], float]
    ) -> None:
        self._records = records
        self._counts = counts
        self._clock = clock
        self._steady = steady
        # By cluster: since when it has had no client, by the steady clock.
        self._none_since: dict[str, float] = {}
        # By cluster: what its record was told last: whether there are clients, None where nobody knows.
        self._told: dict[str, bool | None] = {}

    async def run(self) -> None:
        """Compare for ever."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("cannot count clients; next try in %g s", LOOK_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def clientless(self, name: str) -> float | None:
        """Return for how many seconds a cluster has had no client; None if it has one, or nobody knows."""
        since = self._none_since.get(name)
        # The last look was a moment ago: a client may have come, or a proxy gone.
        if since is None or self._counts.connections(name) != 0:
            return None
        return self._steady() - since

    async def look(self) -> None:
        """Compare once, and tell the records what changed."""
        ways = self._counts.open_ways()
        for name in self._told.keys() - ways:
            self._forget(name)
        for name in sorted(ways):
            count = self._counts.connections(name)
            if count == 0:
                self._none_since.setdefault(name, self._steady())
            else:
                self._none_since.pop(name, None)
            present = None if count is None else count > 0
            if name not in self._told or self._told[name] is not present:
                await self._tell(name, present)

    async def _tell(self, name: str, present: bool | None) -> None:
        def change(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            if cluster.spec.no_client_timeout is None:
                return cluster, ()
            since = self._none_since.get(name)
            seconds = None if since is None else self._steady() - since
            return see_clients(cluster, seconds, self._clock(), known=present is not None), ()

        try:
            await self._records.change(name, change)
        except TidegateError as error:
            log.info("%s", error.message)  # told at the next look
            return
        self._told[name] = present

    def _forget(self, name: str) -> None:
        self._told.pop(name, None)
        self._none_since.pop(name, None)
