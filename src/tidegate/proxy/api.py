"""Passing requests on to control, over its Unix socket.

Control may be killed or upgraded at any moment. A request that has not been sent yet, or that may be repeated because
it only reads, waits a moment for the next control; so a restart is a slow answer, not an error. What was sent and may
have taken effect is never sent twice: its sender is told that nobody knows. When control has been away for longer than
a restart takes, every request gets its 503 at once.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from tidegate.proxy import answers, websockets
from tidegate.proxy.api_connection import Answer, ApiConnections, BrokenOff, NotReached
from tidegate.proxy.headers import from_api, is_websocket
from tidegate.proxy.limits import Limits
from tidegate.proxy.relay import Body, stream

_RETRY_SECONDS = 0.05
_REPEATABLE = ("GET", "HEAD", "OPTIONS")
_HOST = "api"

T = TypeVar("T")


class Unavailable(Exception):
    """Control does not answer. ``sent`` tells whether the request may have taken effect."""

    def __init__(self, *, sent: bool) -> None:
        super().__init__()
        self.sent = sent


class Api:
    """Control's HTTP server.

    Parameters
    ----------
    socket_path : Path
        Its directory must exist; the socket may come and go.
    limits : Limits
    """

    def __init__(self, socket_path: Path, limits: Limits) -> None:
        self._limits = limits
        self._down_since: float | None = None
        # A Unix socket's path is limited to 107 bytes; through its directory's descriptor it is always short.
        self._directory = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        path = f"/proc/self/fd/{self._directory}/{socket_path.name}"
        self._connections = ApiConnections(path)
        self._websockets = _session(aiohttp.UnixConnector(path, limit=0, force_close=True))

    async def close(self) -> None:
        """Close every connection."""
        self._connections.close()
        await self._websockets.close()
        os.close(self._directory)

    async def forward(self, request: web.BaseRequest, path: str, headers: CIMultiDict[str]) -> web.StreamResponse:
        """Pass a request on and its answer back.

        Parameters
        ----------
        request : web.BaseRequest
        path : str
            With the query, as control is to see it.
        headers : CIMultiDict
            As control is to see them.
        """
        if is_websocket(request.headers):
            return await self._forward_websocket(request, path, headers)
        body = Body(request, self._limits)
        if refusal := body.too_large():
            return refusal
        reads = request.method in _REPEATABLE

        def attempt() -> Awaitable[Answer]:
            pieces = body.pieces() if body.exists else None
            return self._connections.exchange(request.method, path, headers, pieces, anew=not reads)

        try:
            reply = await self._reach(attempt, reads and not body.exists)
        except Unavailable as gone:
            return body.failure or unavailable(request, gone)
        return await stream(reply, reply.pieces(), request, from_api(reply.headers))

    async def ask(
        self, path: str, content: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, CIMultiDict[str], bytes]:
        """Ask control something ourselves; return status, headers and body.

        Raises
        ------
        Unavailable
        """
        body = json.dumps(content).encode()
        own = {"Host": _HOST, "Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
        reply = await self._reach(lambda: self._connections.exchange("POST", path, own, _once(body)), True)
        try:
            return reply.status, from_api(reply.headers), await reply.read()
        except BrokenOff as error:
            raise Unavailable(sent=False) from error
        finally:
            reply.release()

    async def _forward_websocket(
        self, request: web.BaseRequest, path: str, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        try:
            upstream = await self._reach(
                lambda: websockets.connect(self._websockets, request, f"http://{_HOST}{path}", headers, self._limits),
                True,
            )
        except Unavailable as gone:
            return unavailable(request, gone)
        except aiohttp.WSServerHandshakeError as refused:
            return answers.error(_refusal_status(refused.status), "cannot open this WebSocket: the API refused it")
        return await websockets.bridge(request, upstream, self._limits)

    async def _reach(self, attempt: Callable[[], Awaitable[T]], repeatable: bool) -> T:
        """Make an attempt, and again for a while as long as nothing can have come of it."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._limits.restart_seconds
        while True:
            try:
                result = await attempt()
            except (NotReached, aiohttp.ClientConnectorError):
                sent = False
            except aiohttp.WSServerHandshakeError:
                raise
            except (BrokenOff, aiohttp.ClientError) as error:
                if not repeatable:
                    raise Unavailable(sent=True) from error
                sent = True
            else:
                self._down_since = None
                return result
            now = clock()
            if self._down_since is None:
                self._down_since = now
            if now >= min(give_up_at, self._down_since + self._limits.restart_seconds):
                raise Unavailable(sent=sent and not repeatable)
            await asyncio.sleep(_RETRY_SECONDS)


def _session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        # Long polls last up to five minutes and event streams for ever; the client's own patience is the limit.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=2.0),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        max_line_size=64 * 1024,
        max_field_size=64 * 1024,
    )


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


def unavailable(request: web.BaseRequest, gone: Unavailable) -> web.Response:
    """Return what to say when control does not answer."""
    again = {"Retry-After": "1"}
    if gone.sent:
        message = (
            "the gateway's control went away while it served this request, and whether that took effect is not known: "
            "look before you repeat it"
        )
        return answers.error(503, message, headers=again)
    message = "the gateway is being restarted: clusters and their connections go on, come back in a moment"
    if answers.is_navigation(request):
        return answers.page(503, "One moment", message.capitalize() + ".", reload_seconds=2, headers=again)
    return answers.error(503, message, headers=again)


def _refusal_status(status: int) -> int:
    return status if 400 <= status < 600 else 502
