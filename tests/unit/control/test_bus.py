"""Notifications: none is lost between listening and reading, several become one, nobody hears what is not theirs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.unit.model.samples import make_cluster
from tidegate.control.bus import EVERYTHING, Bus, of_cluster, owned_by, shared_with
from tidegate.model.share import Grantee, GranteeKind, Right, Share

OURS = make_cluster()
BOB, PHYSICS = Grantee(GranteeKind.USER, "bob"), Grantee(GranteeKind.GROUP, "physics")


async def test_what_changes_while_one_reads_is_heard_afterwards():
    """One listens first and reads then: a change in between ends the wait at once, and is told once."""
    bus = Bus()
    with bus.listen(of_cluster(OURS.name)) as listener:
        bus.publish(OURS)
        bus.publish(OURS)
        assert await listener.changed(5)
        assert not await listener.changed(0)


async def test_a_wait_ends_when_something_changes():
    """Whoever waits is woken, by cluster and by owner."""
    bus = Bus()
    with bus.listen(of_cluster(OURS.name)) as one, bus.listen(owned_by("alice")) as all_of_alice:
        waiting = [asyncio.create_task(listener.changed(5)) for listener in (one, all_of_alice)]
        await asyncio.sleep(0)
        bus.publish(OURS)
        assert await asyncio.gather(*waiting) == [True, True]


async def test_nobody_hears_of_others():
    """Another cluster of another owner wakes nobody."""
    bus = Bus()
    with bus.listen(of_cluster("c2")) as other, bus.listen(owned_by("mallory")) as mallory:
        bus.publish(OURS)
        assert not await other.changed(0)
        assert not await mallory.changed(0)


async def test_one_who_has_left_is_forgotten():
    """Nothing is kept of listeners that are gone, and callbacks end with their context."""
    bus = Bus()
    heard: list[str] = []
    with bus.listen(of_cluster(OURS.name)), bus.subscribe(heard.append):
        bus.publish(OURS)
    bus.publish(OURS)
    assert heard == [OURS.name]
    assert not bus._listeners


async def test_those_with_whom_a_cluster_is_shared_hear_of_it():
    """Each grantee, whether a user or a group, and whoever listens to everything; one listener is told once."""
    bus = Bus()
    ours = replace(OURS, shares=tuple(Share(grantee, Right.VIEW, 0.0, "alice") for grantee in (BOB, PHYSICS)))
    with (
        bus.listen(shared_with("user:bob"), shared_with("group:physics")) as bob,
        bus.listen(shared_with("group:biology"), shared_with("user:physics")) as others,
        bus.listen(EVERYTHING) as admin,
    ):
        bus.publish(ours)
        assert await bob.changed(0)
        assert not await bob.changed(0)
        assert await admin.changed(0)
        assert not await others.changed(0)
    assert not bus._listeners
