"""Pages that stay fresh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.in_process import Gateway, Reader
from tidegate.console import live
from tidegate.model.errors import NotVisible
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.principal import Principal
from tidegate.model.share import Right


def happened(number: int) -> RecordedEvent:
    """Return some event."""
    return RecordedEvent(number, 0.0, "x", "alice", Event("workers-changed", ""))


async def test_a_change_is_drawn_and_the_end_is_told() -> None:
    """At once what is, then again after the change, and ``over`` when no more can come."""
    go = asyncio.Event()

    async def events() -> AsyncIterator[RecordedEvent]:
        await go.wait()
        yield happened(1)

    drawn = 0

    async def draw() -> dict[str, str]:
        nonlocal drawn
        drawn += 1
        go.set()
        return {"cluster": f"<p>\n{drawn}\n</p>"}

    messages = [message async for message in live._messages(events(), draw)]

    assert messages[0] == "event: cluster\ndata: <p>\ndata: 1\ndata: </p>\n\n"
    assert messages[-1] == "event: over\ndata: \n\n"
    assert drawn >= 2


async def test_a_burst_is_drawn_once() -> None:
    """A thousand changes in a blink do not make a thousand fragments, and the last state is among those drawn."""
    state = 0

    async def events() -> AsyncIterator[RecordedEvent]:
        nonlocal state
        for number in range(1000):
            state = number
            yield happened(number)

    drawn = []

    async def draw() -> dict[str, str]:
        drawn.append(state)
        return {"clusters": ""}

    async for _ in live._messages(events(), draw):
        pass

    assert len(drawn) < 5
    assert drawn[-1] == 999


async def test_a_reader_that_goes_away_is_let_go(gateway: Gateway) -> None:
    """Nothing listens any more when the page is closed."""
    await gateway.create()
    headers = {"sec_fetch_site": "same-origin"}
    async with Reader(gateway, "/console/live", **headers) as reader:
        first = await anext(reader.messages())
        assert first["event"] == "clusters"
        assert gateway.records._bus._listeners

    assert not gateway.records._bus._listeners


async def test_the_page_and_the_stream_draw_the_same(gateway: Gateway) -> None:
    """One template for both, so that a swap changes nothing but what changed."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)
    page = (await gateway.browser("alice").get(f"/clusters/{cluster.name}")).text

    stream = (await gateway.browser("alice").get(f"/console/clusters/{cluster.name}/live")).text
    fragment = "\n".join(
        line.removeprefix("data: ") for line in stream.partition("\n\n")[0].splitlines() if line.startswith("data: ")
    )

    assert fragment.strip() in page
    assert stream.endswith("event: over\ndata: \n\n")


async def test_a_stream_that_breaks_does_not_look_like_the_end() -> None:
    """The browser comes back to a stream that was cut, and not to one that is over."""

    async def events() -> AsyncIterator[RecordedEvent]:
        yield happened(1)
        raise RuntimeError("the store is gone")

    async def draw() -> dict[str, str]:
        return {"cluster": ""}

    seen: list[str] = []

    async def read() -> None:
        async for message in live._messages(events(), draw):
            seen.append(message)

    with pytest.raises(RuntimeError, match="the store is gone"):
        await read()

    assert seen
    assert not any("over" in message for message in seen)


async def test_a_stream_that_has_lasted_long_enough_is_not_over() -> None:
    """It ends and says that the browser is to come back soon, which is then asked again who it is."""
    let_go = asyncio.Event()

    async def events() -> AsyncIterator[RecordedEvent]:
        try:
            await asyncio.Event().wait()
            yield happened(1)
        finally:
            let_go.set()

    async def draw() -> dict[str, str]:
        return {"cluster": ""}

    async def read() -> list[str]:
        return [message async for message in live._messages(events(), draw, 0.05)]

    seen = await asyncio.wait_for(read(), 10)

    assert seen[-1] == "retry: 1000\n\n"
    assert not any("over" in message for message in seen)
    assert let_go.is_set()


async def test_what_is_not_shared_any_more_is_over() -> None:
    """The browser does not come back for it."""

    async def events() -> AsyncIterator[RecordedEvent]:
        yield happened(1)
        raise NotVisible("it was withdrawn before it could be followed")

    async def draw() -> dict[str, str]:
        return {"cluster": ""}

    seen = [message async for message in live._messages(events(), draw)]

    assert seen[-1] == "event: over\ndata: \n\n"


@pytest.mark.parametrize("way", ["page", "program"])
async def test_a_share_that_is_withdrawn_ends_the_stream(gateway: Gateway, way: str) -> None:
    """The page says so in place of the cluster; a program's stream ends in order."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    alice, shares = Principal("alice"), gateway.services.shares
    await shares.give(alice, cluster.name, "user:mallory", Right.VIEW)
    path = f"/console/clusters/{cluster.name}/live" if way == "page" else f"/api/v2/clusters/{cluster.name}/events"

    async with Reader(gateway, path, "mallory", sec_fetch_site="same-origin") as reader:
        messages = reader.messages()
        seen = [await anext(messages)]
        await shares.withdraw(alice, cluster.name, "user:mallory")
        seen += [message async for message in messages]

    if way == "page":
        assert "not shared with you any more" in seen[-4]["data"]
        assert [message["event"] for message in seen[-4:]] == ["cluster", "sharing", "events", "over"]


@pytest.mark.parametrize(("user", "told"), [("alice", True), ("mallory", False)])
async def test_only_who_may_share_is_told_whom_it_is_shared_with(gateway: Gateway, user: str, told: bool) -> None:
    """Also by the stream of a page, which draws what the page would not show."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name)
    alice, shares = Principal("alice"), gateway.services.shares
    for name in ("mallory", "carol"):
        await shares.give(alice, cluster.name, f"user:{name}", Right.VIEW)
    await shares.make_link(alice, cluster.name, 600.0, "for the seminar")

    async with Reader(gateway, f"/console/clusters/{cluster.name}/live", user) as reader:
        messages = reader.messages()
        drawn = [await anext(messages) for _ in range(3)]

    assert [message["event"] for message in drawn] == ["cluster", "sharing", "events"]
    text = "".join(message["data"] for message in drawn)
    assert ("carol" in text, "seminar" in text) == (told, told)
