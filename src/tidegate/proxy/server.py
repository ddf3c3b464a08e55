"""One proxy process: all its parts, wired by hand, and how it begins and ends.

========================  ===========================================================================================
``acceptor``              accepts, looks at the first bytes, hands on to ...
``passthrough``           ... ``splice``: TLS of a cluster, untouched; or to ...
``holding``               registers what is spliced with the holder, and takes over what other processes have left
``http_connection``       ... ``http``: HTTP, which goes on to ``api`` or ``dashboards``
``control_channel``       fills ``routes``, reports connections
``lifetime``              says when it is over
========================  ===========================================================================================
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from tidegate.proxy import listener as listeners
from tidegate.proxy.acceptor import Acceptor
from tidegate.proxy.access import Access
from tidegate.proxy.api import Api
from tidegate.proxy.certificate import Certificate
from tidegate.proxy.connections import Admission, ClusterConnections, Waiting
from tidegate.proxy.control_channel import ControlChannel
from tidegate.proxy.dashboards import Dashboards
from tidegate.proxy.dial import OwnAddresses
from tidegate.proxy.doors import Door
from tidegate.proxy.forwarded import TrustedProxies
from tidegate.proxy.holding import Holding
from tidegate.proxy.hosts import HostRule
from tidegate.proxy.http import Front
from tidegate.proxy.http_connection import HttpServer
from tidegate.proxy.lifetime import Lifetime
from tidegate.proxy.limits import Limits, connections_within
from tidegate.proxy.pace import Pace
from tidegate.proxy.pages import Pages
from tidegate.proxy.passthrough import Passthrough
from tidegate.proxy.routes import RouteTable
from tidegate.proxy.settings import Settings, is_loopback
from tidegate.proxy.tickets import UsedTickets
from tidegate.telemetry import garbage

HTTP_END_SECONDS = 1.0
"""At the end: how long requests that are being answered may take."""

logger = logging.getLogger(__name__)


class Proxy:
    """A proxy process.

    Parameters
    ----------
    settings : Settings
    sockets : list of socket.socket
        Listening and non-blocking.
    """

    def __init__(self, settings: Settings, sockets: list[socket.socket]) -> None:
        limits = settings.limits
        self.settings = settings
        self._sockets = sockets
        self._certificate = _certificate(settings)
        self._addresses = [listeners.address_of(sock) for sock in sockets]
        own = OwnAddresses(self._addresses)
        self.connections = ClusterConnections(self._connections_changed)
        self.lifetime = Lifetime(
            limits,
            busy=lambda: bool(self.connections),
            expected=lambda: len(self.routes) > 0,
            settle=lambda: self.acceptor.settle(),
        )
        self.routes = RouteTable(
            withdrawn=self._withdrawn,
            secret_changed=self._secret_changed,
            shares_withdrawn=self._shares_withdrawn,
            replaced=self._replaced,
            wait_seconds=limits.table_seconds,
        )
        self.channel = ControlChannel(settings.run_dir, self.routes, self, self._controls_changed)
        self.api = Api(settings.api_path, limits)
        self.door = Door(UsedTickets(settings.run_dir))
        self.access = Access(self.api, limits.access_seconds)
        self.pages = Pages(own, ClusterConnections(), limits)
        waiting = Waiting(limits.waiting)
        self.trusted = TrustedProxies(settings.trusted_proxies)
        # A public address speaks of another proxy, whom all come from: unless we know it, addresses say nothing.
        known = self.trusted or not settings.public_url
        per_address = limits.connections_per_address if known else None
        admission = Admission(limits.connections, per_address, waiting.make_room, self.trusted.share_an_address)
        self.holding = Holding(
            settings.run_dir,
            listener=lambda: self.listener if self.acceptor.accepting else None,
            take=lambda taken: self.passthrough.take(taken),
            give=lambda: self.passthrough.give_away(),
        )
        self.passthrough = Passthrough(
            self.routes,
            own,
            self.connections,
            admission,
            self.holding,
            dial_seconds=limits.dial_seconds,
            per_cluster=limits.connections_per_cluster,
        )
        self.http = HttpServer(self._front().handle, limits, waiting)
        self.acceptor = Acceptor(
            sockets,
            self.passthrough,
            self.http,
            admission,
            waiting,
            limits,
            self._certificate,
            settled=self.lifetime.check,
        )

    async def run(self) -> None:
        """Serve until it is over."""
        self.acceptor.start()
        self.holding.start()
        self.channel.start()
        logger.info("proxy %d listens on %s", os.getpid(), self.status()["address"])
        try:
            await self.lifetime.until_over()
        finally:
            await self.close()

    async def close(self) -> None:
        """End everything, outermost first."""
        await self.acceptor.close()
        for sock in self._sockets:
            sock.close()
        self.lifetime.close()
        await self.http.shutdown(HTTP_END_SECONDS)
        self.passthrough.close()
        self.holding.close()
        await self.pages.close()
        await self.api.close()
        await self.channel.close()

    # What control can ask (``control_channel.Operated``).

    @property
    def listener(self) -> socket.socket:
        """The first listening socket."""
        return self._sockets[0]

    def status(self) -> Mapping[str, Any]:
        """Return what ``status`` answers."""
        host, port = self._addresses[0]
        return {
            "pid": os.getpid(),
            "version": version("tidegate"),
            "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "mark": self.settings.mark,
            "accepting": self.acceptor.accepting,
            "draining": self.lifetime.draining,
            "held": self.holding.connected,
            "routes": len(self.routes),
            "connections": self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """Return the connections per cluster."""
        return self.connections.counts()

    def drain(self, *, accept: bool) -> None:
        """End when the last cluster connection is gone; where there are other processes, they take them at once."""
        if not accept:
            self.acceptor.stop()
        self.holding.retire()
        self.lifetime.drain()

    def terminate(self) -> None:
        """End soon: what is connected has a deadline, and nothing new comes in."""
        self.acceptor.stop()
        self.holding.retire()
        self.lifetime.terminate()

    def _front(self) -> Front:
        settings, limits = self.settings, self.settings.limits
        hosts = HostRule(
            loopback=all(is_loopback(host) for host, _ in self._addresses),
            public_hosts=settings.public_hosts,
            dashboard_hosts=settings.dashboard_hosts,
        )
        dashboards = Dashboards(
            self.routes,
            self.door,
            self.access,
            self.pages,
            Pace(limits.page_burst, limits.pages_per_second),
            main_url=settings.public_url or self._own_url(),
            frame_ancestors=settings.frame_ancestors,
            path_mode=settings.dashboard_hosts is None,
        )
        return Front(
            hosts, self.api, dashboards, prefix=settings.prefix, public_url=settings.public_url, trusted=self.trusted
        )

    def _own_url(self) -> str:
        """Return the gateway's address for people on this machine, without a port: they may come through a tunnel."""
        scheme = "http" if self.settings.tls_cert is None else "https"
        host = self._addresses[0][0]
        host = host if is_loopback(host) and ":" not in host else "localhost"
        return f"{scheme}://{host}:0{self.settings.prefix}"

    def _withdrawn(self, cluster: str) -> None:
        self.connections.cut(cluster)
        self.pages.forget(cluster)
        self.access.forget(cluster)

    def _replaced(self) -> None:
        for cluster in self.connections.counts():
            if self.routes.get(cluster) is None:
                self.connections.cut(cluster)

    def _secret_changed(self, cluster: str) -> None:
        self.pages.forget(cluster)

    def _shares_withdrawn(self, cluster: str) -> None:
        self.access.forget(cluster)
        self.pages.end_shared(cluster)

    def end_vouched(self, by: str) -> None:
        """End the dashboards that are open because of a session, or a token, that has ended."""
        self.door.end(by)
        self.pages.end_vouched(by)

    def _controls_changed(self, count: int) -> None:
        # Somebody may have started the gateway anew, and expects the files of now.
        if count and self._certificate is not None:
            self._certificate.refresh()
        self.lifetime.controls_changed(count)

    def _connections_changed(self) -> None:
        self.channel.counts_changed()
        self.lifetime.check()


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key)


def fit_limits(limits: Limits) -> Limits:
    """Allow this process as many descriptors as it may have, and accept no more connections than fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    possible = connections_within(hard, limits.connections)
    if possible < limits.connections:
        logger.info(
            "cannot serve %d connections with %d file descriptors: this process accepts %d. "
            "Raise its limit (LimitNOFILE= in a systemd unit, ulimit -n) or start more processes",
            limits.connections,
            hard,
            possible,
        )
    return replace(limits, connections=possible, waiting=min(limits.waiting, max(1, possible // 4)))


async def serve(settings: Settings) -> None:
    """Run one proxy process until it is over."""
    sockets = listeners.inherited(settings.listen_fds)
    proxy = Proxy(replace(settings, limits=fit_limits(settings.limits)), sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, proxy.terminate)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that is closed is none of its business
    garbage.settle()
    await proxy.run()
