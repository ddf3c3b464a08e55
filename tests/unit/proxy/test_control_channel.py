"""What control can ask of a proxy, and what it is told unasked."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat

import pytest

from tests.proxy_rig import (
    SECRET,
    TICKET_KEY,
    ControlEnd,
    Rig,
    client_hello,
    echo,
    short_limits,
    temporary_folder,
    until_end,
)
from tests.support import eventually
from tidegate.proxy import listener
from tidegate.wire.proxy import Route


def route(name: str, port: int = 1) -> dict[str, object]:
    """Return the JSON of a route."""
    return Route(name, "127.0.0.1", port, None, SECRET, "ca", TICKET_KEY).to_json()


async def test_routes_are_replaced_put_and_deleted(rig: Rig):
    """Each operation is acknowledged after it has taken effect, and may be repeated."""
    control = await rig.control()
    for _ in range(2):
        assert (await control.ask("replace", routes=[route("a"), route("b")]))["ok"] is True
        assert rig.proxy.routes.get("a") == Route.from_json(route("a"))
        assert (await control.ask("put", route=route("c", 2)))["ok"] is True
        assert (await control.ask("delete", name="a"))["ok"] is True
        assert (await control.ask("delete", name="a"))["ok"] is True
    status = await control.ask("status")

    assert status["ok"] is True
    assert status["pid"] == os.getpid()
    assert status["address"] == f"127.0.0.1:{rig.port}"
    assert status["routes"] == 2
    assert status["connections"] == {}
    assert status["version"]
    control.close()


async def test_connections_are_counted_and_told(rig: Rig):
    """Every control is told when it connects and when a count changes."""
    await rig.scheduler("abc", echo)
    first, second = await rig.control(), await rig.control()
    await first.counts({})
    _, writer = await rig.connect("abc")
    for control in (first, second):
        await control.counts({"abc": 1})
    third = await rig.control()
    assert (await third.read()) == {"event": "connections", "counts": {"abc": 1}}

    writer.close()

    for control in (first, second, third):
        await control.counts({})
        control.close()


async def test_a_deleted_route_has_no_connections_any_more(rig: Rig):
    """When ``delete`` is acknowledged, the connections are cut."""
    await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")
    control = await rig.control()

    await control.ask("delete", name="abc")

    assert await until_end(reader) == b""
    assert (await control.ask("status"))["connections"] == {}
    writer.close()
    control.close()


async def test_routes_stay_when_control_has_gone(rig: Rig):
    """Control is killed; connections are made as before, and the next control sends its table."""
    scheduler = await rig.scheduler("abc", echo)
    control = await rig.control()
    await control.ask("replace", routes=[scheduler.to_json()])
    control.close()

    _, writer = await rig.connect("abc")
    control = await rig.control()
    assert (await control.ask("status"))["connections"] == {"abc": 1}
    writer.close()
    control.close()


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"id": 7, "op": "format-disk"}',
        b'{"id": 7, "op": "put", "route": {"name": "a"}}',
        b'{"id": 7, "op": "replace", "routes": 3}',
        b"\xff\xfe",
    ],
)
async def test_a_mistake_of_control_is_answered(rig: Rig, line: bytes):
    """A line that makes no sense is refused, changes nothing, and the conversation goes on."""
    rig.publish("kept", 1)
    control = await rig.control()
    await control.counts({})
    control._writer.write(line + b"\n")

    answer = await control.read()

    assert answer["ok"] is False
    assert answer["error"]
    assert (await control.ask("status"))["routes"] == 1
    control.close()


async def test_a_large_table_arrives_whole(rig: Rig):
    """Ten thousand routes come in one line of several megabytes."""
    control = await rig.control()
    routes = [{**route(f"c{number}"), "ca": "x" * 500} for number in range(10_000)]

    assert (await control.ask("replace", routes=routes))["ok"] is True
    assert len(rig.proxy.routes) == 10_000
    control.close()


async def test_only_listening_sockets_are_taken_over(tmp_path):
    """What is no listener is refused with a sentence."""
    with socket.socket() as plain, pytest.raises(OSError, match="no listening socket"):
        listener.inherited((os.dup(plain.fileno()),))


async def test_only_this_user_may_speak(rig: Rig):
    """The socket is for its owner's eyes."""
    assert stat.S_IMODE(rig.channel_path.stat().st_mode) == 0o600


async def test_a_deep_folder_is_no_obstacle(tmp_path):
    """Socket addresses have 107 bytes; data folders may be deeper."""
    folder = temporary_folder(tmp_path, 180)
    rig = Rig(folder)
    control = await rig.control()
    assert (await control.ask("status"))["ok"] is True
    control.close()
    await rig.close()
    assert not rig.channel_path.exists()


async def test_a_socket_left_behind_is_replaced(tmp_path):
    """A killed process that had the same pid cannot keep a new one from starting."""
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "run" / f"proxy-{os.getpid()}.sock"))
    rig = Rig(tmp_path)
    control = await rig.control()
    assert (await control.ask("status"))["ok"] is True
    control.close()
    await rig.close()


async def test_a_control_that_does_not_read_holds_nobody_up(rig: Rig):
    """Its answers wait in its own buffers; another control is served."""
    deaf = await rig.control()
    for _ in range(2_000):
        deaf._writer.write(json.dumps({"id": 1, "op": "status", "padding": "x" * 1000}).encode() + b"\n")
    control = await rig.control()

    assert (await asyncio.wait_for(control.ask("status"), 20))["ok"] is True
    control.close()
    deaf.close()


# How a proxy ends.


async def test_drained_without_connections_it_ends_at_once(rig: Rig):
    """Nothing keeps it; its socket goes with it, and the port is free."""
    control = await rig.control()
    await control.ask("drain")

    await asyncio.wait_for(rig.ended(), 20)
    assert not rig.channel_path.exists()
    with pytest.raises(ConnectionRefusedError):
        await rig.connect_raw()


async def test_drained_it_serves_until_the_last_cluster_connection_ends(rig: Rig):
    """New connections are served too; it ends with the last one."""
    await rig.scheduler("abc", echo)
    _, first = await rig.connect("abc")
    control = await rig.control()
    await control.ask("drain")
    reader, second = await rig.connect("abc")
    first.close()
    await control.counts({"abc": 1})
    second.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    assert rig.running

    second.close()

    await asyncio.wait_for(rig.ended(), 20)


async def test_drained_it_serves_who_was_let_in_before(rig: Rig):
    """Somebody in the middle of a hello is a connection too; who comes after him is not let in."""
    await rig.scheduler("abc", echo, tls=False)
    hello = client_hello("daskgateway-abc")
    reader, writer = await rig.connect_raw()
    writer.write(hello[:20])
    await eventually(lambda: rig.proxy.acceptor._greetings)
    rig.proxy.drain(accept=True)
    assert not rig.proxy.status()["accepting"]

    writer.write(hello[20:])

    assert await asyncio.wait_for(reader.readexactly(len(hello)), 20) == hello
    writer.close()
    await asyncio.wait_for(rig.ended(), 20)


async def test_drained_it_does_not_wait_for_strangers_for_long(make_rig):
    """Who says nothing has a deadline, and nobody else is let in."""
    rig = await make_rig(limits=short_limits())
    _, writer = await rig.connect_raw()
    await eventually(lambda: rig.proxy.acceptor._greetings)

    rig.proxy.drain(accept=True)

    await asyncio.wait_for(rig.ended(), 20)
    writer.close()


async def test_drained_for_a_successor_it_accepts_no_more(rig: Rig):
    """What comes waits for the process that has the listener now."""
    await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")
    control = await rig.control()
    await control.ask("drain", accept=False)
    assert (await control.ask("status"))["accepting"] is False

    _, waiting = await rig.connect_raw()
    writer.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    writer.close()
    await asyncio.wait_for(rig.ended(), 20)
    waiting.close()


async def test_an_orphan_ends_when_nobody_needs_it(make_rig):
    """Without control for long, and without cluster connections: the end."""
    rig = await make_rig(limits=short_limits(orphan_seconds=0.2))

    await asyncio.wait_for(rig.ended(), 20)


async def test_an_orphan_with_connections_goes_on(make_rig):
    """A computation that is connected keeps it alive, for ever if need be."""
    rig = await make_rig(limits=short_limits(orphan_seconds=0.2))
    await rig.scheduler("abc", echo)
    reader, writer = await rig.connect("abc")
    await eventually(lambda: rig.proxy.lifetime._orphaned)
    writer.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    rig.proxy.routes._routes.clear()  # withdrawn, it would be cut

    writer.close()

    await asyncio.wait_for(rig.ended(), 20)


async def test_an_orphan_that_knows_a_cluster_keeps_the_port(make_rig):
    """Its clients and agents come back with their tokens: whoever else listened there by then would get them."""
    rig = await make_rig(limits=short_limits(orphan_seconds=0.2))
    await rig.scheduler("abc", echo)
    _, writer = await rig.connect("abc")
    await eventually(lambda: rig.proxy.lifetime._orphaned)
    writer.close()
    await eventually(lambda: not rig.proxy.connections)
    reader, writer = await rig.connect("abc")
    writer.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    writer.close()

    control = await ControlEnd.connect(rig.channel_path)
    await control.ask("delete", name="abc")
    control.close()

    await asyncio.wait_for(rig.ended(), 20)


async def test_a_control_that_comes_back_keeps_it(make_rig):
    """It is an orphan no more, and drops back into the count when control leaves again."""
    rig = await make_rig(limits=short_limits(orphan_seconds=0.3))
    await rig.scheduler("abc", echo)
    _, writer = await rig.connect("abc")
    await eventually(lambda: rig.proxy.lifetime._orphaned)
    control = await ControlEnd.connect(rig.channel_path)
    assert (await control.ask("status"))["ok"]
    writer.close()
    await control.counts({})
    assert rig.running

    await control.ask("delete", name="abc")
    control.close()

    await asyncio.wait_for(rig.ended(), 20)


async def test_terminated_it_cuts_what_is_left_after_a_while(make_rig):
    """SIGTERM has a deadline; a second one has none."""
    for terminations in (1, 2):
        rig = await make_rig(limits=short_limits(drain_seconds=0.3 if terminations == 1 else 60))
        await rig.scheduler("abc", echo)
        reader, writer = await rig.connect("abc")
        for _ in range(terminations):
            rig.proxy.terminate()

        assert await until_end(reader) == b""
        await asyncio.wait_for(rig.ended(), 20)
        writer.close()
