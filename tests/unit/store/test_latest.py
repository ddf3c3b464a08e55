"""The number of the latest change: read at a glance, or by a question that many share."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.store_samples import make_cluster, make_credentials
from tidegate.store.latest import Glance, SharedQuestion
from tidegate.store.sql import SqlStore


def test_a_glance_that_sees_nothing_says_so(tmp_path: Path) -> None:
    """A database that cannot be read at once is None, not an error; the next glance tries again."""
    with closing(Glance(tmp_path / "database")) as glance, closing(sqlite3.connect(tmp_path / "database")) as other:
        assert glance.read() is None

        other.execute("CREATE TABLE changes (latest INTEGER)")
        other.execute("INSERT INTO changes VALUES (7)")
        other.commit()

        assert glance.read() == 7


async def test_a_store_that_cannot_glance_asks_the_long_way(tmp_path: Path) -> None:
    """The number is the same on a thread."""
    store = SqlStore(tmp_path)
    await store.start()
    try:
        await store.insert(make_cluster(), make_credentials(), [])
        at_a_glance = await store.latest_change()
        assert store._glance is not None
        store._glance.close()

        assert await store.latest_change() == at_a_glance == 1
    finally:
        await store.close()


async def test_what_was_written_last_is_read_once(tmp_path: Path) -> None:
    """It stays in memory until another process writes; then that is read. So is what a broken glance cannot tell of."""
    store, other = SqlStore(tmp_path), SqlStore(tmp_path)
    await store.start()
    await other.start()
    try:
        first = await store.insert(make_cluster(), make_credentials(), [])
        saved = await store.save(replace(first, host="here"))
        assert await store.load(first.name) is saved

        later = await other.save(replace(saved, host="there"))
        assert await store.load(first.name) == later

        mine = await store.save(replace(later, host="here again"))
        assert store._glance is not None
        store._glance.close()
        read = await store.load(first.name)
        assert read == mine
        assert read is not mine
    finally:
        await store.close()
        await other.close()


class Oracle:
    """Counts how often it is asked, and answers with that when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        await self.go_on.wait()
        return number


async def test_who_asks_gets_an_answer_to_a_later_question() -> None:
    """Those who come while a question is under way share the next one."""
    oracle = Oracle()
    shared = SharedQuestion(oracle)
    first = asyncio.create_task(shared.answer())
    while not oracle.asked:
        await asyncio.sleep(0)

    late = [asyncio.create_task(shared.answer()) for _ in range(10)]
    oracle.go_on.set()

    assert await first == 1
    assert set(await asyncio.gather(*late)) == {2}


async def test_one_who_stops_waiting_takes_nothing_from_the_others() -> None:
    """A request that is cancelled leaves the question to those who wait with it."""
    oracle = Oracle()
    shared = SharedQuestion(oracle)
    impatient, patient = asyncio.create_task(shared.answer()), asyncio.create_task(shared.answer())
    while not oracle.asked:
        await asyncio.sleep(0)

    impatient.cancel()
    oracle.go_on.set()

    assert await patient == 1
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_question_that_fails_fails_for_those_who_asked_it() -> None:
    """The next one is put anew."""
    answers = iter([ConnectionError("gone"), 5])

    async def ask() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = SharedQuestion(ask)

    with pytest.raises(ConnectionError):
        await shared.answer()
    assert await shared.answer() == 5
