"""The work queue: each name once, never two at work on one, and nothing that is asked meanwhile is missed."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.control.backoff import Backoff
from tidegate.control.workqueue import WorkQueue


async def test_names_come_once_in_their_order():
    """Added twice, it comes once; first come, first served."""
    queue = WorkQueue()
    for name in ("a", "b", "a"):
        queue.add(name)
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert not queue._ready


async def test_what_is_added_during_the_work_comes_again_after_it():
    """Not before it is done, so that two never work on the same name, and not lost."""
    queue = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.done("a")
    assert await waiting == "a"


async def test_the_earliest_time_counts():
    """A later time does not push an earlier one away, and an add now makes both needless."""
    queue = WorkQueue()
    queue.add_later("a", 60)
    queue.add_later("a", 0.001)
    queue.add_later("a", 120)
    async with asyncio.timeout(20):
        assert await queue.get() == "a"
    queue.done("a")

    queue.add_later("b", 60)
    queue.add("b")
    assert not queue._later
    assert await queue.get() == "b"
    queue.close()


async def test_what_was_asked_for_later_ends_with_the_queue():
    """No timer is left behind."""
    queue = WorkQueue()
    queue.add_later("a", 60)
    queue.close()
    assert not queue._later


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.sampled_from("abc")), max_size=60))
async def test_nothing_is_lost_and_nothing_is_doubled(actions):
    """Against a model: what was asked is given, once, and never while it is being worked on."""
    queue, wanted, active = WorkQueue(), set(), set()
    for action, name in actions:
        if action == "add":
            queue.add(name)
            wanted.add(name)
        elif action == "get" and wanted - active:
            got = await queue.get()
            assert got in wanted - active
            wanted.discard(got)
            active.add(got)
        elif action == "done" and name in active:
            queue.done(name)
            active.discard(name)
    for name in active:
        queue.done(name)
    assert {await queue.get() for _ in range(len(wanted))} == wanted
    assert not queue._ready


def test_backoff_doubles_for_each_name_alone_up_to_its_limit():
    """And starts again after a success."""
    backoff = Backoff(0.25, 2.0)
    assert [backoff.after_failure("a") for _ in range(5)] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert backoff.after_failure("b") == 0.25
    backoff.reset("a")
    assert backoff.after_failure("a") == 0.25
    assert [Backoff(1, 60).after_failure("x") for _ in range(3)] == [1, 1, 1]
