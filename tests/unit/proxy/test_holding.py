"""A proxy process is killed, and what passed through it goes on: every byte, in order, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.data_plane import DataPlane, Scheduler, Stream, descriptors_of
from tests.support import eventually

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[DataPlane]:
    """Return a holder, and no proxy yet."""
    plane = DataPlane(tmp_path)
    await plane.start_holder()
    yield plane
    await plane.close()


async def talk(client: socket.socket, server: socket.socket) -> None:
    """Say something both ways."""
    loop = asyncio.get_running_loop()
    for one, other in ((client, server), (server, client)):
        await loop.sock_sendall(one, b"a word")
        assert await asyncio.wait_for(loop.sock_recv(other, 100), 10) == b"a word"


@pytest.mark.parametrize("receive_buffer", [0, 8192], ids=["fast", "slow"])
async def test_no_byte_is_lost_when_proxies_are_killed_under_load(plane: DataPlane, receive_buffer: int):
    """SIGKILL after SIGKILL, a sibling or a newcomer takes over, holder killed in between; then both half-closes."""
    seed = random.Random(receive_buffer)
    scheduler = Scheduler(plane, "abc", receive_buffer=receive_buffer)
    proxies = [await plane.start_proxy(), await plane.start_proxy()]
    over = asyncio.Event()
    lines = [await scheduler.connect() for _ in range(6)]
    streams = [
        Stream(*ends, seed=number, over=over)
        for number, (client, server) in enumerate(lines)
        for ends in ((client, server), (server, client))
    ]
    running = [asyncio.create_task(stream.run()) for stream in streams]

    for round in range(4):
        moved = sum(stream.bytes_received for stream in streams)
        wanted = moved + seed.randrange(500_000, 2_000_000)
        await eventually(lambda wanted=wanted: sum(stream.bytes_received for stream in streams) > wanted, 30)
        if round == 2:
            assert plane.holder is not None
            plane.kill(plane.holder)
            await plane.start_holder(listener=False)
            await plane.registered()
        plane.kill(proxies.pop(0))
        proxies.append(await plane.start_proxy())
    over.set()

    await asyncio.wait_for(asyncio.gather(*running), 60)
    assert all(stream.bytes_received > 100_000 for stream in streams)


async def until_ended(sock: socket.socket) -> None:
    """Wait until the other side has ended the connection, orderly or not."""
    with contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 2**20), 20):
            pass


@pytest.mark.parametrize("how", ["drain", "sigterm"])
async def test_a_proxy_that_retires_hands_its_connections_over(plane: DataPlane, how: str):
    """An upgrade need not wait for computations to end, and cuts none."""
    scheduler = Scheduler(plane, "abc", receive_buffer=8192)
    old = await plane.start_proxy()
    client, server = await scheduler.connect()
    over = asyncio.Event()
    streams = [Stream(*ends, seed=1, over=over) for ends in ((client, server), (server, client))]
    running = [asyncio.create_task(stream.run()) for stream in streams]
    await eventually(lambda: all(stream.bytes_received > 100_000 for stream in streams), 30)
    if how == "drain":
        await plane.control(old).ask("drain", accept=False)
    else:
        old.send_signal(signal.SIGTERM)
    assert old.poll() is None, "there is nobody yet to hand them over to"

    new = await plane.start_proxy()

    assert await asyncio.to_thread(old.wait, 10) == 0
    assert await plane.counts(new) == {"abc": 1}
    over.set()
    await asyncio.wait_for(asyncio.gather(*running), 60)


async def test_what_clients_do_while_nobody_serves_them_is_noticed_later(plane: DataPlane):
    """Half-closed, closed, or full of words: the next process passes on what came, and then the end."""
    scheduler = Scheduler(plane, "abc")
    first = await plane.start_proxy()
    half, whole, quiet = [await scheduler.connect() for _ in range(3)]
    loop = asyncio.get_running_loop()
    plane.kill(first)
    await loop.sock_sendall(half[0], b"last words")
    half[0].shutdown(socket.SHUT_WR)
    whole[1].close()

    second = await plane.start_proxy()

    assert await asyncio.wait_for(loop.sock_recv(half[1], 100), 10) == b"last words"
    await until_ended(half[1])
    await loop.sock_sendall(half[1], b"an answer")
    assert await asyncio.wait_for(loop.sock_recv(half[0], 100), 10) == b"an answer"
    half[1].shutdown(socket.SHUT_WR)
    for sock in (half[0], whole[0]):
        await until_ended(sock)
    await talk(*quiet)
    whole[0].close()
    assert (await plane.counts(second))["abc"] == 1


@pytest.mark.parametrize("side", [0, 1], ids=["client", "server"])
@pytest.mark.parametrize("absence", ["busy", "dead"])
async def test_last_words_and_a_reset_that_come_together_both_arrive(plane: DataPlane, absence: str, side: int):
    """A peer that is killed with unread bytes resets its connection: the other side must not wait for it for ever."""
    scheduler = Scheduler(plane, "abc")
    proxy = await plane.start_proxy()
    ends = await scheduler.connect()
    await talk(*ends)
    leaving, staying = ends[side], ends[1 - side]
    if absence == "busy":
        proxy.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, proxy.pid, os.WSTOPPED)
    else:
        plane.kill(proxy)

    leaving.send(b"last words")
    leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends a reset
    leaving.close()
    if absence == "busy":
        proxy.send_signal(signal.SIGCONT)
    else:
        await plane.start_proxy()

    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(staying, 100), 10) == b"last words"
    await until_ended(staying)


async def test_a_route_that_is_withdrawn_while_nobody_serves_it_cuts_its_connections(plane: DataPlane):
    """Whether the process that takes them knows it already or is told afterwards; others go on."""
    withdrawn, kept = Scheduler(plane, "gone"), Scheduler(plane, "kept")
    first = await plane.start_proxy()
    cut, goes_on = [await withdrawn.connect() for _ in range(2)], await kept.connect()
    plane.kill(first)
    plane.routes = [route for route in plane.routes if route.name == "kept"]

    second = await plane.start_proxy()

    for sock in (end for ends_of_one in cut for end in ends_of_one):
        await until_ended(sock)
    await talk(*goes_on)
    await plane.control(second).ask("delete", name="kept")
    for sock in goes_on:
        await until_ended(sock)


async def test_without_control_connections_that_were_taken_over_go_on(plane: DataPlane):
    """A process that was told no routes yet knows nothing, which is no reason to cut anybody."""
    scheduler = Scheduler(plane, "abc")
    first = await plane.start_proxy()
    line = await scheduler.connect()
    plane.kill(first)

    await plane.start_proxy(tell=False, table_seconds=0.1)

    await talk(*line)


async def test_a_new_holder_is_told_everything(plane: DataPlane):
    """The listener too; nobody notices, and afterwards a killed proxy costs nothing again."""
    scheduler = Scheduler(plane, "abc")
    first, _ = await plane.start_proxy(), await plane.start_proxy()
    lines = [await scheduler.connect() for _ in range(8)]
    assert plane.holder is not None
    plane.kill(plane.holder)
    for line in lines:
        await talk(*line)
    lines.append(await scheduler.connect())

    await plane.start_holder(listener=False)
    await plane.registered()

    await eventually(lambda: plane.held_listener() == plane.port)
    plane.kill(first)
    for line in lines:
        await talk(*line)


async def test_when_both_are_killed_connections_end_and_nothing_hangs(plane: DataPlane):
    """Those of the killed process; the next ones find their way."""
    scheduler = Scheduler(plane, "abc")
    proxy = await plane.start_proxy()
    client, server = await scheduler.connect()
    assert plane.holder is not None
    plane.kill(plane.holder)
    plane.kill(proxy)

    for sock in (client, server):
        await until_ended(sock)
    await plane.start_holder()
    await plane.start_proxy()
    await talk(*await scheduler.connect())


async def test_a_holder_that_is_stopped_delays_nobody(plane: DataPlane):
    """Connections begin and end without it, more than fit into its queue; then it is told what it has missed."""
    scheduler = Scheduler(plane, "abc")
    proxy = await plane.start_proxy()
    withdrawn = await scheduler.connect()
    assert plane.holder is not None
    plane.holder.send_signal(signal.SIGSTOP)
    await plane.control(proxy).ask("delete", name="abc")
    for sock in withdrawn:
        await until_ended(sock)
    await plane.tell(proxy)
    for _ in range(150):
        client, server = await scheduler.connect()
        client.close()
        await until_ended(server)
        server.close()
    line = await scheduler.connect()
    assert not (await plane.control(proxy).ask("status"))["held"]

    plane.holder.send_signal(signal.SIGCONT)
    await plane.registered()
    plane.kill(proxy)
    await plane.start_proxy()

    await talk(*line)


async def test_what_cannot_be_held_is_served_all_the_same(tmp_path: Path):
    """A holder with too few descriptors says so once, and holds what it can."""
    plane = DataPlane(tmp_path)
    await plane.start_holder(descriptors=64)
    scheduler = Scheduler(plane, "abc")
    proxy = await plane.start_proxy()
    lines = [await scheduler.connect() for _ in range(40)]
    for line in lines:
        await talk(*line)
    plane.kill(proxy)
    await plane.start_proxy()

    saved = 0
    for client, server in lines:
        with contextlib.suppress(ConnectionError, AssertionError):
            await talk(client, server)
            saved += 1
    assert 10 <= saved <= 25
    assert 1 <= plane.log.read_text().count("one is not held") <= 3
    await plane.close()


async def test_a_thousand_connections_leave_no_descriptor(plane: DataPlane):
    """Neither in the proxy nor in the holder; a cut reaches both sides although the holder has duplicates."""
    scheduler = Scheduler(plane, "abc")
    proxy = await plane.start_proxy()
    assert plane.holder is not None
    client, server = await scheduler.connect()
    await talk(client, server)
    before = descriptors_of(proxy), descriptors_of(plane.holder)

    for number in range(1000):
        client, server = await scheduler.connect()
        first, second = (client, server) if number % 2 else (server, client)
        first.close()
        await until_ended(second)
        second.close()

    await eventually(lambda: descriptors_of(proxy) <= before[0], what="the proxy has closed them")
    await eventually(lambda: descriptors_of(plane.holder) <= before[1], what="the holder has closed them")
