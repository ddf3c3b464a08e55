"""What is particular to the store on SQLite: files, locks, a full disk, and how little a save writes."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import asdict, astuple, replace
from pathlib import Path

import pytest

from tests.contract.store_samples import NOW, Database, make_cluster, make_credentials, read_back, workers
from tidegate.model.cluster import Waiting, WorkerState
from tidegate.model.errors import BackendFailed, Busy
from tidegate.model.event import Event
from tidegate.model.principal import Principal
from tidegate.store.base import StoreUnusable, Token
from tidegate.store.database import DATABASE_FILE
from tidegate.store.sealing import KEY_FILE
from tidegate.store.sql import SqlStore


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A data folder that is not there yet."""
    return Database(tmp_path / "data")


@pytest.fixture
async def store(database: Database) -> AsyncIterator[SqlStore]:
    """A started store."""
    async with database.open(busy_timeout=0.05) as store:
        yield store


def raw(database: Database) -> sqlite3.Connection:
    """Open the database past the store, as an operator with a shell would."""
    return sqlite3.connect(database.folder / DATABASE_FILE, isolation_level=None, timeout=1)


async def test_the_place_in_line_is_not_kept(store: SqlStore, database: Database):
    """It changes with others. A record of an earlier version, which kept it, can be read."""
    waits = Waiting(NOW, "clusters gateway", "the limit is 1 cluster", place=3)
    inserted = await store.insert(make_cluster(queued=True, waiting=waits), make_credentials(), [])
    read = await read_back(store, inserted)
    assert read.waiting == replace(waits, place=0)

    kept = json.dumps({"queued": True, "line": [*astuple(waits)]})
    with closing(raw(database)) as connection:
        assert connection.execute("UPDATE clusters SET waiting = ?", [kept]).rowcount == 1
    assert await read_back(store, inserted) == read


# -- secrets ---------------------------------------------------------------------------------------------------------


async def test_no_secret_is_in_any_file(store: SqlStore, database: Database):
    """The bytes of database and logs hold no secret in the clear, while the store runs and afterwards."""
    await store.insert(make_cluster(), make_credentials(), [])
    await store.add_token(Token("t1", Principal("alice"), "laptop", NOW), "secret-of-alice")

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in database.folder.iterdir()}

    parts = asdict(make_credentials())
    secrets = [*parts.pop("variables").values(), *parts.values(), "secret-of-alice"]
    while_running = files()
    await store.close()
    for name, content in [*while_running.items(), *files().items()]:
        assert not [secret for secret in secrets if secret.encode() in content], f"{name} shows secrets"
    assert b"laptop" in while_running[f"{DATABASE_FILE}-wal"], "what was written is not in the files that were read"


async def test_files_are_for_nobody_else(store: SqlStore, database: Database):
    """Folder, key, database and its logs can be read by their owner alone."""
    await store.insert(make_cluster(), make_credentials(), [])

    modes = {path.name: path.stat().st_mode & 0o777 for path in [database.folder, *database.folder.iterdir()]}
    assert modes == {
        "data": 0o700,
        KEY_FILE: 0o600,
        DATABASE_FILE: 0o600,
        f"{DATABASE_FILE}-wal": 0o600,
        f"{DATABASE_FILE}-shm": 0o600,
    }


async def test_a_lost_key_stops_the_start(database: Database):
    """A start without the key that sealed the records of a running cluster fails, before anything is changed."""
    async with database.open() as store:
        await store.insert(make_cluster(), make_credentials(), [])
    (database.folder / KEY_FILE).unlink()

    with pytest.raises(StoreUnusable, match="cannot read the secrets of 1 running clusters"):
        await database.make().start()


# -- how little is written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["same process", "after a restart"])
async def test_one_changed_worker_is_one_row(store: SqlStore, database: Database, again: bool):
    """In a cluster of a hundred workers a change of one rewrites one row; an event alone rewrites none."""
    names = [f"default-{n}" for n in range(100)]
    cluster = await store.insert(make_cluster(workers=workers(*names)), make_credentials(), [])
    cluster = await store.save(cluster)
    with closing(raw(database)) as connection:
        connection.execute("CREATE TABLE written (what)")
        for table in ("workers", "worker_groups"):
            for verb in ("INSERT", "UPDATE", "DELETE"):
                connection.execute(
                    f"CREATE TRIGGER {table}_{verb} AFTER {verb} ON {table} "
                    f"BEGIN INSERT INTO written VALUES ('{verb} {table}'); END"
                )
        async with database.open() as fresh:
            writer = fresh if again else store
            cluster = await writer.save(cluster, [Event("k", "m")])
            assert connection.execute("SELECT * FROM written").fetchall() == []

            cluster = await writer.save(cluster.with_workers(replace(cluster.workers[7], state=WorkerState.ENDED)))
            assert connection.execute("SELECT * FROM written").fetchall() == [("UPDATE workers",)]

            cluster = await writer.save(replace(cluster, workers=cluster.workers[1:]).with_workers(*workers("new")))
            assert connection.execute("SELECT * FROM written").fetchall()[1:] == [
                ("DELETE workers",),
                ("INSERT workers",),
            ]


# -- trouble ---------------------------------------------------------------------------------------------------------


async def test_a_database_held_by_another_is_busy(store: SqlStore, database: Database):
    """While another process holds the database, writers are told to come back, readers go on; then all is well."""
    first = await store.insert(make_cluster(), make_credentials(), [])
    with closing(raw(database)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(Busy, match="cannot reach the gateway's database now") as caught:
            await store.save(first)
        assert "database is locked" in (caught.value.detail or "")
        assert caught.value.retry_after > 0
        assert await store.load(first.name) == first

        other.execute("ROLLBACK")
    assert (await store.save(first)).revision == 1


FILL = """
import asyncio, resource, sys
from pathlib import Path
from tests.contract.store_samples import make_cluster, make_credentials, read_back
from tidegate.model.errors import BackendFailed
from tidegate.model.event import Event
from tidegate.store.sql import SqlStore

async def main():
    store = SqlStore(Path(sys.argv[1]))
    await store.start()
    saved = await store.insert(make_cluster(), make_credentials(), [])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        while True:
            saved = await store.save(saved, [Event("k", "x" * 5000)])
    except BackendFailed as error:
        print(error.message)
        print(error.detail)
    assert await store.load(saved.name) == saved
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    saved = await store.save(saved)
    assert len(await store.events()) == saved.revision - 1
    await store.close()

asyncio.run(main())
"""


def test_a_disk_without_room_is_said_in_words(tmp_path: Path):
    """When the file cannot grow, a change fails whole and in words; reading goes on, writing too once there is room."""
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(tmp_path / "data")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    message, detail = done.stdout.splitlines()
    assert message.startswith(("cannot write to the gateway's database: its disk is full", "cannot use the gateway's"))
    assert detail.startswith(("SQLITE_FULL", "SQLITE_IOERR"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY, "the limit is the child's alone"


async def test_a_damaged_file_is_told_at_start(database: Database):
    """A database file with something else in it is named at start, with what SQLite said."""
    database.folder.mkdir(mode=0o700)
    (database.folder / DATABASE_FILE).write_bytes(b"not a database, but long enough to be looked at " * 100)

    with pytest.raises(StoreUnusable, match=rf"cannot open the database .*{DATABASE_FILE}: SQLITE_NOTADB"):
        await database.make().start()


async def test_a_value_that_fits_no_column_is_refused(store: SqlStore):
    """A number beyond 64 bits, or half a character, ends in an error of ours and records nothing."""
    for cluster in (make_cluster(attempt=2**70), make_cluster(owner="\ud800")):
        with pytest.raises(BackendFailed, match="cannot record a value"):
            await store.insert(cluster, make_credentials(), [])

    assert await store.find() == []


async def test_cancelled_requests_leave_nothing_open(store: SqlStore):
    """Callers that are cancelled at any moment cost at most their answer: the record stays whole, the store usable."""
    cluster = await store.insert(make_cluster(), make_credentials(), [])
    for turns in range(40):
        task = asyncio.create_task(store.save(cluster, [Event("k", "m")]))
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.prune(0)  # waits for its turn after whatever the cancelled one may have begun
        cluster = await store.load(cluster.name)

    assert (await store.save(cluster)).revision == cluster.revision + 1
    assert len(await store.events()) == cluster.revision


async def test_a_closed_store_says_that_it_closes(database: Database):
    """A request that comes while the gateway stops is told to come back, not shown our inside."""
    async with database.open() as store:
        pass

    with pytest.raises(Busy, match="shutting down"):
        await store.load("x")
    await store.close()
