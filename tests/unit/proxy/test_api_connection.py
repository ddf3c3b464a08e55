"""The connections to control: kept when both sides are through, cut when somebody has given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.support import eventually
from tidegate.proxy.api_connection import BUFFER_BYTES, ApiConnections, BrokenOff, NotReached

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HOST = {"Host": "api"}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Control:
    """A server whose every connection is served by the same function."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = 0
        self.closed = 0
        self.connections = ApiConnections(str(path))
        self._server: asyncio.Server | None = None

    async def start(self, serve: Serve) -> None:
        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.opened += 1
            try:
                await serve(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self.closed += 1
                writer.close()

        self._server = await asyncio.start_unix_server(count, self.path)

    async def ask(self, method: str = "GET") -> bytes:
        """Ask something, and return the body of the answer."""
        answer = await asyncio.wait_for(self.connections.exchange(method, "/", HOST), 20)
        return await answer.read()

    async def close(self) -> None:
        self.connections.close()
        if self._server is not None:
            self._server.close()


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    """Return a control that is not there yet."""
    control = Control(tmp_path / "api.sock")
    yield control
    await control.close()


def answering(*answers: bytes) -> Serve:
    """Return what answers the requests of a connection, the last answer again and again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(left.pop(0) if len(left) > 1 else left[0])

    return serve


async def test_one_connection_serves_many_requests(control: Control):
    """It is kept after each complete exchange, and closed when all is over."""
    await control.start(answering(OK))

    assert [await control.ask() for _ in range(20)] == [b"ok"] * 20

    assert control.opened == 1
    control.connections.close()
    await eventually(lambda: control.closed == 1, what="the connection is closed")


async def test_what_was_asked_to_go_on_a_new_connection_does(control: Control):
    """Though one is kept."""
    await control.start(answering(OK))
    await control.ask()

    answer = await control.connections.exchange("DELETE", "/", HOST, anew=True)

    assert (await answer.read(), control.opened) == (b"ok", 2)


async def test_the_answer_to_a_head_request_has_no_body(control: Control):
    """Its head tells of one that does not come; the connection is not used again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" if request.startswith(b"HEAD") else OK)
        await reader.read()

    await control.start(serve)

    answer = await asyncio.wait_for(control.connections.exchange("HEAD", "/", HOST), 20)

    assert (answer.content_length, await answer.read()) == (99, b"")
    assert await control.ask() == b"ok"
    assert control.opened == 2


async def test_interim_answers_are_skipped(control: Control):
    """What counts is the one that follows."""
    await control.start(answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK))

    answer = await control.connections.exchange("GET", "/", HOST)

    assert (answer.status, "Link" in answer.headers, await answer.read()) == (200, False, b"ok")


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"nonsense\r\n\r\n"],
)
async def test_half_an_answer_is_none(control: Control, said: bytes):
    """A small answer that does not come whole is not there at all."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    await control.start(break_off)

    with pytest.raises(BrokenOff):
        await control.ask()


async def test_a_long_answer_that_breaks_off_says_so(control: Control):
    """Its pieces end in an error, never as if it were complete."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")

    await control.start(break_off)
    answer = await control.connections.exchange("GET", "/", HOST)

    with pytest.raises(BrokenOff):
        await asyncio.wait_for(answer.read(), 20)


@pytest.mark.parametrize("together", [True, False])
async def test_what_nobody_asked_for_is_not_taken_for_an_answer(control: Control, together: bool):
    """A second answer to a request, with the first or later, ends the connection; the next request gets its own."""
    more = OK.replace(b"ok", b"no")
    heard = asyncio.Event()

    async def say_more(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + more if together else OK)
        await heard.wait()
        if not together:
            writer.write(more)
        await reader.read()

    await control.start(say_more)
    assert await control.ask() == b"ok"
    heard.set()
    await eventually(lambda: control.closed == 1, what="the connection is closed")
    heard.clear()

    assert await control.ask() == b"ok"
    assert control.opened == 2
    heard.set()


async def test_who_gives_up_frees_control(control: Control):
    """A request that is cancelled ends its connection."""
    asked = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    await control.start(hold)
    asking = asyncio.create_task(control.ask())
    await asyncio.wait_for(asked.wait(), 20)

    asking.cancel()

    await eventually(lambda: control.closed == 1, what="control has noticed")


async def test_an_answer_comes_no_faster_than_it_is_read(control: Control):
    """What nobody has read yet stays with control, but for a buffer and what sockets hold."""
    sent = 0
    whole = 40 * 2**20

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % whole)
        while sent < whole:
            writer.write(bytes(2**16))
            sent += 2**16
            await writer.drain()

    await control.start(pour)
    answer = await control.connections.exchange("GET", "/", HOST)
    for _ in range(200):
        await asyncio.sleep(0)
    assert sent <= BUFFER_BYTES + 4 * 2**20

    assert len(await asyncio.wait_for(answer.read(), 20)) == whole


async def test_a_body_that_fails_is_why_nothing_came_back(control: Control):
    """The error of the body is the cause, and control never sees its end."""
    heard = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set_result(await reader.read())

    async def pieces() -> AsyncIterator[bytes]:
        yield b"half"
        raise ValueError("the client fell asleep")

    await control.start(listen)

    with pytest.raises(BrokenOff) as failed:
        await control.connections.exchange("POST", "/", HOST, pieces(), anew=True)

    assert isinstance(failed.value.__cause__, ValueError)
    assert not (await asyncio.wait_for(heard, 20)).endswith(b"0\r\n\r\n")


async def test_nobody_is_there(control: Control):
    """Then nothing was sent."""
    with pytest.raises(NotReached):
        await control.ask()


@pytest.mark.parametrize(("name", "value"), [("X", "a\r\nY: b"), ("X", "a\nY: b"), ("X\r\nY", "b"), ("X", "a\0")])
async def test_no_header_holds_another(control: Control, name: str, value: str):
    """Whatever has let it through before."""
    await control.start(answering(OK))

    with pytest.raises(ValueError, match="line break"):
        await control.connections.exchange("GET", "/", {**HOST, name: value})

    assert control.opened == 0
