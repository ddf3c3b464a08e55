"""HTTP on kept connections to control: one exchange at a time on each, written and read as whole pieces.

Nearly all that the gateway is asked is a few hundred bytes, answered by a few hundred more: a client for the whole web
takes longer over that than control. This one speaks to a server of ours, over a socket in a folder of ours, and needs
little: a request goes out in one piece, and an answer that is small wakes its reader once, when it is complete. What is
long, or never ends, passes piece by piece, no faster than it is read.

Every exchange ends in one of two ways. It is complete on both sides: then the connection is kept for the next one. Or
it is not, whoever has given up: then the connection is cut, so that control knows that nobody waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import cast

import httptools
from multidict import CIMultiDict

from tidegate.proxy.relay import SMALL_BYTES

BUFFER_BYTES = 256 * 1024
"""So much of an answer is held that nobody has read yet; then control has to wait."""

KEEP_SECONDS = 4.0
"""Below uvicorn's five, so that we close an idle connection before it does."""

CONNECT_SECONDS = 2.0
"""Control accepts at once, or it is not there."""


class NotReached(Exception):
    """There is nobody to connect to: nothing was sent."""


class BrokenOff(ConnectionError):
    """The connection ended before the answer did, or what came is no answer."""


class Answer:
    """An answer whose head is here.

    Parameters
    ----------
    connection : ApiConnection
        On which the rest of it comes.
    """

    def __init__(self, connection: ApiConnection) -> None:
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._more: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.content_length: int | None = None
        self.complete = False
        self.broken = False

    async def read(self) -> bytes:
        """Return the whole body.

        Raises
        ------
        BrokenOff
        """
        if self.complete:
            return b"".join(self._pieces)
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises
        ------
        BrokenOff
        """
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
                if self._held < BUFFER_BYTES and not self.complete:
                    self._connection.read_on()
                yield piece
            elif self.complete:
                return
            elif self.broken:
                raise BrokenOff("control went away in the middle of its answer")
            else:
                self._more = asyncio.get_running_loop().create_future()
                await self._more

    def release(self) -> None:
        """Read no more of it. What was not complete by now never will be."""
        if not self.complete:
            self._connection.cut()

    def put(self, piece: bytes) -> bool:
        """Add a piece of the body; whether there is room for more."""
        self._pieces.append(piece)
        self._held += len(piece)
        return self._held < BUFFER_BYTES

    def go_on(self) -> None:
        """Wake the reader: there is more, or it is over."""
        if self._more is not None and not self._more.done():
            self._more.set_result(None)


class ApiConnection(asyncio.Protocol):
    """One connection.

    Parameters
    ----------
    kept : list of ApiConnection
        Where it is to be while no exchange is under way.
    """

    def __init__(self, kept: list[ApiConnection]) -> None:
        self._kept = kept
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer(self)
        self._answered: asyncio.Future[Answer] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._method = ""
        self._uploading: asyncio.Task[None] | None = None
        self._reading = True
        self._keeps_alive = False
        self.idle_since = 0.0

    async def exchange(self, method: str, head: bytes, body: AsyncIterator[bytes] | None, *, chunked: bool) -> Answer:
        """Send a request and return the answer when its head is here, a small one when it is complete.

        Raises
        ------
        BrokenOff
            Nothing came back. When that was the body's doing, its error is the cause.
        """
        if self._transport is None:
            raise BrokenOff("control has hung up")
        self._method, self._keeps_alive = method, False
        self._answer = answer = Answer(self)
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(head)
        if body is not None:
            self._uploading = asyncio.create_task(self._upload(body, chunked=chunked))
        try:
            return await self._answered
        except BaseException:
            self.cut()
            raise
        finally:
            self._answered = None
            if answer.complete:
                self._end_exchange()

    async def _upload(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        try:
            async for piece in body:
                self._send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                await self._writable.wait()
            if chunked:
                self._send(b"0\r\n\r\n")
        except Exception as error:
            broken = BrokenOff("the request's body broke off")
            broken.__cause__ = error
            self._fail(broken)

    def _send(self, data: bytes) -> None:
        if self._transport is None:
            raise BrokenOff("control has hung up")
        self._transport.write(data)

    def cut(self) -> None:
        """End the connection, whatever is under way."""
        if self._uploading is not None:
            self._uploading.cancel()
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def read_on(self) -> None:
        """Take bytes again, after the answer was held."""
        if not self._reading and self._transport is not None:
            self._reading = True
            self._transport.resume_reading()

    def _fail(self, why: BrokenOff) -> None:
        self._answer.broken = True
        self._answer.go_on()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(why)
        self.cut()

    def _end_exchange(self) -> None:
        """Keep the connection if both sides are through with it."""
        uploading, self._uploading = self._uploading, None
        whole = uploading is None or (uploading.done() and not uploading.cancelled())
        if not whole or not self._keeps_alive or self._transport is None:
            if uploading is not None:
                uploading.cancel()
            if self._transport is not None:
                self._transport.close()
            return
        self.read_on()
        self.idle_since = asyncio.get_running_loop().time()
        self._kept.append(self)

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes: of an answer that somebody waits for, or of none."""
        answer = self._answer
        if answer.complete or not self._method:
            self._fail(BrokenOff("control said something that nobody asked for"))
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._keeps_alive = False
            if not answer.complete:
                self._fail(BrokenOff("what control said is no answer"))
                return
        waiting = self._answered
        if waiting is not None:
            ready = answer.complete or (answer.status and not _is_small(answer.content_length))
            if ready and not waiting.done():
                waiting.set_result(answer)
        else:
            answer.go_on()
            if answer.complete:
                self._end_exchange()

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._transport = None
        if self in self._kept:
            self._kept.remove(self)
        self._writable.set()
        if not self._answer.complete:
            self._fail(BrokenOff("control has hung up"))

    def pause_writing(self) -> None:
        """The body comes faster than control takes it."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Control takes bytes again."""
        self._writable.set()

    # What the parser says.

    def on_message_begin(self) -> None:
        """Refuse a second answer: its bytes belong to nobody's request."""
        if self._answer.complete:
            raise BrokenOff("control said something that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._answer.headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        """Take the head for complete."""
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer: the answer follows
            self._answer.headers.clear()
            return
        answer = self._answer
        length = answer.headers.get("Content-Length")
        answer.content_length = int(length) if length is not None else None
        answer.status = status
        answer.complete = self._method == "HEAD"

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._answer.put(body) and self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Take the answer for complete."""
        # After this call the parser knows no more. (Of a HEAD's answer it awaits the body that the head tells of, and
        # never comes here.)
        self._keeps_alive = self._parser.should_keep_alive()
        self._answer.complete = bool(self._answer.status)


class ApiConnections:
    """Connections to control.

    Parameters
    ----------
    path : str
        Of its socket, which may come and go.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept: list[ApiConnection] = []

    async def exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None = None,
        *,
        anew: bool = False,
    ) -> Answer:
        """Send a request and return its answer.

        Parameters
        ----------
        target : str
            Path and query, as control is to see them.
        headers : mapping
            With a Content-Length if it is known; else a body goes in chunks.
        body : asynchronous iterator of bytes, optional
        anew : bool
            On a new connection. A kept one may turn out to be closed when something was already sent on it; for a
            request that changes something that would be the question whether it took effect.

        Raises
        ------
        NotReached, BrokenOff
        """
        chunked = body is not None and "Content-Length" not in headers
        head = _head(method, target, headers, chunked=chunked)
        connection = None if anew else self._take_kept()
        return await (connection or await self._open()).exchange(method, head, body, chunked=chunked)

    def close(self) -> None:
        """Close the connections on which nothing is under way."""
        kept = self._kept[:]
        self._kept.clear()
        for connection in kept:
            connection.cut()

    def _take_kept(self) -> ApiConnection | None:
        if not self._kept:
            return None
        # The one that was used last: the others grow old, and control closes them.
        connection = self._kept.pop()
        if asyncio.get_running_loop().time() - connection.idle_since < KEEP_SECONDS:
            return connection
        connection.cut()
        self.close()
        return None

    async def _open(self) -> ApiConnection:
        connect = asyncio.get_running_loop().create_unix_connection(lambda: ApiConnection(self._kept), self._path)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await connect
        except (OSError, TimeoutError) as error:
            raise NotReached from error
        return connection


def _is_small(length: int | None) -> bool:
    return length is not None and length <= SMALL_BYTES


def _head(method: str, target: str, headers: Mapping[str, str], *, chunked: bool) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()]]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    head = "\r\n".join(lines)
    # Parsed before by what lets none of these pass. But if one did, it would be a request that nobody has judged.
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1 or "\0" in head:
        raise ValueError("a header has a line break in it")
    return head.encode() + b"\r\n\r\n"
