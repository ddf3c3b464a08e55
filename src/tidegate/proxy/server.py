"""One proxy process: all its parts, wired by hand, and how it begins and ends.

========================  ===========================================================================================
``acceptor``              accepts, looks at the first bytes, hands on to ...
``passthrough``           ... ``splice``: TLS of a cluster, untouched; or to ...
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
import ssl
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from tidegate.proxy import listener as listeners
from tidegate.proxy.acceptor import Acceptor
from tidegate.proxy.access import Access
from tidegate.proxy.api import Api
from tidegate.proxy.connections import Admission, ClusterConnections, Waiting
from tidegate.proxy.control_channel import ControlChannel
from tidegate.proxy.dashboards import Dashboards
from tidegate.proxy.dial import OwnAddresses
from tidegate.proxy.doors import Door
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
        self._addresses = [listeners.address_of(sock) for sock in sockets]
        own = OwnAddresses(self._addresses)
        self.connections = ClusterConnections(self._connections_changed)
        self.lifetime = Lifetime(limits, lambda: bool(self.connections), lambda: len(self.routes) > 0)
        self.routes = RouteTable(
            withdrawn=self._withdrawn, secret_changed=self._secret_changed, wait_seconds=limits.table_seconds
        )
        self.channel = ControlChannel(settings.run_dir, self.routes, self, self.lifetime.controls_changed)
        self.api = Api(settings.api_path, limits)
        self.access = Access(self.api, limits.access_seconds)
        self.pages = Pages(own, ClusterConnections(), limits)
        self.passthrough = Passthrough(self.routes, own, self.connections, dial_seconds=limits.dial_seconds)
        waiting = Waiting(limits.waiting)
        self.http = HttpServer(self._front().handle, limits, waiting)
        self.tls = _tls_context(settings)
        # Behind another proxy, which is what a public address speaks of, everybody comes from its address.
        per_address = None if settings.public_url else limits.connections_per_address
        admission = Admission(limits.connections, per_address, waiting.make_room)
        self.acceptor = Acceptor(sockets, self.passthrough, self.http, admission, waiting, limits, self.tls)

    async def run(self) -> None:
        """Serve until it is over."""
        self.acceptor.start()
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
            "routes": len(self.routes),
            "connections": self.counts(),
        }

    def counts(self) -> dict[str, int]:
        """Return the connections per cluster."""
        return self.connections.counts()

    def drain(self, *, accept: bool) -> None:
        """End when the last cluster connection is gone."""
        if not accept:
            self.acceptor.stop()
        self.lifetime.drain()

    def terminate(self) -> None:
        """End soon: what is connected has a deadline, and nothing new comes in."""
        self.acceptor.stop()
        self.lifetime.terminate()

    def reload_certificate(self) -> None:
        """Use the certificate that is in the files now; connections go on with the one they began with."""
        if self.tls is None or self.settings.tls_cert is None:
            return
        try:
            self.tls.load_cert_chain(self.settings.tls_cert, self.settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            logger.error("cannot use the new certificate in %s: %s", self.settings.tls_cert, error)

    def _front(self) -> Front:
        settings, limits = self.settings, self.settings.limits
        hosts = HostRule(
            loopback=all(is_loopback(host) for host, _ in self._addresses),
            public_hosts=settings.public_hosts,
            dashboard_hosts=settings.dashboard_hosts,
        )
        dashboards = Dashboards(
            self.routes,
            Door(UsedTickets(settings.run_dir)),
            self.access,
            self.pages,
            Pace(limits.page_burst, limits.pages_per_second),
            main_url=settings.public_url or self._own_url(),
            frame_ancestors=settings.frame_ancestors,
            path_mode=settings.dashboard_hosts is None,
        )
        return Front(hosts, self.api, dashboards, prefix=settings.prefix, public_url=settings.public_url)

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

    def _secret_changed(self, cluster: str) -> None:
        self.pages.forget(cluster)

    def _connections_changed(self) -> None:
        self.channel.counts_changed()
        self.lifetime.check()


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context


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
    loop.add_signal_handler(signal.SIGHUP, proxy.reload_certificate)
    await proxy.run()
