"""A cluster's connection from its client's TLS to its scheduler, through a whole proxy."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import random
import socket
import ssl
from contextlib import suppress

import pytest

from tests.proxy_rig import (
    Rig,
    client_hello,
    echo,
    in_records,
    open_descriptors,
    processor_seconds,
    short_limits,
    until_end,
)
from tests.support import eventually
from tidegate.proxy.passthrough import UNRECOGNIZED_NAME, cluster_of


@pytest.mark.parametrize(
    ("server_name", "cluster"),
    [
        ("daskgateway-abc", "abc"),
        ("daskgateway-", None),
        ("daskgateway", None),
        ("example.org", None),
        ("x.daskgateway-abc", None),
        (None, None),
    ],
)
def test_the_cluster_is_in_the_server_name(server_name, cluster):
    """The prefix and the name, as dask-gateway's clients send them."""
    assert cluster_of(server_name) == cluster


async def test_tls_goes_from_end_to_end(rig: Rig):
    """The client sees the scheduler's own certificate, and what it sends arrives there."""
    await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")
    writer.write(b"hello")

    assert await reader.readexactly(5) == b"hello"
    certificate = writer.get_extra_info("ssl_object").getpeercert()
    assert certificate["subjectAltName"] == (("DNS", "abc"),)
    writer.close()


async def test_each_cluster_has_its_own_scheduler(rig: Rig):
    """Connections with different names end at different schedulers."""

    def saying(word: bytes):
        async def say(reader, writer):
            writer.write(word)
            await writer.drain()

        return say

    for name in ("one", "two"):
        await rig.scheduler(name, saying(name.encode()))

    for name in ("two", "one", "two"):
        reader, writer = await rig.connect(name)
        assert await reader.read() == name.encode()
        writer.close()


async def test_fifty_megabytes_each_way(rig: Rig):
    """A large transfer arrives complete in both directions."""
    await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")
    piece = os.urandom(2**20)
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        for _ in range(50):
            sent.update(piece)
            writer.write(piece)
            await writer.drain()

    async def receive() -> None:
        left = 50 * 2**20
        while left:
            data = await reader.read(left)
            assert data
            left -= len(data)
            received.update(data)

    await asyncio.wait_for(asyncio.gather(send(), receive()), 60)
    writer.close()

    assert sent.digest() == received.digest()


async def test_many_clients_at_once(rig: Rig):
    """A hundred connections open together, talk, and leave nothing behind."""
    await rig.scheduler("abc", echo)
    gc.collect()

    async def talk(number: int) -> None:
        reader, writer = await rig.connect("abc")
        word = b"%d" % number * 100
        writer.write(word)
        assert await reader.readexactly(len(word)) == word
        writer.close()
        await writer.wait_closed()

    await asyncio.wait_for(talk(0), 10)
    await eventually(lambda: not rig.proxy.connections)
    before = open_descriptors()
    await asyncio.wait_for(asyncio.gather(*(talk(number) for number in range(100))), 60)

    await eventually(lambda: not rig.proxy.connections)
    await eventually(lambda: open_descriptors() <= before + 4, what="every descriptor is closed")


@pytest.mark.parametrize("seed", range(4))
async def test_a_hello_in_random_pieces_arrives_unchanged(rig: Rig, seed: int):
    """However the hello comes, the scheduler receives the very same bytes."""
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def note(reader, writer):
        await got.put(await reader.read())

    await rig.scheduler("abc", note, tls=False)
    rng = random.Random(seed)
    data = in_records(client_hello("daskgateway-abc"), [rng.randrange(1, 200) for _ in range(seed)])
    _, writer = await rig.connect_raw()
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    left = data + b"and more"
    while left:
        size = rng.randrange(1, 90)
        writer.write(left[:size])
        await writer.drain()
        left = left[size:]
    writer.write_eof()

    assert await asyncio.wait_for(got.get(), 20) == data + b"and more"
    writer.close()


async def test_an_unknown_cluster_is_refused_in_the_words_of_tls(rig: Rig):
    """The client fails at once, and OpenSSL says why."""
    rig.loaded()

    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        await asyncio.wait_for(rig.connect("nonsense"), 20)


async def test_a_route_that_comes_late_is_waited_for(make_rig):
    """A proxy that has just started does not say that a cluster is unknown before it was told which there are."""
    rig = await make_rig(limits=short_limits(table_seconds=10.0))
    connecting = asyncio.create_task(rig.connect("abc"))
    await processor_seconds(0.1)
    assert not connecting.done()

    await rig.scheduler("abc", echo)
    rig.loaded()

    _, writer = await asyncio.wait_for(connecting, 20)
    writer.close()


async def test_a_scheduler_that_is_not_there_closes_the_connection(rig: Rig):
    """No alert here: the client may try again, for the scheduler may be on its way."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    rig.publish("abc", port)

    reader, writer = await rig.connect_raw()
    writer.write(client_hello("daskgateway-abc"))

    assert await until_end(reader) == b""


async def test_a_scheduler_that_is_killed_ends_its_connections(rig: Rig):
    """When the upstream breaks, the client is told, and nothing stays open."""
    broken = asyncio.Event()

    async def break_down(reader, writer):
        await reader.readexactly(5)
        writer.transport.abort()
        broken.set()

    await rig.scheduler("abc", break_down)
    reader, writer = await rig.connect("abc")
    writer.write(b"hello")
    await broken.wait()

    assert await until_end(reader) == b""
    await eventually(lambda: not rig.proxy.connections)
    writer.close()


async def test_our_own_address_is_never_dialled(rig: Rig):
    """An agent that reports the gateway's own port does not make the proxy talk to itself."""
    for host in ("127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1"):
        rig.publish("abc", rig.port, host=host)
        answer = await rig.exchange_raw(client_hello("daskgateway-abc"))
        assert answer == b""
    assert not rig.proxy.connections


async def test_a_withdrawn_route_cuts_its_connections_only(rig: Rig):
    """After ``delete`` the cluster's connections are gone, and another's go on."""
    for name in ("doomed", "other"):
        await rig.scheduler(name, echo)
    doomed, doomed_writer = await rig.connect("doomed")
    other, other_writer = await rig.connect("other")
    await eventually(lambda: rig.proxy.counts() == {"doomed": 1, "other": 1})

    rig.proxy.routes.delete("doomed")

    assert await until_end(doomed) == b""
    other_writer.write(b"alive")
    assert await asyncio.wait_for(other.readexactly(5), 20) == b"alive"
    assert rig.proxy.counts() == {"other": 1}
    for writer in (doomed_writer, other_writer):
        writer.close()


async def test_a_changed_route_leaves_connections_alone(rig: Rig):
    """A scheduler that reports again, with a dashboard now, cuts nobody."""
    route = await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")

    rig.publish("abc", route.port, dashboard_port=8787)

    writer.write(b"alive")
    assert await asyncio.wait_for(reader.readexactly(5), 20) == b"alive"
    writer.close()


async def test_silent_strangers_are_closed(make_rig):
    """Who says nothing, or half a hello, is gone after the deadline, and cost no processor time."""
    rig = await make_rig(limits=short_limits())
    lines = [await rig.connect_raw() for _ in range(20)]
    for number, (_, writer) in enumerate(lines):
        writer.write(client_hello("daskgateway-abc")[: number * 10])

    spent = await processor_seconds(0.25)
    answers = await asyncio.wait_for(asyncio.gather(*(until_end(reader) for reader, _ in lines)), 20)

    assert answers == [b""] * 20
    assert spent < 0.1
    for _, writer in lines:
        writer.close()


async def test_tls_for_nobody_we_know_is_refused_on_a_plain_port(rig: Rig):
    """A browser that tries https:// on a gateway without a certificate is told by an alert."""
    assert await rig.exchange_raw(client_hello("localhost")) == UNRECOGNIZED_NAME


async def test_too_many_connections_that_say_nothing(make_rig):
    """Beyond the cap the oldest is closed at once; a cluster's client, who speaks, is served all the same."""
    rig = await make_rig(limits=short_limits(connections=3, hello_seconds=30))
    lines = [await rig.connect_raw() for _ in range(4)]

    reading = [asyncio.create_task(reader.read()) for reader, _ in lines]
    done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED, timeout=5)
    assert done == {reading[0]}

    await rig.scheduler("abc", echo)
    _, client = await rig.connect("abc")
    for writer in (client, *(writer for _, writer in lines)):
        writer.close()
    await eventually(lambda: rig.proxy.acceptor._admission.count == 0)


async def test_a_cluster_has_so_many_connections(make_rig, caplog: pytest.LogCaptureFixture):
    """Whoever runs code in one cluster cannot take the slots of the others; the log says so, but not each time."""
    rig = await make_rig(limits=short_limits(connections=8))
    await rig.scheduler("greedy", echo)
    await rig.scheduler("other", echo)
    lines = [await rig.connect("greedy") for _ in range(2)]

    with caplog.at_level(logging.WARNING, "tidegate.proxy.passthrough"):
        for _ in range(3):
            assert await rig.exchange_raw(client_hello("daskgateway-greedy")) == UNRECOGNIZED_NAME
    assert [record.getMessage() for record in caplog.records] == [
        "cluster greedy has 2 connections through this process, as many as may be: more are refused"
    ]
    lines.append(await rig.connect("other"))

    lines[0][1].close()
    await eventually(lambda: rig.proxy.counts()["greedy"] == 1)
    lines.append(await rig.connect("greedy"))
    for _, writer in lines:
        writer.close()


async def test_a_scheduler_that_does_not_accept_takes_no_more(make_rig):
    """Connections to it count from the beginning of the dialling on, which a hostile scheduler can make long."""
    rig = await make_rig(limits=short_limits(connections=8))
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        crowd = [socket.socket() for _ in range(4)]
        for sock in crowd:
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(full.getsockname())
        rig.publish("abc", full.getsockname()[1])
        writers = []
        for _ in range(2):
            _, writer = await rig.connect_raw()
            writer.write(client_hello("daskgateway-abc"))
            writers.append(writer)
        await eventually(lambda: rig.proxy.passthrough._dialling["abc"] == 2)

        assert await rig.exchange_raw(client_hello("daskgateway-abc")) == UNRECOGNIZED_NAME
        for open_socket in (*crowd, *writers):
            open_socket.close()
