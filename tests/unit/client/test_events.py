"""Event streams: read whatever way they are cut, and resumed where they were."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tidegate.client.errors import GatewayClusterError, GatewayValueError, GatewayWarning
from tidegate.client.events import LOOK, ClusterEvent, EventParser, Message, follow
from tidegate.client.gateway import Gateway
from tidegate.client.progress import Progress
from tidegate.client.report import ClusterStatus
from tidegate.client.starting import wait_until_running
from tidegate.client.transport import Transport

from .conftest import CLUSTER, StubGateway, refuses, says, streams

# No line ends, and no leading space, which the format takes for its own.
texts = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"])).filter(
    lambda text: not text.startswith(" ")
)
messages = st.lists(st.tuples(texts, texts, st.lists(texts, min_size=1)), max_size=5)


def as_bytes(id: int, kind: str, message: str = "", **data: object) -> bytes:
    """Return an event as the gateway writes it."""
    body = {"id": id, "at": 1.0, "cluster": "c0ffee", "kind": kind, "message": message, "data": data}
    return f"id: {id}\nevent: {kind}\ndata: {json.dumps(body)}\n\n".encode()


@given(messages, st.sampled_from(["\n", "\r", "\r\n"]), st.data())
def test_a_stream_reads_the_same_however_it_is_cut(sent: list, end: str, data: st.DataObject) -> None:
    """Bytes arrive in any pieces, lines end in any of three ways."""
    lines = [": a comment", "retry: 1000"]
    for event, id, parts in sent:
        lines += [f"event: {event}", f"id: {id}", *(f"data: {part}" for part in parts), ""]
    raw = "".join(line + end for line in [*lines, ": end"]).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    parser = EventParser()

    read = [m for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) for m in parser.feed(raw[a:b])]

    assert read == [Message(event or "message", "\n".join(parts), id) for event, id, parts in sent]


@given(st.lists(st.binary()))
def test_no_bytes_break_the_parser(chunks: list[bytes]) -> None:
    """Whatever a proxy on the way answers instead, it gives messages or none."""
    parser = EventParser()
    for chunk in chunks:
        for message in parser.feed(chunk):
            ClusterEvent.from_message(message)


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    """The standard allows one at the beginning."""
    assert [m.data for m in EventParser().feed(b"\xef\xbb\xbfdata: x\n\n")] == ["x"]


def test_a_line_without_an_end_is_no_stream() -> None:
    """A page of endless bytes must not fill the memory."""
    with pytest.raises(ValueError, match="does not end"):
        list(EventParser().feed(b"x" * (17 * 2**20)))


async def collect(transport: Transport, after: int | None = None) -> list[tuple[int, str]]:
    """Return what follow yields, without the requests to look."""
    async with aclosing(follow(transport, "c0ffee", after)) as events:
        return [(event.id, event.kind) async for event in events if event.kind != LOOK]


async def test_a_cut_stream_goes_on_where_it_was(stub: StubGateway, transport: Transport) -> None:
    """Nothing is lost and nothing comes twice: the number of the last event goes with the new request."""
    stub.will(
        streams(as_bytes(3, "cluster-requested"), as_bytes(4, "cluster-starting")[:20], cut=True),
        refuses(503, "busy", "restarting"),
        streams(as_bytes(4, "cluster-starting")),
        streams(as_bytes(5, "cluster-running"), as_bytes(9, "cluster-stopped")),
    )

    assert await collect(transport) == [
        (3, "cluster-requested"),
        (4, "cluster-starting"),
        (5, "cluster-running"),
        (9, "cluster-stopped"),
    ]
    assert [r.headers.get("Last-Event-ID") for r in stub.requests] == [None, "3", "3", "4"]


async def test_a_stream_that_lasted_is_taken_up_without_a_word(stub: StubGateway, transport: Transport) -> None:
    """The gateway ends each after a while: the next begins where it was, at once, and nobody is told to look."""
    stub.will(
        streams(as_bytes(3, "cluster-requested")),
        streams(b"retry: 1000\nid: 3\n\n"),
        streams(as_bytes(9, "cluster-stopped")),
    )

    async with aclosing(follow(transport, "c0ffee", lasting=0.0)) as events:
        told = [event.kind async for event in events]

    assert told == ["cluster-requested", "cluster-stopped"]
    assert [r.headers.get("Last-Event-ID") for r in stub.requests] == [None, "3", "3"]


async def test_following_ends_when_nothing_more_will_come(stub: StubGateway, transport: Transport) -> None:
    """A cluster that ended before gives 204."""
    stub.will(says(None, 204))

    assert await collect(transport, 12) == []


async def test_a_refusal_is_not_tried_again(stub: StubGateway, transport: Transport) -> None:
    """A cluster that is not there will not be there in a second."""
    stub.will(refuses(404, "not-found", "cannot find this cluster"))

    with pytest.raises(GatewayValueError):
        await collect(transport)


async def test_without_a_stream_one_is_told_to_look(stub: StubGateway, transport: Transport) -> None:
    """A proxy that holds the stream back leaves reading the cluster as the way to hear of it."""
    stub.will(streams())

    async with aclosing(follow(transport, "c0ffee")) as events:
        assert [(await anext(events)).kind for _ in range(2)] == [LOOK, LOOK]


async def test_a_stream_that_is_held_back_whole_is_no_stream(stub: StubGateway, transport: Transport) -> None:
    """A proxy that waits for the end of an answer sends not even its head: soon one is told to look all the same."""

    over = asyncio.Event()

    async def answer_at_the_end(_: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    stub.will(answer_at_the_end)

    async with aclosing(follow(transport, "c0ffee")) as events:
        assert (await asyncio.wait_for(anext(events), 10)).kind == LOOK
    over.set()


@pytest.fixture
async def gateway(stub: StubGateway) -> Gateway:
    """A client of the stub."""
    return Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True)


async def test_waiting_tells_what_happens_and_returns_when_it_runs(stub: StubGateway, gateway: Gateway) -> None:
    """The words of the events become those of the progress line."""
    progress = Progress("")
    stub.will(
        streams(as_bytes(1, "cluster-starting", "The scheduler starts"), as_bytes(2, "cluster-running")), says(CLUSTER)
    )

    async with gateway:
        report = await wait_until_running(gateway, "c0ffee", progress, lambda: None)

    assert report.status is ClusterStatus.RUNNING
    assert progress.message == "Cluster c0ffee: The scheduler starts"


async def test_what_waits_for_the_cluster_begins_before_it_is_read(stub: StubGateway, gateway: Gateway) -> None:
    """To connect and to read the cluster take as long as the longer of both: here the reading waits for the other."""
    begun = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.wait_for(begun.wait(), 10)
        return await says(CLUSTER)(request)

    stub.will(streams(as_bytes(1, "cluster-running")), answer)

    async with gateway:
        report = await wait_until_running(gateway, "c0ffee", Progress(""), begun.set)

    assert report.status is ClusterStatus.RUNNING


async def test_waiting_warns_of_a_cluster_that_begins_smaller(stub: StubGateway, gateway: Gateway) -> None:
    """The user reads it at the line that asked."""
    body = {"id": 1, "at": 1.0, "kind": "cluster-requested", "message": "m", "data": {"note": "Scaling to 2 instead."}}
    stub.will(streams(f"data: {json.dumps(body)}\n\n".encode(), as_bytes(2, "cluster-running")), says(CLUSTER))

    async with gateway:
        with pytest.warns(GatewayWarning, match="Scaling to 2 instead"):
            await wait_until_running(gateway, "c0ffee", Progress(""), lambda: None)


async def test_waiting_without_a_stream_reads_the_cluster(stub: StubGateway, gateway: Gateway) -> None:
    """Polling is the way that is left."""
    starting = CLUSTER | {"state": "starting"}
    stub.will(streams(), says(starting), streams(), says(starting), streams(), says(CLUSTER))

    async with gateway:
        report = await wait_until_running(gateway, "c0ffee", Progress(""), lambda: None)

    assert report.status is ClusterStatus.RUNNING


async def test_a_cluster_that_is_taken_away_is_not_waited_for(stub: StubGateway, gateway: Gateway) -> None:
    """The error comes while it is still stopping."""
    stub.will(streams(as_bytes(1, "cluster-stopping")), says(CLUSTER | {"state": "stopping", "target": "stopped"}))

    async with gateway:
        with pytest.raises(GatewayClusterError, match="it is being stopped"):
            await asyncio.wait_for(wait_until_running(gateway, "c0ffee", Progress(""), lambda: None), 10)


async def test_a_failed_start_bears_reason_and_log(stub: StubGateway, gateway: Gateway) -> None:
    """Not `see logs`."""
    reason = {"code": "scheduler-exited", "message": "The scheduler ended by itself: exit code 1", "log_tail": "boom\n"}
    stub.will(streams(as_bytes(1, "cluster-failed")), says(CLUSTER | {"state": "failed", "reason": reason}))

    async with gateway:
        with pytest.raises(GatewayClusterError) as caught:
            await wait_until_running(gateway, "c0ffee", Progress(""), lambda: None)

    assert str(caught.value) == (
        "cannot use cluster c0ffee: The scheduler ended by itself: exit code 1\n\nThe last lines of its log:\n    boom"
    )
    assert caught.value.code == "scheduler-exited"
