"""Following events: all of them, once, in order, from where one was, to the end of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.unit.control.rig import ALICE, MALLORY, Rig
from tidegate.control import follow as following
from tidegate.model import event as events
from tidegate.model.event import Event

LIFE = [events.REQUESTED, events.STARTING, events.RUNNING, events.STOPPING, events.STOPPED]


async def collect(stream: AsyncIterator, count: int | None = None) -> list:
    """Return what a stream yields, to its end or to so many."""
    found = []
    async for event in stream:
        found.append(event)
        if len(found) == count:
            break
    return found


async def end(rig: Rig, name: str) -> None:
    """Stop a cluster, and wait for its end."""
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=2)


async def test_a_whole_life_is_told_and_then_the_stream_ends(rig: Rig):
    """Who follows from the beginning hears everything as it happens."""
    name = await rig.create()
    told = asyncio.create_task(collect(rig.clusters.follow(ALICE, cluster=name)))
    await rig.turn(name)
    await rig.report(name)
    await rig.turn(name)
    await end(rig, name)
    async with asyncio.timeout(5):
        assert [e.event.kind for e in await told] == LIFE


async def test_who_comes_later_hears_the_same(rig: Rig):
    """After the end the history is told, and the stream ends; who has heard it all hears nothing."""
    name = await rig.bring_up()
    await end(rig, name)
    history = await collect(rig.clusters.follow(ALICE, cluster=name))
    assert [e.event.kind for e in history] == LIFE
    rest = await collect(rig.clusters.follow(ALICE, cluster=name, after=history[2].id))
    assert rest == history[3:]
    assert await collect(rig.clusters.follow(ALICE, cluster=name, after=history[-1].id)) == []


async def test_an_event_between_reading_and_waiting_is_not_lost(rig: Rig):
    """It happens right after the read has found nothing: the wait ends at once."""
    name = await rig.create()
    read, late = rig.store.events, True

    async def read_then_something_happens(**query):
        nonlocal late
        found = await read(**query)
        if late and not found:
            late = False
            await rig.records.change(name, lambda c: (c, [Event(events.SCALED, "just now")]))
        return found

    rig.store.events = read_then_something_happens
    async with asyncio.timeout(5):
        told = await collect(rig.clusters.follow(ALICE, cluster=name, after=1), 1)
    assert [e.event.message for e in told] == ["just now"]


async def test_all_that_is_mine_and_nothing_else(rig: Rig):
    """From now on by default; of every cluster of mine; nothing of others."""
    old = await rig.create()
    stream = rig.clusters.follow(ALICE)
    told = asyncio.create_task(collect(stream, 2))
    await asyncio.sleep(0)
    await rig.clusters.create(MALLORY, {})
    await rig.turn(old)
    new = await rig.create()
    async with asyncio.timeout(5):
        heard = [(e.cluster, e.event.kind) for e in await told]
    assert heard == [(old, events.STARTING), (new, events.REQUESTED)]


async def test_a_long_history_comes_in_pages(rig: Rig):
    """More events than are read at a time: all of them, once."""
    name = await rig.create()
    many = [Event(events.SCALED, str(n)) for n in range(following.PAGE * 2 + 3)]
    await rig.records.change(name, lambda c: (c, many))
    await end(rig, name)
    told = await collect(rig.clusters.follow(ALICE, cluster=name, after=1))
    assert [e.event.message for e in told][: len(many)] == [e.message for e in many]
    assert told[-1].event.kind == events.STOPPED


async def test_one_who_leaves_leaves_nothing_behind(rig: Rig):
    """The subscription ends with the stream."""
    name = await rig.create()
    stream = rig.clusters.follow(ALICE, cluster=name)
    await anext(stream)
    assert rig.bus._listeners
    await stream.aclose()
    assert not rig.bus._listeners
