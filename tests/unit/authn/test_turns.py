"""Slow work has its turns: those who ask from different places do not wait for one another's floods."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from tidegate.authn.turns import NICENESS, Turns
from tidegate.model.errors import Busy


class Work:
    """Work on the only thread that is done when it is told to be."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._go = threading.Semaphore(0)
        self.done: list[str] = []

    def start(self, client: str) -> asyncio.Task[None]:
        """Ask for a turn."""
        return asyncio.create_task(self._turns.run(client, self._work, client))

    def _work(self, client: str) -> None:
        self._go.acquire()
        self.done.append(client)

    def go(self, count: int) -> None:
        """Let so many be done."""
        for _ in range(count):
            self._go.release()


@pytest.fixture
def turns() -> Iterator[Turns]:
    """One thread; three of a client may wait, and six in all."""
    turns = Turns(1, "test", per_client=3, waiting=6)
    yield turns
    turns.close()


async def test_clients_have_their_turns(turns: Turns) -> None:
    """Whoever comes after a flood from elsewhere is next."""
    work = Work(turns)
    tasks = [work.start(client) for client in ("flood", "flood", "flood", "flood", "alice", "bob", "alice")]
    await asyncio.sleep(0)
    work.go(7)
    await asyncio.gather(*tasks)

    assert work.done == ["flood", "alice", "bob", "flood", "alice", "flood", "flood"]


async def test_who_was_not_there_lately_is_next(turns: Turns) -> None:
    """Before all those who were, however many they are."""
    work = Work(turns)
    tasks = [work.start(client) for client in ("a", "b", "c")]
    await asyncio.sleep(0)
    work.go(3)
    await asyncio.gather(*tasks)
    tasks = [work.start(client) for client in ("c", "a", "b", "c", "alice")]
    await asyncio.sleep(0)
    work.go(5)
    await asyncio.gather(*tasks)

    assert work.done[3:] == ["c", "alice", "a", "b", "c"]


async def test_queues_are_bounded(turns: Turns) -> None:
    """One client's, and all of them; what does not fit is refused at once, and the rest is done."""
    work = Work(turns)
    tasks = [work.start("flood") for _ in range(5)]
    tasks += [work.start(client) for client in ("alice", "bob", "carol", "dave")]
    await asyncio.sleep(0)
    work.go(7)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(outcome, Busy) for outcome in outcomes] == [False] * 4 + [True] + [False] * 3 + [True]
    work.go(1)
    await work.start("dave")


async def test_who_no_longer_waits_takes_nobodys_turn(turns: Turns) -> None:
    """Neither in the queue, nor on the thread: that is busy until it is done."""
    work = Work(turns)
    tasks = [work.start(client) for client in ("first", "gone", "alice")]
    await asyncio.sleep(0)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.gather(*tasks[:2], return_exceptions=True)
    work.go(2)
    await tasks[2]

    assert work.done == ["first", "alice"]


async def test_an_error_is_the_callers(turns: Turns) -> None:
    """And the thread is free again."""
    with pytest.raises(ZeroDivisionError):
        await turns.run("alice", lambda: 1 // 0)

    assert await turns.run("alice", lambda: 1) == 1


async def test_the_threads_give_way(turns: Turns) -> None:
    """To the threads that answer requests."""
    nice = await turns.run("alice", lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert nice == min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICENESS)
