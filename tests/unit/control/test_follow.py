"""Following events: all of them, once, in order, from where one was, to the end of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.store_samples import make_credentials
from tests.unit.control.rig import ALICE, MALLORY, Rig, rigged
from tests.unit.model.samples import make_cluster
from tidegate.control import follow as following
from tidegate.control.catalogue import Whose
from tidegate.model import event as events
from tidegate.model.amounts import Resource
from tidegate.model.errors import NotVisible
from tidegate.model.event import Event
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.principal import Principal
from tidegate.model.share import Grantee, Right, Share

LIFE = [events.REQUESTED, events.STARTING, events.RUNNING, events.STOPPING, events.STOPPED]


async def collect(stream: AsyncIterator, count: int | None = None) -> list:
    """Return what a stream yields, to its end or to so many."""
    found = []
    async for event in stream:
        found.append(event)
        if len(found) == count:
            break
    return found


async def stream_of(stream: AsyncIterator, last: str) -> AsyncIterator:
    """Yield what a stream does, up to the first event of a kind."""
    async for event in stream:
        yield event
        if event.event.kind == last:
            return


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
    async with asyncio.timeout(20):
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


async def test_that_an_end_comes_into_sight_is_told_and_that_it_is_off(rig: Rig):
    """No event of the history: whoever shows when the cluster ends is told to read it again, under the last number."""
    name = await rig.bring_up()
    await rig.records.change(name, lambda c: (replace(c, spec=replace(c.spec, idle_timeout=1800.0)), ()))
    stream = rig.clusters.follow(ALICE, cluster=name)
    *_, last = await collect(stream_of(stream, events.RUNNING))
    async with asyncio.timeout(20):
        for idle in (60.0, None):
            await rig.report(name, idle=idle)
            await rig.report(name, idle=idle)  # says nothing new
            look = await anext(stream)
            assert (look.id, look.event.kind) == (last.id, events.LOOK)
        await rig.records.change(name, lambda c: (c, [Event(events.SCALED, "just now")]))
        assert (await anext(stream)).event.kind == events.SCALED


async def test_a_place_in_line_is_told_to_who_follows(tmp_path: Path):
    """Each new place once, under the last number, without an event in the history or a change of the record."""
    one = Rules([Rule(Subject.parse("user"), Resource.CLUSTERS, 1)], waits=True)
    async with rigged(tmp_path, rules=one) as rig:
        await rig.bring_up()
        line = sorted([await rig.create() for _ in range(3)])  # at the same moment
        await rig.reconciler.look_around()
        name, rig.records.places = line[2], {}
        record, last = rig.cluster(name), (await rig.clusters.last_events(ALICE, name, 1))[0].id
        stream = rig.clusters.follow(ALICE, cluster=name, after=last)
        async with asyncio.timeout(20):
            for number in (3, 2):
                told = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0)  # it has read all, and waits
                for _ in range(2):
                    await rig.reconciler.look_around()
                event = await told
                assert (event.id, event.event.kind, event.event.data["place"]) == (last, events.WAITING, number)
                assert event.event.message.startswith(f"It waits for room as number {number} in line: others wait")
                await end(rig, line[0])
        assert rig.cluster(name) == record
        assert (await rig.clusters.last_events(ALICE, name, 1))[0].id == last


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
    async with asyncio.timeout(20):
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
    async with asyncio.timeout(20):
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


# -- what others share -----------------------------------------------------------------------------------------------

BOB = Principal("bob", frozenset({"physics"}))
ROOT = Principal("root", admin=True)


async def test_what_is_shared_is_followed_from_the_share_on(rig: Rig):
    """By name or by group, beside one's own where both are asked for; to what is shared later one listens as well."""
    theirs, hidden = await rig.create(), await rig.create()
    told = asyncio.create_task(collect(rig.clusters.follow(BOB, whose=Whose.ALL), 4))
    await asyncio.sleep(0)
    await rig.turn(hidden)
    await rig.shares.give(ALICE, theirs, "group:physics", Right.VIEW)
    mine = (await rig.clusters.create(BOB, {})).name
    await rig.shares.give(ALICE, theirs, "user:eve", Right.VIEW)
    await rig.turn(theirs)
    await rig.turn(mine)
    async with asyncio.timeout(20):
        heard = [(e.cluster, e.event.kind) for e in await told]
    assert heard == [
        (theirs, events.SHARED),
        (mine, events.REQUESTED),
        (theirs, events.STARTING),
        (mine, events.STARTING),
    ]


async def test_what_is_withdrawn_is_followed_no_longer(rig: Rig):
    """Neither in a list, where the rest goes on, nor by itself, where the stream ends, and another finds nothing."""
    one, other = await rig.create(), await rig.create()
    for name in (one, other):
        await rig.shares.give(ALICE, name, "user:bob", Right.VIEW)
    stream = rig.clusters.follow(BOB, whose=Whose.SHARED, after=await rig.store.last_event_id())
    single = rig.clusters.follow(BOB, cluster=one, after=await rig.store.last_event_id())
    told = asyncio.create_task(collect(stream, 1))
    ending = asyncio.create_task(collect(single, 1))
    await asyncio.sleep(0)
    await rig.shares.withdraw(ALICE, one, "user:bob")
    await rig.turn(one)
    await rig.turn(other)
    async with asyncio.timeout(20):
        assert [e.cluster for e in await told] == [other]
        assert await ending == []
    with pytest.raises(NotVisible):
        await collect(rig.clusters.follow(BOB, cluster=one))


async def test_with_whom_it_is_shared_is_the_owners_to_know(rig: Rig):
    """The owner and an administrator read all of it, a grantee what concerns them, in the history and in the stream."""
    name = await rig.create()
    for who in ("user:bob", "user:eve"):
        await rig.shares.give(ALICE, name, who, Right.VIEW)
    await rig.shares.make_link(ALICE, name, 60, "for the reviewers")
    await rig.shares.withdraw(ALICE, name, "user:eve")
    sharing = [events.SHARED, events.SHARED, events.LINKED, events.UNSHARED]

    for who, expected in ((ALICE, sharing), (ROOT, sharing), (BOB, sharing[:1])):
        history = [e.event.kind for e in await rig.clusters.last_events(who, name, 50)]
        assert history == [events.REQUESTED, *expected]
        whose = Whose.MINE if who is ALICE else Whose.ALL
        async with asyncio.timeout(20):
            stream = await collect(rig.clusters.follow(who, whose=whose, after=0), 1 + len(expected))
        assert [e.event.kind for e in stream] == history


async def test_an_administrator_follows_everything(rig: Rig):
    """Of every owner, where they ask for all; by default their own."""
    told = asyncio.create_task(collect(rig.clusters.follow(ROOT, whose=Whose.ALL), 2))
    await asyncio.sleep(0)
    await rig.clusters.create(MALLORY, {})
    await rig.create()
    async with asyncio.timeout(20):
        assert [e.owner for e in await told] == ["mallory", "alice"]


async def test_many_shared_clusters_are_read_in_batches(rig: Rig):
    """More clusters than one question names, with more events than one page holds: all come in order, none twice."""
    shares = (Share(Grantee.parse("group:physics"), Right.VIEW, 0.0, "alice"),)
    count = following.NAMES_AT_ONCE * 2 + 1
    for number in range(count):
        cluster = replace(make_cluster(), name=f"c{number}", shares=shares)
        await rig.store.insert(cluster, make_credentials(), [Event(events.REQUESTED, "")])
    async with asyncio.timeout(20):
        told = await collect(rig.clusters.follow(BOB, whose=Whose.SHARED, after=0), count)
    assert [e.id for e in told] == list(range(1, count + 1))
