"""The table of ways to the clusters, as control has pushed it.

It lives in memory only and outlives control: without control the proxy goes on with what it knows. A proxy process
that has just started knows nothing, which is not the same as "there is no such cluster": until the first full table has
come, ``find`` waits for it (for a while), so that a client that reconnects at this moment is not told a lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from tidegate.wire.proxy import Route

WITHDRAWN_KEPT = 1_000
"""So many withdrawn routes' ticket keys are remembered, so that who had a ticket is told in words that it is over."""


class RouteTable:
    """Routes by cluster name.

    Parameters
    ----------
    withdrawn : callable
        Called with a name when its route is gone: cut its connections.
    secret_changed : callable
        Called with a name when its dashboard secret or its ticket key is another: open pages are to end.
    shares_withdrawn : callable
        Called with a name when its share epoch has risen: what others than the owner have open is to end.
    replaced : callable
        Called when a whole table has come: a connection that was taken over may be of a cluster that is not in it.
    wait_seconds : float
        How long ``find`` waits for the first full table.
    """

    def __init__(
        self,
        *,
        withdrawn: Callable[[str], None] = lambda name: None,
        secret_changed: Callable[[str], None] = lambda name: None,
        shares_withdrawn: Callable[[str], None] = lambda name: None,
        replaced: Callable[[], None] = lambda: None,
        wait_seconds: float = 10.0,
    ) -> None:
        self._routes: dict[str, Route] = {}
        self._withdrawn: dict[str, str] = {}
        self._loaded = asyncio.Event()
        self._on_withdrawn = withdrawn
        self._on_secret_changed = secret_changed
        self._on_shares_withdrawn = shares_withdrawn
        self._on_replaced = replaced
        self._wait_seconds = wait_seconds

    def __len__(self) -> int:
        return len(self._routes)

    @property
    def loaded(self) -> bool:
        """Whether a whole table has come: only then is a name that is not in it no cluster's."""
        return self._loaded.is_set()

    def get(self, name: str) -> Route | None:
        """Return the route to a cluster, None if it has none (yet, or any more)."""
        return self._routes.get(name)

    async def find(self, name: str) -> Route | None:
        """Return the route to a cluster; waits for the first table if none has come yet."""
        route = self._routes.get(name)
        if route is None and not self._loaded.is_set():
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await self._loaded.wait()
            except TimeoutError:
                return None
            route = self._routes.get(name)
        return route

    def withdrawn_key(self, name: str) -> str | None:
        """Return the ticket key of a route that was withdrawn not long ago."""
        return self._withdrawn.get(name)

    def replace(self, routes: Iterable[Route]) -> None:
        """Make this the whole table."""
        wanted = {route.name: route for route in routes}
        for name in [name for name in self._routes if name not in wanted]:
            self.delete(name)
        for route in wanted.values():
            self.put(route)
        self._loaded.set()
        self._on_replaced()

    def put(self, route: Route) -> None:
        """Add a route, or change it. Open connections go on."""
        before = self._routes.get(route.name)
        self._routes[route.name] = route
        self._withdrawn.pop(route.name, None)
        if before is not None and _secrets(before) != _secrets(route):
            self._on_secret_changed(route.name)
        if before is not None and before.share_epoch < route.share_epoch:
            self._on_shares_withdrawn(route.name)

    def delete(self, name: str) -> None:
        """Withdraw a route; its connections are cut."""
        route = self._routes.pop(name, None)
        if route is None:
            return
        self._withdrawn[name] = route.ticket_key
        while len(self._withdrawn) > WITHDRAWN_KEPT:
            del self._withdrawn[next(iter(self._withdrawn))]
        self._on_withdrawn(name)


def _secrets(route: Route) -> tuple[str, str]:
    return route.dashboard_secret, route.ticket_key
