"""One HTTP exchange passed on: the request up, the answer down, piece by piece, nothing kept.

Server-sent events and long polls pass as they come. A body that is longer than the limit, or takes longer, or whose
sender falls asleep, ends the exchange. When the upstream breaks off in the middle of an answer, so do we: the client
must not take half an answer for a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tidegate.proxy import answers
from tidegate.proxy.answers import SERVER
from tidegate.proxy.limits import Limits

SMALL_BYTES = 64 * 1024
"""An answer up to this size is read first, and sent with its head in one piece: half the system calls."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class BodyFailed(Exception):
    """A request's body cannot be passed on; aiohttp wraps this in an error of its own."""


class Body:
    """A request's body on its way up.

    Iterate over it once. ``failure`` is the answer to give when it could not be passed on.
    """

    def __init__(self, request: web.BaseRequest, limits: Limits) -> None:
        self._request = request
        self._limits = limits
        self.exists = request.body_exists
        self.failure: web.Response | None = None

    def too_large(self) -> web.Response | None:
        """Return the refusal of a body that says itself that it is too large."""
        declared = self._request.content_length
        if declared is not None and declared > self._limits.body_bytes:
            self._fail(self._refuse_size())
            return self.failure
        return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        if self._request.headers.get("Expect", "").lower() == "100-continue" and self._request.transport is not None:
            self._request.transport.write(_CONTINUE)
        total = 0
        content = self._request.content
        deadline = asyncio.get_running_loop().time() + self._limits.whole_body_seconds
        while not content.at_eof():
            piece = await self._next_piece(content, deadline)
            total += len(piece)
            if total > self._limits.body_bytes:
                raise self._fail(self._refuse_size())
            if piece:
                yield piece

    async def _next_piece(self, content: aiohttp.StreamReader, deadline: float) -> bytes:
        asleep = asyncio.get_running_loop().time() + self._limits.body_seconds
        try:
            async with asyncio.timeout_at(min(asleep, deadline)):
                return await content.readany()
        except TimeoutError:
            raise self._fail(self._refuse_slowness(whole=deadline <= asleep)) from None
        except Exception as error:  # whatever is wrong with a body: its framing, its sender's connection
            raise self._fail(answers.error(400, "cannot read this request's body: it is malformed")) from error

    def _fail(self, answer: web.Response) -> BodyFailed:
        answer.force_close()
        self.failure = answer
        return BodyFailed(answer.status)

    def _refuse_slowness(self, *, whole: bool) -> web.Response:
        why = f"nothing of its body came for {self._limits.body_seconds:g} s"
        if whole:
            why = f"its body was not complete after {self._limits.whole_body_seconds:g} s"
        return answers.error(408, f"cannot wait longer for this request: {why}")

    def _refuse_size(self) -> web.Response:
        limit = self._limits.body_bytes
        return answers.error(413, f"cannot accept this request: its body is larger than {limit} bytes")


async def send(
    session: aiohttp.ClientSession,
    request: web.BaseRequest,
    url: str,
    headers: CIMultiDict[str],
    body: Body,
    **tls: Any,
) -> aiohttp.ClientResponse:
    """Pass a request on; return the answer when its head is there.

    Raises
    ------
    aiohttp.ClientError, TimeoutError
        Nothing came back. ``body.failure`` tells whether that was the client's own doing.
    """
    return await session.request(
        request.method,
        # Already encoded, as the client wrote it: to decode it and encode it again would change what it means.
        URL(url, encoded=True),
        headers=headers,
        data=body.pieces() if body.exists else None,
        allow_redirects=False,
        **tls,
    )


class Reply(Protocol):
    """An answer whose head is here, from control or from a dashboard."""

    @property
    def status(self) -> int:
        """Its status."""

    @property
    def content_length(self) -> int | None:
        """The length of its body, where the head tells it."""

    async def read(self) -> bytes:
        """Return the whole body."""

    def release(self) -> object:
        """Let go of the connection on which it comes."""


async def stream(
    reply: Reply, pieces: AsyncIterable[bytes], request: web.BaseRequest, headers: CIMultiDict[str]
) -> web.StreamResponse:
    """Pass an answer on to the client, with these headers; ``pieces`` are those of its body."""
    headers["Server"] = SERVER
    length = reply.content_length
    try:
        if request.method == "HEAD" or (length is not None and length <= SMALL_BYTES):
            return web.Response(status=reply.status, body=await reply.read() or None, headers=headers)
        response = web.StreamResponse(status=reply.status, headers=headers)
        await response.prepare(request)
        await _pass_body(pieces, request, response)
        return response
    finally:
        reply.release()


async def _pass_body(pieces: AsyncIterable[bytes], request: web.BaseRequest, response: web.StreamResponse) -> None:
    try:
        async for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        # The client has left, or the upstream has: either way this connection carries half an answer.
        if request.transport is not None:
            request.transport.abort()
