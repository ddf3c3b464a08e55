"""The table of routes, and keeping every proxy process in step with it.

The table is held here, in memory: read from the store once, changed by ``put`` and ``delete``, pushed to each proxy as
a whole when it is connected and as changes after that. ``put`` returns when every live proxy has acknowledged, since
RUNNING is said right after it, and a client connects the moment it reads that.

A proxy process announces itself by its socket ``run/proxy-<pid>.sock``. It may come and go at any time, and outlives
control; one that is alive but does not answer is dropped, so that it holds nobody up, and brought up to date when it
answers again. The loss of a proxy is never the loss of a route.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tidegate.control.credentials import route_to
from tidegate.control.proxy_link import Change, ProxyLink
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import TidegateError
from tidegate.store.base import Store
from tidegate.wire.proxy import Route

log = logging.getLogger(__name__)

SCAN_SECONDS = 1.0
"""How often to look for new proxies. One that is started has no routes until it is found."""
ACKNOWLEDGE_SECONDS = 5.0
"""How long a proxy may take to acknowledge. It does so between two events of its loop, in microseconds; one that takes
seconds is stopped or wedged."""

_SOCKET = re.compile(r"proxy-(\d+)\.sock")


class RouteTable(Protocol):
    """What the executor asks of the routes."""

    async def put(self, route: Route) -> None:
        """Open a way, or change it; return when it is open in every live proxy."""

    async def delete(self, name: str) -> None:
        """Close the way to a cluster and cut its connections; return when every live proxy has done so."""

    async def raise_epoch(self, name: str, epoch: int) -> None:
        """End what others see of a cluster's dashboard by tickets of earlier share epochs.

        Return when every live proxy has done so; nothing is opened where no way is open.
        """


class Routing:
    """The routes of all running clusters, in all proxies.

    Parameters
    ----------
    store : Store
    folder : Path
        Where the proxies' sockets are.
    patience : float
        Seconds that a proxy may take to acknowledge a change.
    """

    def __init__(self, store: Store, folder: Path, *, patience: float = ACKNOWLEDGE_SECONDS) -> None:
        self._store = store
        self._folder = folder
        self._patience = patience
        self._table: dict[str, Route] = {}
        # Who opens a way may have read the record before it was changed: an epoch never falls.
        self._epochs: dict[str, int] = {}
        self._links: dict[str, ProxyLink] = {}
        self._directory: int | None = None

    async def start(self) -> None:
        """Read the routes from the store and connect to the proxies that are there."""
        for cluster in await self._store.active():
            if cluster.state is not ClusterState.RUNNING or cluster.target is not Target.RUNNING:
                continue
            await self._admit(cluster)
        # Through a descriptor, because a Unix socket's path is limited to 107 bytes and the folder may lie deep.
        self._directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._scan()
        await self._settle(list(self._links.values()))

    async def run(self) -> None:
        """Look for proxies that come and go, until cancelled."""
        while True:
            self._scan()
            await asyncio.sleep(SCAN_SECONDS)

    async def close(self) -> None:
        """Let go of all proxies. They keep their routes and go on."""
        for link in self._links.values():
            await link.close()
        self._links.clear()
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    async def put(self, route: Route) -> None:
        """Open a way, or change it; return when it is open in every live proxy."""
        epoch = max(route.share_epoch, self._epochs.get(route.name, 0))
        self._table[route.name] = route = replace(route, share_epoch=epoch)
        await self._push(Change("put", {"route": route.to_json()}))

    async def raise_epoch(self, name: str, epoch: int) -> None:
        """End what others see of a cluster's dashboard by tickets of earlier share epochs."""
        self._epochs[name] = max(epoch, self._epochs.get(name, 0))
        if name in self._table:
            await self.put(self._table[name])

    async def delete(self, name: str) -> None:
        """Close the way to a cluster and cut its connections; return when every live proxy has done so."""
        self._table.pop(name, None)
        self._epochs.pop(name, None)
        await self._push(Change("delete", {"name": name}))

    async def end_vouched(self, by: str) -> None:
        """End the dashboards that are open because of a session (its mark) or a token (its id) that has ended."""
        await self._push(Change("end", {"by": by}))

    def connections(self, name: str) -> int | None:
        """Return how many connections the proxies hold to a cluster; None while a proxy is away, or there is none."""
        counts = [link.counts for link in self._links.values() if not link.ended]
        known = [count for count in counts if count is not None]
        return sum(count.get(name, 0) for count in known) if known and len(known) == len(counts) else None

    def open_ways(self) -> set[str]:
        """Return the clusters to which a way is open."""
        return set(self._table)

    def proxies(self) -> int:
        """Return how many proxies are connected and in step."""
        return sum(link.connected for link in self._links.values())

    async def _admit(self, cluster: Cluster) -> None:
        try:
            credentials = await self._store.credentials(cluster.name)
        except TidegateError as error:
            # One cluster whose secrets cannot be read must not keep the gateway from starting.
            log.error("no way leads to cluster %s: %s (%s)", cluster.name, error.message, error.detail)
            return
        if credentials is not None and cluster.host and cluster.scheduler is not None:
            self._table[cluster.name] = route_to(cluster, credentials)

    async def _push(self, change: Change) -> None:
        # A proxy that has come up since the last scan must not miss this: clients are about to use it.
        self._scan()
        links = list(self._links.values())
        await asyncio.gather(*(link.deliver(change, self._patience) for link in links))

    async def _settle(self, links: list[ProxyLink]) -> None:
        await asyncio.gather(*(link.settled(self._patience) for link in links))

    def _scan(self) -> None:
        """Begin to connect to proxies that are new, and forget those that are gone."""
        if self._directory is None:
            return
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            # No descriptor is free. The proxies that are known stay, and new ones are found a second later.
            log.warning("cannot look for proxies: %s", error.strerror)
            return
        present = {name: int(match[1]) for name in names if (match := _SOCKET.fullmatch(name))}
        for name in [n for n, link in self._links.items() if link.ended]:
            del self._links[name]
        for name, pid in present.items():
            if name not in self._links:
                self._links[name] = ProxyLink(name, pid, self._directory, self._whole_table)

    def _whole_table(self) -> list[Route]:
        return list(self._table.values())
