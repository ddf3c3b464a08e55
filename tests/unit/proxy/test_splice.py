"""Bytes through the kernel: every one of them, in order, both ways, with ends and pressure passed on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest

from tests.proxy_rig import open_descriptors, processor_seconds
from tests.support import eventually
from tidegate.proxy.holding import Holding
from tidegate.proxy.pipes import Pipe, PipePool
from tidegate.proxy.splice import Splice


class Line:
    """A spliced connection with plain sockets at both ends."""

    def __init__(self, pipes: PipePool, **options: int) -> None:
        self.client, near = tcp_pair(**options)
        far, self.server = tcp_pair(**options)
        self.ended = asyncio.Event()
        self.splice = Splice(near, far, pipes, 1, self.ended.set)
        self.splice.start()

    def close(self) -> None:
        self.splice.cut()
        self.client.close()
        self.server.close()


def tcp_pair(receive_buffer: int = 0, send_buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Return two connected, non-blocking TCP sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        one = socket.socket()
        if send_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


@pytest.fixture
async def pipes(tmp_path: Path):
    """Return a pool of pipes that must all have come back in the end."""
    holding = Holding(tmp_path)
    pool = PipePool(holding)
    yield pool
    assert pool.lent == 0
    pool.close()
    holding.close()


@pytest.fixture
async def line(pipes):
    """Return a spliced connection."""
    line = Line(pipes)
    yield line
    line.close()


async def receive_all(sock: socket.socket) -> bytes:
    """Read until the end."""
    loop = asyncio.get_running_loop()
    pieces = []
    while piece := await loop.sock_recv(sock, 2**20):
        pieces.append(piece)
    return b"".join(pieces)


async def test_both_ways_at_once(line):
    """Megabytes go up and down at the same time, complete and in order."""
    loop = asyncio.get_running_loop()
    up, down = os.urandom(20_000_000), os.urandom(15_000_000)

    async def send(sock: socket.socket, data: bytes) -> None:
        await loop.sock_sendall(sock, data)
        sock.shutdown(socket.SHUT_WR)

    _, _, got_up, got_down = await asyncio.wait_for(
        asyncio.gather(
            send(line.client, up), send(line.server, down), receive_all(line.server), receive_all(line.client)
        ),
        30,
    )

    assert hashlib.sha256(got_up).digest() == hashlib.sha256(up).digest()
    assert hashlib.sha256(got_down).digest() == hashlib.sha256(down).digest()
    await asyncio.wait_for(line.ended.wait(), 20)


@pytest.mark.parametrize("first", ["client", "server"])
async def test_half_a_close_is_half_a_close(line, first: str):
    """One side says that it has no more to send; the other goes on sending, and is heard."""
    loop = asyncio.get_running_loop()
    one, other = (line.client, line.server) if first == "client" else (line.server, line.client)
    await loop.sock_sendall(one, b"the last words")
    one.shutdown(socket.SHUT_WR)

    assert await asyncio.wait_for(receive_all(other), 20) == b"the last words"
    assert not line.ended.is_set()
    await loop.sock_sendall(other, b"still here")
    assert await asyncio.wait_for(loop.sock_recv(one, 100), 20) == b"still here"
    other.shutdown(socket.SHUT_WR)
    assert await asyncio.wait_for(receive_all(one), 20) == b""
    await asyncio.wait_for(line.ended.wait(), 20)


async def test_a_half_closed_connection_costs_no_processor_time(line):
    """An end that was passed on is not looked at again and again."""
    line.client.shutdown(socket.SHUT_WR)
    assert await asyncio.wait_for(receive_all(line.server), 20) == b""

    assert await processor_seconds() < 0.1
    assert not line.ended.is_set()


async def test_a_receiver_that_does_not_read_stops_the_sender(pipes):
    """What is in flight is bounded by the kernel's buffers and one pipe; then everything arrives."""
    line = Line(pipes, receive_buffer=65536, send_buffer=65536)
    loop = asyncio.get_running_loop()
    sent = 0
    data = os.urandom(2**20)

    async def send_without_end() -> None:
        nonlocal sent
        writable = asyncio.Event()
        loop.add_writer(line.client, writable.set)
        try:
            while True:
                await writable.wait()
                sent += line.client.send(data)
                writable.clear()
                await asyncio.sleep(0)
        finally:
            loop.remove_writer(line.client)

    sending = asyncio.create_task(send_without_end())
    await eventually(lambda: pipes.lent == 1, what="the line is blocked")
    # Both sides of a socket hold a few megabytes at most; the sender is not heard beyond that.
    await processor_seconds()
    assert sent <= 16 * 2**20
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert await processor_seconds() < 0.1

    total = 0
    line.client.shutdown(socket.SHUT_WR)
    while piece := await asyncio.wait_for(loop.sock_recv(line.server, 2**20), 20):
        total += len(piece)
    assert total == sent
    line.close()


@pytest.mark.parametrize("end", ["client", "server"])
async def test_a_side_that_breaks_ends_the_connection(line, end: str):
    """A reset on one side closes the other."""
    loop = asyncio.get_running_loop()
    broken, left = (line.client, line.server) if end == "client" else (line.server, line.client)
    await loop.sock_sendall(left, b"unread")
    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    broken.close()

    await asyncio.wait_for(line.ended.wait(), 20)
    with contextlib.suppress(ConnectionResetError):  # an orderly end is as good
        await asyncio.wait_for(receive_all(left), 20)


async def test_a_cut_ends_both_sides_and_returns_the_pipe(pipes):
    """A connection can be ended from outside in the middle of a transfer; nothing of it stays."""
    line = Line(pipes, receive_buffer=65536)
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(loop.sock_sendall(line.client, bytes(50_000_000)))
    await eventually(lambda: pipes.lent == 1, what="bytes are in flight")

    line.splice.cut()
    line.splice.cut()

    assert line.ended.is_set()
    assert pipes.lent == 0
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(sending, 20)
    line.close()


async def test_a_cut_is_complete_before_its_bytes_are_given_up(tmp_path: Path):
    """Killed in between, the process leaves nothing that another one would go on with, minus these bytes."""
    heard: list[bytes] = []

    class Watched(PipePool):
        def discard(self, pipe: Pipe) -> None:
            heard.append(line.client.recv(1))
            super().discard(pipe)

    holding = Holding(tmp_path)
    pool = Watched(holding)
    line = Line(pool, receive_buffer=65536)
    sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(line.client, bytes(50_000_000)))
    await eventually(lambda: pool.lent == 1, what="bytes are in flight")
    line.close()
    assert heard == [b""]
    sending.cancel()
    pool.close()
    holding.close()


async def test_what_has_not_begun_is_nobodys_to_give_away(pipes):
    """Taken over, but the holder does not know yet: it would be offered twice. And no byte moves before."""
    (client, near), (far, server) = tcp_pair(), tcp_pair()
    splice = Splice(near, far, pipes, 1, lambda: None)
    client.send(b"word")

    assert not splice.give_away(lambda _: True)

    await processor_seconds(0.05)
    with pytest.raises(BlockingIOError):
        server.recv(4)
    splice.start()
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(server, 4), 20) == b"word"
    assert splice.give_away(lambda _: True)
    client.close()
    server.close()


async def test_many_connections_share_a_few_pipes(pipes):
    """An idle connection holds no pipe, and after all have gone no descriptor is left."""
    gc.collect()
    before = open_descriptors()
    loop = asyncio.get_running_loop()
    lines = [Line(pipes) for _ in range(50)]

    async def chat(line: Line, number: int) -> None:
        for turn in range(10):
            word = f"{number}-{turn}".encode()
            await loop.sock_sendall(line.client, word)
            assert await loop.sock_recv(line.server, 100) == word
            await loop.sock_sendall(line.server, word[::-1])
            assert await loop.sock_recv(line.client, 100) == word[::-1]

    await asyncio.wait_for(asyncio.gather(*(chat(line, number) for number, line in enumerate(lines))), 20)

    assert pipes.lent == 0
    assert open_descriptors() <= before + 4 * len(lines) + 4
    for line in lines:
        line.close()
    pipes.close()
    assert open_descriptors() <= before


async def test_a_slow_reader_does_not_stop_others(pipes):
    """While one connection is blocked, another one moves."""
    loop = asyncio.get_running_loop()
    blocked, free = Line(pipes, receive_buffer=65536), Line(pipes)
    sending = asyncio.create_task(loop.sock_sendall(blocked.client, bytes(50_000_000)))
    await eventually(lambda: pipes.lent == 1, what="the first line is blocked")

    await loop.sock_sendall(free.client, b"ping")

    assert await asyncio.wait_for(loop.sock_recv(free.server, 10), 20) == b"ping"
    sending.cancel()
    blocked.close()
    free.close()


async def test_two_threads_of_plain_sockets_agree(line):
    """Blocking programs at both ends, as users' are, exchange small messages."""
    for end in (line.client, line.server):
        end.setblocking(True)
    words: list[bytes] = []

    def answer() -> None:
        for _ in range(100):
            words.append(line.server.recv(64))
            line.server.sendall(words[-1])

    thread = threading.Thread(target=answer)
    thread.start()

    def talk() -> None:
        for number in range(100):
            line.client.sendall(b"%d" % number)
            assert line.client.recv(64) == b"%d" % number

    await asyncio.wait_for(asyncio.to_thread(talk), 10)
    await asyncio.to_thread(thread.join)
    assert words == [b"%d" % number for number in range(100)]
