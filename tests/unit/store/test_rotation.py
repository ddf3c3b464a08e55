"""Rotating the keys: everything is sealed anew, nothing is lost on whatever line it is killed, nobody has to stop."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import LargeBinary

from tests.contract.store_samples import Database, make_cluster, make_credentials
from tidegate.store import rotation, sealing, tables
from tidegate.store.base import ClientPair, StoreUnusable
from tidegate.store.database import DATABASE_FILE
from tidegate.store.rotation import rotate_keys
from tidegate.store.sealing import KEY_FILE, KeyFile

PAIR = ClientPair("certificate", "key")
NUMBERS = (1, 2)
FIRST = make_cluster(1).name


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder with two clusters, and a client of one of them."""
    database = Database(tmp_path / "data")
    async with database.open() as store:
        for number in NUMBERS:
            await store.insert(make_cluster(number), make_credentials(str(number)), [])
        await store.add_client_pair(FIRST, "7", PAIR)
    return database.folder


def keys_of(folder: Path) -> tuple[bytes, ...]:
    """Return the keys in the folder's file."""
    return KeyFile(folder / KEY_FILE).keys()


def sealed_in(folder: Path) -> list[bytes]:
    """Return everything that is sealed in the database, past the store."""
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection:
        return [
            row[0]
            for table in ("credentials", "client_pairs")
            for row in connection.execute(f"SELECT sealed FROM {table}")
        ]


async def check_readable(folder: Path) -> None:
    """See that a gateway can start there, and has all secrets."""
    async with Database(folder).open() as store:
        for number in NUMBERS:
            assert await store.credentials(make_cluster(number).name) == make_credentials(str(number))
        assert await store.client_pair(FIRST, "7") == PAIR


async def test_the_old_key_opens_nothing_any_more(folder: Path) -> None:
    """One key is in the file, another one than before, for its owner alone; and the gateway starts with it."""
    (before,) = keys_of(folder)

    assert rotate_keys(folder) == 3

    (after,) = keys_of(folder)
    assert after != before
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert all(Fernet(after).decrypt(sealed) for sealed in sealed_in(folder))
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    await check_readable(folder)


def test_every_secret_is_in_a_column_that_is_sealed_anew() -> None:
    """By their type: a table that a later version adds is among them if it has such a column."""
    binary = {str(c) for table in tables.metadata.sorted_tables for c in table.c if isinstance(c.type, LargeBinary)}

    assert binary == {"credentials.sealed", "client_pairs.sealed"}


def rotate_until(folder: Path, line: int) -> bool:
    """Rotate in a process that is killed before it runs so many lines; return whether it was.

    What happens a third time on a line is what happened the second time.
    """
    child = os.fork()
    if child == 0:
        files, count, times = (rotation.__file__, sealing.__file__), 0, Counter[tuple[str, int]]()

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal count
            if frame.f_code.co_filename not in files:
                return None
            times[here := (frame.f_code.co_filename, frame.f_lineno)] += event == "line"
            if event == "line" and times[here] <= 2:
                count += 1
                if count == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            rotate_keys(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


async def test_it_may_be_killed_on_any_line(folder: Path, tmp_path: Path) -> None:
    """The gateway reads everything afterwards, and the next call finishes what was begun."""
    (first,) = keys_of(folder)
    seen: set[int] = set()
    line, where = 1, tmp_path / "copy"
    while True:
        shutil.copytree(folder, where)
        if not rotate_until(where, line):
            break
        # What is left is one of few states, and each is looked at once.
        state = hash((keys_of(where)[-1:] == (first,), len(keys_of(where)), _opened_by(where), _drafts(where)))
        if state not in seen:
            seen.add(state)
            await check_readable(where)
            rotate_keys(where)
            assert len(keys_of(where)) == 1
            assert keys_of(where) != (first,)
            assert all(Fernet(keys_of(where)[0]).decrypt(sealed) for sealed in sealed_in(where))
            assert _drafts(where) == 0
            await check_readable(where)
        shutil.rmtree(where)
        line += 1

    assert line > 50
    assert len(seen) >= 5


def _opened_by(folder: Path) -> str:
    """Return which key opens each of the secrets, as a word."""
    keys = [Fernet(key) for key in keys_of(folder)]
    return "".join(str(next(n for n, key in enumerate(keys) if rotation._opens(key, s))) for s in sealed_in(folder))


def _drafts(folder: Path) -> int:
    return sum(path.name.startswith(f".{KEY_FILE}") for path in folder.iterdir())


async def test_a_gateway_that_runs_goes_on(folder: Path) -> None:
    """It reads what was there before, and what it writes meanwhile is sealed with the new key too."""
    async with Database(folder).open() as store:

        async def insert(numbers: range) -> None:
            for number in numbers:
                await store.insert(make_cluster(number), make_credentials(str(number)), [])

        writing = [asyncio.create_task(insert(numbers)) for numbers in (range(10, 35), range(35, 60))]
        for _ in range(3):
            await asyncio.to_thread(rotate_keys, folder)
            assert await store.credentials(FIRST) == make_credentials("1")
        await asyncio.gather(*writing)
        for number in range(10, 60):
            assert await store.credentials(make_cluster(number).name) == make_credentials(str(number))

    (key,) = keys_of(folder)
    assert all(rotation._opens(Fernet(key), sealed) for sealed in sealed_in(folder))


def test_a_secret_that_nothing_opens_stops_it(folder: Path) -> None:
    """The keys and the records stay as they are, and the words say what to do."""
    other = Fernet.generate_key()
    sealing.replace_keys(folder / KEY_FILE, [other])
    before = sealed_in(folder)

    with pytest.raises(StoreUnusable, match=r"secrets that no key in seal.key opens.*backup"):
        rotate_keys(folder)

    assert keys_of(folder)[-1] == other
    assert sealed_in(folder) == before


def test_nothing_is_made_where_no_gateway_was(tmp_path: Path) -> None:
    """A slip in --data must not leave a key behind."""
    with pytest.raises(StoreUnusable, match="no gateway has worked there yet"):
        rotate_keys(tmp_path)

    assert list(tmp_path.iterdir()) == []


async def test_another_version_is_left_alone(folder: Path) -> None:
    """A gateway from before an upgrade may be running, which would not read the key file again."""
    with closing(sqlite3.connect(folder / DATABASE_FILE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0003'")
    before = keys_of(folder)

    with pytest.raises(StoreUnusable, match=r"it is at schema 0003.*Start the gateway with this version first"):
        rotate_keys(folder)

    assert keys_of(folder) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_whoever_does_not_own_the_folder_is_told_who_does(folder: Path) -> None:
    """What root leaves behind there the gateway could not read."""
    os.chown(folder, 65534, 65534)

    with pytest.raises(StoreUnusable, match=r"it belongs to nobody. Run this as that user: sudo -u nobody tidegate"):
        rotate_keys(folder)
