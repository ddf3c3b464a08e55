"""Notifications: none is lost between listening and reading, several become one, nobody hears what is not theirs."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.model.samples import make_cluster
from tidegate.control.bus import Bus

OURS = make_cluster()


async def test_what_changes_while_one_reads_is_heard_afterwards():
    """One listens first and reads then: a change in between ends the wait at once, and is told once."""
    bus = Bus()
    with bus.listen(cluster=OURS.name) as listener:
        bus.publish(OURS)
        bus.publish(OURS)
        assert await listener.changed(5)
        assert not await listener.changed(0)


async def test_a_wait_ends_when_something_changes():
    """Whoever waits is woken, by cluster and by owner."""
    bus = Bus()
    with bus.listen(cluster=OURS.name) as one, bus.listen(owner="alice") as all_of_alice:
        waiting = [asyncio.create_task(listener.changed(5)) for listener in (one, all_of_alice)]
        await asyncio.sleep(0)
        bus.publish(OURS)
        assert await asyncio.gather(*waiting) == [True, True]


async def test_nobody_hears_of_others():
    """Another cluster of another owner wakes nobody."""
    bus = Bus()
    with bus.listen(cluster="c2") as other, bus.listen(owner="mallory") as mallory:
        bus.publish(OURS)
        assert not await other.changed(0)
        assert not await mallory.changed(0)


async def test_one_who_has_left_is_forgotten():
    """Nothing is kept of listeners that are gone, and callbacks end with their context."""
    bus = Bus()
    heard: list[str] = []
    with bus.listen(cluster=OURS.name), bus.subscribe(heard.append):
        bus.publish(OURS)
    bus.publish(OURS)
    assert heard == [OURS.name]
    assert not bus._listeners


def test_one_listens_to_something():
    """Neither to nothing nor to two things at once."""
    for what in ({}, {"cluster": "a", "owner": "b"}):
        with pytest.raises(ValueError, match="either a cluster or an owner"), Bus().listen(**what):
            pass
