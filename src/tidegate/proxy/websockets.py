"""A WebSocket passed on, message by message, both ways.

The upstream is asked first, so that its choice of a subprotocol, or its refusal, can be the client's answer.
Compression is off: on both sides the messages are short-lived numbers, and a compressed message is a way to make us
swell.
"""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiohttp import ClientWebSocketResponse, WSCloseCode, WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from tidegate.proxy.headers import protocols_of
from tidegate.proxy.limits import Limits

CLOSE_SECONDS = 2.0
"""How long either side may take to answer a close."""

_NEVER_SENT = (1004, 1005, 1006, 1015)
"""Codes that stand for "no code" in programs and must not go over the wire (RFC 6455, 7.4.1)."""

AnySocket = ClientWebSocketResponse[bool] | web.WebSocketResponse[bool]


async def connect(
    session: aiohttp.ClientSession,
    request: web.BaseRequest,
    url: str,
    headers: CIMultiDict[str],
    limits: Limits,
    **tls: Any,
) -> ClientWebSocketResponse[bool]:
    """Open the upstream's WebSocket with what the client offers.

    Raises
    ------
    aiohttp.WSServerHandshakeError
        The upstream will not; it has a ``status``.
    aiohttp.ClientError, TimeoutError
        It cannot be reached.
    """
    upstream: ClientWebSocketResponse[bool] = await session.ws_connect(
        URL(url, encoded=True),
        headers=headers,
        protocols=protocols_of(request.headers),
        autoping=False,
        compress=0,
        max_msg_size=limits.message_bytes,
        decode_text=False,
        timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        **tls,
    )
    return upstream


async def bridge(
    request: web.BaseRequest, upstream: ClientWebSocketResponse[bool], limits: Limits
) -> web.StreamResponse:
    """Accept the client's WebSocket and pass messages on until one side closes."""
    client: web.WebSocketResponse[bool] = web.WebSocketResponse(
        protocols=() if upstream.protocol is None else (upstream.protocol,),
        compress=False,
        autoping=False,
        max_msg_size=limits.client_message_bytes,
        timeout=CLOSE_SECONDS,
        decode_text=False,
    )
    try:
        await client.prepare(request)
        await _pass_messages(client, upstream)
    finally:
        if not upstream.closed:
            await upstream.close(code=WSCloseCode.GOING_AWAY)
    return client


async def _pass_messages(client: web.WebSocketResponse[bool], upstream: ClientWebSocketResponse[bool]) -> None:
    up = asyncio.create_task(_pump(client, upstream))
    down = asyncio.create_task(_pump(upstream, client))
    try:
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in (up, down):
            pump.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _pump(source: AnySocket, sink: AnySocket) -> None:
    """Pass messages on until ``source`` closes, then close ``sink`` for the same reason."""
    while True:
        message = await source.receive()
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await sink.send_frame(message.data, message.type)
        elif message.type is WSMsgType.PING:
            await sink.ping(message.data)
        elif message.type is WSMsgType.PONG:
            await sink.pong(message.data)
        else:
            code, reason = _reason(message)
            await sink.close(code=code, message=reason)
            return


def _reason(message: Any) -> tuple[int, bytes]:
    if message.type is not WSMsgType.CLOSE:
        return WSCloseCode.INTERNAL_ERROR, b"the other side is gone"
    code = message.data
    if not isinstance(code, int) or not 1000 <= code < 5000 or code in _NEVER_SENT:
        code = WSCloseCode.OK
    return code, (message.extra or "").encode()[:123]
