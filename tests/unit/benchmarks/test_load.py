"""The load generator counts whole answers, however they arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from benchmarks.load import ClosedLoop, Connection, prepare

ANSWERS = {
    "length": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"],
    "pieces": [b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 2\r\n\r", b"\n{", b"}"],
    "chunks": [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", b"0\r\n\r\n"],
    "nothing": [b"HTTP/1.1 204 No Content\r\n\r\n"],
}


@asynccontextmanager
async def serving(pieces: list[bytes]) -> AsyncIterator[int]:
    """Answer every request with these pieces; yield the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        server.close()


@pytest.mark.parametrize("kind", ANSWERS)
async def test_two_answers_on_one_connection_are_told_apart(kind: str) -> None:
    """With a length, in pieces, in chunks, without a body."""
    async with serving(ANSWERS[kind]) as port:
        connection = await Connection.open(port)
        for _ in range(2):
            status, _body = await asyncio.wait_for(connection.ask(prepare("GET", "/", {})), 10)
            assert status == int(ANSWERS[kind][0][9:12])
        connection.close()


async def until_the_first_answer(port: int) -> None:
    """Load a server until it has answered once."""
    async with asyncio.timeout(20), ClosedLoop(port, prepare("GET", "/", {}), 1) as loop:
        while not loop.latencies:
            await asyncio.sleep(0)


async def test_an_error_under_load_is_not_counted_as_speed() -> None:
    """A server that refuses quickly would win otherwise."""
    async with serving([b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]) as port:
        with pytest.raises(RuntimeError, match="answered 503"):
            await until_the_first_answer(port)
