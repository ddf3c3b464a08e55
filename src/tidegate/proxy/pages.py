"""Fetching a dashboard's pages and WebSockets from its scheduler.

Over TLS, with the cluster's own authority as the only one trusted and its name as the name expected: whoever else has
got hold of that port cannot pretend to be it. The viewer's cookies and credentials are not sent; the secret header that
the scheduler demands is added here and never leaves in an answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tidegate.proxy import answers, relay, websockets
from tidegate.proxy.connections import ClusterConnections
from tidegate.proxy.dial import OwnAddresses
from tidegate.proxy.doors import Viewer
from tidegate.proxy.headers import from_dashboard, to_dashboard
from tidegate.proxy.limits import Limits
from tidegate.wire.proxy import Route

logger = logging.getLogger(__name__)


class Pages:
    """Fetches from the schedulers' HTTP servers.

    Parameters
    ----------
    own : OwnAddresses
        What must never be dialled.
    viewers : ClusterConnections
        Where open requests and WebSockets are recorded, so that they end with their cluster.
    limits : Limits
    """

    def __init__(self, own: OwnAddresses, viewers: ClusterConnections, limits: Limits) -> None:
        self._own = own
        self._viewers = viewers
        self._guests = ClusterConnections()
        self._vouched = ClusterConnections()
        self._limits = limits
        self._sockets: Counter[str] = Counter()
        self._trust: dict[str, tuple[str, ssl.SSLContext]] = {}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=limits.dial_seconds, sock_read=limits.upstream_seconds
            ),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
        )

    async def close(self) -> None:
        """End what is open."""
        self._viewers.cut_all()
        await self._session.close()

    def forget(self, cluster: str) -> None:
        """End what is open to a cluster, and forget whom to trust there."""
        self._viewers.cut(cluster)
        self._trust.pop(cluster, None)

    def end_shared(self, cluster: str) -> None:
        """End what others than the owner have open to a cluster."""
        self._guests.cut(cluster)

    def end_vouched(self, by: str) -> None:
        """End what is open because this session or token vouched for its viewer."""
        self._vouched.cut(by)

    def _watch(self, cluster: str, viewer: Viewer) -> Callable[[], None]:
        """Let the request that is being served be ended when it must not go on; returns what ends the watch."""
        end = _end_of_this_request()
        ends = [self._viewers.add(cluster, end)]
        if viewer.shared:
            ends.append(self._guests.add(cluster, end))
        ends += [self._vouched.add(by, end) for by in viewer.by]
        if viewer.seconds is not None:
            ends.append(asyncio.get_running_loop().call_later(viewer.seconds, end).cancel)

        def forget() -> None:
            for step in ends:
                step()

        return forget

    async def fetch(
        self,
        request: web.BaseRequest,
        route: Route,
        path: str,
        viewer: Viewer,
        *,
        base: str,
        extra: Mapping[str, str],
    ) -> web.StreamResponse:
        """Pass a request on to the dashboard and its answer back.

        Parameters
        ----------
        viewer : Viewer
            For whom.
        path : str
            With the query, as the dashboard is to see it.
        base : str
            What the client's path has before that; a redirect is translated back.
        extra : mapping
            Headers to add to the answer.
        """
        body = relay.Body(request, self._limits)
        if refusal := body.too_large():
            return refusal
        host = request.headers.get("Host", "")
        headers = to_dashboard(request.headers, host=host, secret=route.dashboard_secret)
        forget = self._watch(route.name, viewer)
        try:
            # aiohttp's own timeout ends with the first interim answer (1xx), of which a hostile server has many.
            async with asyncio.timeout(self._limits.upstream_seconds):
                url, tls = self._url(route, path), self._tls(route)
                reply = await relay.send(self._session, request, url, headers, body, **tls)
            if reply.status < 200:
                reply.close()
                return answers.error(502, "the dashboard's answer makes no sense")
            passed = from_dashboard(reply.headers, extra)
            if base and "Location" in passed:
                passed["Location"] = relocate(passed["Location"], host, base)
            return await relay.stream(reply, reply.content.iter_any(), request, passed)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return body.failure or self._no_answer(request, route, error)
        finally:
            forget()

    async def bridge(self, request: web.BaseRequest, route: Route, path: str, viewer: Viewer) -> web.StreamResponse:
        """Pass a WebSocket on, unless the cluster has enough of them."""
        limit = self._limits.websockets_per_cluster
        if self._sockets[route.name] >= limit:
            message = f"cannot open this WebSocket: {limit} to this cluster's dashboard are open, as many as may be"
            return answers.error(429, f"{message}; close pages that are not needed")
        self._sockets[route.name] += 1
        try:
            return await self._bridge(request, route, path, viewer)
        finally:
            self._sockets[route.name] -= 1
            if not self._sockets[route.name]:
                del self._sockets[route.name]

    async def _bridge(self, request: web.BaseRequest, route: Route, path: str, viewer: Viewer) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        headers = to_dashboard(request.headers, host=host, secret=route.dashboard_secret, websocket=True)
        forget = self._watch(route.name, viewer)
        try:
            async with asyncio.timeout(self._limits.upstream_seconds):
                url, tls = self._url(route, path), self._tls(route)
                upstream = await websockets.connect(self._session, request, url, headers, self._limits, **tls)
            return await websockets.bridge(request, upstream, self._limits)
        except aiohttp.WSServerHandshakeError as refused:
            status = refused.status if 400 <= refused.status < 600 else 502
            return answers.error(status, "cannot open this WebSocket: the dashboard refused it")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return self._no_answer(request, route, error)
        finally:
            forget()

    def _url(self, route: Route, path: str) -> str:
        if route.dashboard_port is None:
            raise NoDashboard(f"cluster {route.name} has no dashboard")
        host = f"[{route.host}]" if ":" in route.host else route.host
        if _is_address(route.host) and self._own.contain(route.host, route.dashboard_port):
            raise NoDashboard(f"{host}:{route.dashboard_port} is this gateway's own address")
        return f"https://{host}:{route.dashboard_port}{path}"

    def _tls(self, route: Route) -> dict[str, Any]:
        known = self._trust.get(route.name)
        if known is None or known[0] != route.ca:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=route.ca)
            known = self._trust[route.name] = (route.ca, context)
        return {"ssl": known[1], "server_hostname": route.name}

    def _no_answer(self, request: web.BaseRequest, route: Route, error: Exception) -> web.Response:
        logger.info("cluster %s: no answer from its dashboard: %s: %s", route.name, type(error).__name__, _words(error))
        if isinstance(error, NoDashboard):
            return answers.for_either(request, 404, "No dashboard", f"Cluster {route.name} has no dashboard.")
        if isinstance(error, TimeoutError):
            message = f"The dashboard of cluster {route.name} does not answer: its scheduler is busy. Try again later."
            return answers.for_either(request, 504, "No answer yet", message)
        message = f"The dashboard of cluster {route.name} cannot be reached: its scheduler is starting, ending or gone."
        return answers.for_either(request, 502, "No answer", message)


def _end_of_this_request() -> Callable[[], None]:
    """Return what ends the request that is being served, with its connection."""
    task = asyncio.current_task()

    def end() -> None:
        if task is not None:
            task.cancel()

    return end


def _words(error: Exception) -> str:
    """Return what went wrong, for the log: aiohttp's errors of an answer show the request as well, secret and all."""
    return error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)


class NoDashboard(OSError):
    """There is nothing to dial."""


def relocate(location: str, host: str, base: str) -> str:
    """Translate a redirect of a dashboard that is mounted below ``base`` and does not know it."""
    parts = urlsplit(location)
    if parts.netloc and parts.netloc.lower() != host.lower():
        return location
    if not parts.path.startswith("/"):
        return location
    return base + parts._replace(scheme="", netloc="").geturl()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
