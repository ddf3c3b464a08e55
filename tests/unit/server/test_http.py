"""Answers as control sends them: head and body in one piece, and yet each part at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.support import eventually
from tidegate.server.http import HttpProtocol


class Wire(asyncio.Transport):
    """A connection that notes what is written to it, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


class Answering:
    """An application that answers in one piece, or begins and goes on when it is told to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        short = scope["path"] == "/short"
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")] if short else []}
        )
        if short:
            await send({"type": "http.response.body", "body": b"one"})
            return
        await self.go_on.wait()
        for piece in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def application() -> Answering:
    """Return an application."""
    return Answering()


@pytest.fixture
async def connection(application: Answering) -> tuple[HttpProtocol, Wire]:
    """Return a connection to it."""
    config = uvicorn.Config(application, http=HttpProtocol, ws="none", lifespan="off", log_config=None)
    config.load()
    protocol, wire = HttpProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def test_head_and_body_are_one_piece(connection: tuple[HttpProtocol, Wire]):
    """For every request of a connection."""
    protocol, wire = connection
    for count in range(1, 4):
        protocol.data_received(b"GET /short HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda count=count: len(wire.pieces) == count, what="the answer is there")
        assert wire.pieces[-1].startswith(b"HTTP/1.1 200 OK\r\n")
        assert wire.pieces[-1].endswith(b"\r\n\r\none")


async def test_a_head_does_not_wait_for_its_body(connection: tuple[HttpProtocol, Wire], application: Answering):
    """An answer that begins long before it goes on is heard of at once, and all of it comes in order."""
    protocol, wire = connection
    protocol.data_received(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    await eventually(lambda: len(wire.pieces) == 1, what="the head is there")
    assert wire.pieces[0].endswith(b"transfer-encoding: chunked\r\n\r\n")

    application.go_on.set()

    await eventually(lambda: wire.pieces[-1].endswith(b"0\r\n\r\n"), what="the end is there")
    assert b"".join(wire.pieces[1:]) == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"


async def test_an_answer_that_ends_its_connection_is_whole(connection: tuple[HttpProtocol, Wire]):
    """What is held is written before the connection is closed."""
    protocol, wire = connection
    protocol.data_received(b"nonsense\r\n\r\n")

    assert wire.closed
    assert b"".join(wire.pieces).startswith(b"HTTP/1.1 400 ")
