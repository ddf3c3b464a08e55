"""Events as they happen: in order, without a gap, to the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.in_process import Gateway, Reader
from tidegate.api import events
from tidegate.authn.tokens import mint_token
from tidegate.model import event as kinds
from tidegate.model.event import Event
from tidegate.model.principal import Principal


async def all_of(reader: Reader) -> list[dict[str, str]]:
    """Return every message to the end."""
    return [message async for message in reader.messages()]


async def test_a_cluster_is_told_from_its_beginning_to_its_end(gateway: Gateway) -> None:
    """Each event has its number, its kind and its data; the stream ends with the cluster."""
    cluster = await gateway.create()
    url = f"/api/v2/clusters/{cluster.name}/events"
    async with Reader(gateway, url) as reader:
        told = asyncio.create_task(all_of(reader))
        await gateway.become_running(cluster.name)
        await gateway.become_failed(cluster.name)
        retry, *rest = await asyncio.wait_for(told, 10)

    assert reader.start["status"] == 200
    assert reader.headers["content-type"].startswith("text/event-stream")
    assert retry == {"retry": "1000", "id": "0"}
    assert [message["event"] for message in rest] == [kinds.REQUESTED, kinds.RUNNING, kinds.FAILED]
    numbers = [int(message["id"]) for message in rest]
    assert numbers == sorted(set(numbers))
    last = json.loads(rest[-1]["data"])
    assert last["cluster"] == cluster.name
    assert last["kind"] == kinds.FAILED
    assert last["message"] == "The scheduler ended by itself: exit code 1"
    assert last["data"]["log_tail"] == "ModuleNotFoundError: no <dask>"


@pytest.mark.parametrize("how", ["header", "query", "both"])
async def test_a_cut_stream_is_taken_up_where_it_was(gateway: Gateway, how: str) -> None:
    """Whatever was seen is not told again, and nothing is missed; the header counts before the query."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    await gateway.become_failed(cluster.name)
    recorded = await gateway.store.events(clusters=[cluster.name])
    seen = str(recorded[0].id)
    query = {"header": "", "query": f"?after={seen}", "both": "?after=0"}[how]
    headers = {} if how == "query" else {"last_event_id": seen}

    async with Reader(gateway, f"/api/v2/clusters/{cluster.name}/events{query}", **headers) as reader:
        _, *rest = await all_of(reader)

    assert [int(message["id"]) for message in rest] == [event.id for event in recorded[1:]]


async def test_nothing_more_to_come_is_204(gateway: Gateway) -> None:
    """Browsers come back for ever to a stream that just ends; 204 tells them to stop."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)
    last = await gateway.store.last_event_id()
    client = gateway.client("alice", **{"Last-Event-ID": str(last)})

    reply = await client.get(f"/api/v2/clusters/{cluster.name}/events")

    assert reply.status_code == 204


async def test_all_my_clusters_are_told_from_now_on(gateway: Gateway) -> None:
    """New events of every cluster of mine, none of another tenant's, none of the past."""
    await gateway.create("alice")
    async with Reader(gateway, "/api/v2/events") as reader:
        await gateway.create("mallory")
        mine = await gateway.create("alice")
        messages = reader.messages()
        assert (await anext(messages))["retry"] == "1000"
        message = await anext(messages)

    assert json.loads(message["data"])["cluster"] == mine.name


async def test_all_my_clusters_can_be_taken_up_too(gateway: Gateway) -> None:
    """``after=0`` is everything that is on record."""
    names = [(await gateway.create("alice")).name for _ in range(2)]
    async with Reader(gateway, "/api/v2/events?after=0") as reader:
        messages = reader.messages()
        await anext(messages)
        told = [json.loads((await anext(messages))["data"])["cluster"] for _ in names]

    assert told == names


async def test_a_foreign_cluster_has_no_events(gateway: Gateway) -> None:
    """404 before anything is streamed."""
    cluster = await gateway.create("alice")

    reply = await gateway.client("mallory").get(f"/api/v2/clusters/{cluster.name}/events")

    assert reply.status_code == 404


async def test_a_line_break_in_a_message_breaks_nothing(gateway: Gateway) -> None:
    """What a backend says cannot forge an event."""
    cluster = await gateway.create()
    await gateway.change(cluster.name, Event(kinds.STARTING, "one\n\nevent: cluster-failed\ndata: {}\r\n\r\nid: 9"))
    await gateway.become_failed(cluster.name)

    async with Reader(gateway, f"/api/v2/clusters/{cluster.name}/events") as reader:
        rest = await all_of(reader)

    assert [message.get("event") for message in rest[1:]] == [kinds.REQUESTED, kinds.STARTING, kinds.FAILED]


async def test_a_reader_that_goes_away_is_let_go(gateway: Gateway) -> None:
    """Nothing listens any more when the connection is gone."""
    cluster = await gateway.create()
    bus = gateway.records._bus
    async with Reader(gateway, f"/api/v2/clusters/{cluster.name}/events") as reader:
        messages = reader.messages()
        await anext(messages)
        await anext(messages)
        assert bus._listeners

    assert not bus._listeners


async def short_lived(gateway: Gateway, user: str, name: str, seconds: float) -> None:
    """Let ``gateway`` know a token of ``user`` under ``name``, which expires so soon."""
    now = gateway.clock.now
    _, gateway.tokens[name] = await mint_token(gateway.store, Principal(user), name, now=now, expires_at=now + seconds)


@pytest.mark.parametrize("what", ["all", "one", "page"])
async def test_a_stream_ends_with_its_token(gateway: Gateway, what: str) -> None:
    """In order, without having told more; to the next request it is refused."""
    cluster = await gateway.create("alice")
    await short_lived(gateway, "alice", "short", 0.2)
    path = {
        "all": "/api/v2/events",
        "one": f"/api/v2/clusters/{cluster.name}/events",
        "page": f"/console/clusters/{cluster.name}/live",
    }[what]
    async with Reader(gateway, path, "short") as reader:
        await asyncio.wait_for(all_of(reader), 10)
        await asyncio.wait_for(reader.serving, 10)
    gateway.clock.now += 0.2

    assert (await gateway.client("short").get(path)).status_code == 401
    assert not gateway.records._bus._listeners


async def test_nothing_is_lost_or_told_twice_between_two_streams(gateway: Gateway) -> None:
    """Also by whom the first one told nothing: each begins with the number after which it tells."""
    await short_lived(gateway, "alice", "short", 0.2)
    seen: list[str] = []
    last = ""
    for stop in range(3):
        headers = {"last_event_id": last} if last else {}
        async with Reader(gateway, "/api/v2/events", "short", **headers) as reader:
            messages = reader.messages()
            last = (await anext(messages))["id"]
            for _ in range(stop):
                last = (await anext(messages))["id"]
                seen.append(last)
            await asyncio.wait_for(all_of(reader), 10)
        for _ in range(stop + 1):
            await gateway.create("alice")

    recorded = [str(event.id) for event in await gateway.store.events(owner="alice")]
    assert seen == recorded[:3]
    assert len(recorded) == 6


async def test_a_stream_that_never_rests_ends_too() -> None:
    """Events without end do not make it last; the one that was told last is where it is taken up."""

    async def items() -> AsyncIterator[int]:
        while True:
            yield 1

    async def read() -> list[int | None]:
        return [item async for item in events.with_pauses(items(), 5.0, 0.05)]

    assert await asyncio.wait_for(read(), 10)


def test_a_stream_lasts_a_minute_at_the_most() -> None:
    """So long somebody reads on whose token was revoked, as the documentation says."""
    assert events.STREAM_SECONDS == 60.0


async def test_quiet_is_filled_with_comments() -> None:
    """None comes whenever nothing has for a while, and what comes late is not lost."""
    late = asyncio.Event()

    async def items() -> AsyncIterator[int]:
        yield 1
        await late.wait()
        yield 2

    seen: list[int | None] = []
    async for item in events.with_pauses(items(), 0.01):
        seen.append(item)
        if seen[-2:] == [None, None]:
            late.set()

    assert [item for item in seen if item is not None] == [1, 2]
    assert None in seen


async def test_an_error_in_the_middle_is_not_swallowed() -> None:
    """A stream that cannot go on ends as an error, not as if all were told."""

    async def items() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("the store is gone")

    with pytest.raises(RuntimeError, match="the store is gone"):
        async for _ in events.with_pauses(items(), 5.0):
            pass


def test_a_comment_comes_before_proxies_lose_patience() -> None:
    """Common reverse proxies cut a quiet connection after 30 s."""
    assert events.PING_SECONDS == 15.0
