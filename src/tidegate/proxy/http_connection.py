"""One HTTP connection: aiohttp's own handler, with the deadlines and the manners that a public port needs.

aiohttp closes connections that idle between requests. What it leaves open is a request head that comes one byte at a
time; here it has a deadline (a body has one too, ``relay.py``), and whoever has waited longest for a head, or for the
rest of a body, makes room when too many do. And what aiohttp answers to a malformed request is JSON here, without a
word to the log: the details would be the stranger's bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import StreamReader, web

from tidegate.proxy import answers
from tidegate.proxy.connections import Waiting
from tidegate.proxy.limits import Limits

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_silent = logging.getLogger("tidegate.proxy.strangers")
_silent.disabled = True


class HttpConnection(web.RequestHandler):
    """Serves the requests of one connection.

    Parameters
    ----------
    server : HttpServer
    limits : Limits
        A request head has a deadline from its first byte on; the first one from the beginning on.
    waiting : Waiting
        Where it is recorded while no request is served, or its body is not complete.
    closed : callable
        Called once, when the connection is closed.
    """

    __slots__ = ("_body", "_busy", "_closed", "_deadline", "_header_seconds", "_heard", "_waiting")

    def __init__(
        self,
        server: HttpServer,
        limits: Limits,
        waiting: Waiting,
        closed: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_seconds,
            max_line_size=limits.head_bytes,
            max_field_size=limits.head_bytes,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say "none"
            logger=_silent,
            tcp_keepalive=False,  # set already, with our own times
        )
        self._header_seconds = limits.header_seconds
        self._waiting = waiting
        self._heard: Callable[[], None] = lambda: None
        self._closed = closed
        self._busy = False
        self._body: StreamReader | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: a head must come."""
        super().connection_made(transport)
        self._heard = self._waiting.add(self.force_close)
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._heard()
        self._stop_waiting()
        super().connection_lost(exc)
        self._closed()

    def data_received(self, data: bytes) -> None:
        """Take bytes: outside of a request, they begin a head."""
        # The rest of a body that was refused is no head: aiohttp reads it off, for ten seconds at most.
        if not self._busy and self._deadline is None and (self._body is None or self._body.is_eof()):
            self._expect_head()
        super().data_received(data)

    def begin_request(self, body: StreamReader) -> None:
        """Take note that a head is complete. While the body is not, the connection can be spared as before."""
        self._busy = True
        body.on_eof(self._heard)
        self._body = body
        self._stop_waiting()

    def end_request(self) -> None:
        """Take note that the next bytes are another head."""
        self._busy = False
        self._heard()
        if self.transport is not None:
            self._heard = self._waiting.add(self.force_close)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or could not be served."""
        if request.writer.output_size > 0:
            raise ConnectionError("cannot answer a second time")
        refusal = answers.error(status, "cannot serve this request: it is malformed" if status < 500 else "it failed")
        refusal.force_close()
        return refusal

    def _expect_head(self) -> None:
        self._deadline = self._loop.call_later(self._header_seconds, self.force_close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class HttpServer(web.Server):
    """Makes an ``HttpConnection`` of each accepted socket.

    Parameters
    ----------
    handle : callable
        Answers a request.
    limits : Limits
    waiting : Waiting
    """

    def __init__(self, handle: Handle, limits: Limits, waiting: Waiting) -> None:
        self._handle = handle
        self._limits = limits
        self._waiting = waiting
        super().__init__(self._serve, handler_cancellation=True)

    def connection(self, closed: Callable[[], None]) -> HttpConnection:
        """Return the protocol for one connection; ``closed`` is called when it ends."""
        return HttpConnection(self, self._limits, self._waiting, closed, self._loop)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(HttpConnection, request.protocol)
        connection.begin_request(request.content)
        try:
            answer = await self._handle(request)
        finally:
            connection.end_request()
        if "Transfer-Encoding" in request.headers:
            # What follows the last chunk (trailers), aiohttp's parser (3.14.5) takes for headers of the next request.
            # On a connection that another proxy shares among its clients that is somebody else's: there is no next one.
            answer.force_close()
        return answer
