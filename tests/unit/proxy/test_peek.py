"""Looking at the first bytes: nothing is taken, nothing spins, and the wait ends when it should."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator

import pytest

from tests.proxy_rig import client_hello, in_records, processor_seconds
from tidegate.proxy.hello import Malformed, Name, NotTls
from tidegate.proxy.peek import peek_hello

HELLO = client_hello("daskgateway-abc")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a client and the non-blocking socket that was accepted from it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted, _ = listener.accept()
    accepted.setblocking(False)
    with client, accepted:
        yield client, accepted


async def test_a_hello_is_seen_and_left_where_it_is(pair):
    """After the look, the very same bytes can be read, and one byte makes the socket readable again."""
    client, accepted = pair
    client.sendall(HELLO)

    assert await peek_hello(accepted) == Name("daskgateway-abc")
    assert accepted.recv(65536) == HELLO
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


@pytest.mark.parametrize("seed", range(8))
async def test_a_hello_may_come_in_pieces(pair, seed: int):
    """Wherever the network, or the client, cuts it: the answer is the same."""
    client, accepted = pair
    rng = random.Random(seed)
    data = in_records(HELLO, [rng.randrange(1, 300) for _ in range(seed)])
    looking = asyncio.create_task(peek_hello(accepted))
    while data:
        size = rng.choice([1, 2, 5, 60, 400])
        client.sendall(data[:size])
        data = data[size:]
        await asyncio.sleep(0)

    assert await asyncio.wait_for(looking, 20) == Name("daskgateway-abc")


async def test_http_is_told_apart(pair):
    """The request is untouched."""
    client, accepted = pair
    client.sendall(b"GET / HTTP/1.1\r\n\r\n")

    assert await peek_hello(accepted) == NotTls()
    assert accepted.recv(4) == b"GET "


@pytest.mark.parametrize("sent", [b"", b"\x16", HELLO[:4], HELLO[:100]], ids=len)
async def test_a_stream_that_ends_early_ends_the_look(pair, sent: bytes):
    """The end of the stream wakes us, though less came than we wait for."""
    client, accepted = pair
    looking = asyncio.create_task(peek_hello(accepted))
    client.sendall(sent)
    await asyncio.sleep(0)
    client.shutdown(socket.SHUT_WR)

    assert await asyncio.wait_for(looking, 20) is None


async def test_a_broken_hello_is_told(pair):
    """What is wrong from the first record on needs no more bytes."""
    client, accepted = pair
    client.sendall(b"\x16\x03\x01\x00\x00")

    assert isinstance(await asyncio.wait_for(peek_hello(accepted), 20), Malformed)


async def test_a_partial_hello_costs_no_processor_time(pair):
    """While we wait for the rest, the event loop sleeps: unread bytes do not wake it again and again."""
    client, accepted = pair
    client.sendall(HELLO[:-1])
    looking = asyncio.create_task(peek_hello(accepted))

    assert await processor_seconds() < 0.1
    assert not looking.done()
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


async def test_a_dribbling_client_costs_one_look_per_record(pair):
    """A hello that comes byte by byte wakes us when a record is complete, not with every byte."""
    client, accepted = pair
    looking = asyncio.create_task(peek_hello(accepted))
    loop = asyncio.get_running_loop()
    wakes = 0
    add_reader = loop.add_reader

    def counting(*args):
        nonlocal wakes
        wakes += 1
        return add_reader(*args)

    loop.add_reader = counting  # type: ignore[method-assign]
    for byte in HELLO:
        await loop.sock_sendall(client, bytes([byte]))
        await asyncio.sleep(0)

    assert await asyncio.wait_for(looking, 20) == Name("daskgateway-abc")
    assert wakes <= 3
