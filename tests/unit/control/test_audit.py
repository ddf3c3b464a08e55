"""What reaches the audit log, when, and what happens when it cannot."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.memory_store import MemoryStore, Tables
from tests.support import eventually, eventually_sync
from tidegate.control import audit as auditing
from tidegate.control.audit import DAY, Audit
from tidegate.model.audit import LONGEST, Deed, Entry, Outcome, Wanted
from tidegate.model.errors import DiskFull, NotVisible, TidegateError
from tidegate.model.principal import Principal
from tidegate.telemetry.audit_file import AuditFile

NOW = 1_700_000_000.0
ROOT = Principal("root", admin=True)
STOP = Entry(NOW, Deed.CLUSTER_STOP, Outcome.DONE, principal="alice", method="token", cluster="c1")
REFUSED = Entry(NOW, Deed.READ, Outcome.REFUSED, "unauthenticated", address="192.0.2.7")


class FullStore(MemoryStore):
    """A store whose disk may be full, and that writes when it is let."""

    def __init__(self) -> None:
        super().__init__(Tables(), lambda: NOW)
        self.full = False
        self.let = asyncio.Event()
        self.let.set()
        self.written = 0

    async def add_audit(self, entries: Sequence[Entry]) -> None:
        """Write, if there is room."""
        await self.let.wait()
        if self.full:
            raise DiskFull("cannot write: the disk is full")
        self.written += 1
        await super().add_audit(entries)

    @property
    def entries(self) -> list[Entry]:
        """What was written."""
        return [recorded.entry for recorded in self.tables.audit]


@pytest.fixture
def store() -> FullStore:
    """An empty store."""
    return FullStore()


@pytest.fixture
async def audit(store: FullStore) -> AsyncIterator[Audit]:
    """An audit log without a file."""
    audit = Audit(store, lambda: NOW)
    yield audit
    store.full = False
    await audit.close()


async def test_what_was_done_is_on_record_when_record_returns(store: FullStore, audit: Audit):
    """Nobody is told that something was done before it stands in the log."""
    await audit.record(STOP)

    assert store.entries == [STOP]


async def test_many_at_a_time_share_a_transaction(store: FullStore, audit: Audit):
    """A hundred requests that wait for the log are not a hundred commits."""
    store.let.clear()
    recording = [asyncio.create_task(audit.record(replace(STOP, detail=str(n)))) for n in range(100)]
    await asyncio.sleep(0)
    store.let.set()
    await asyncio.gather(*recording)

    assert len(store.entries) == 100
    assert store.written <= 2


async def test_one_who_goes_away_loses_nothing(store: FullStore, audit: Audit):
    """A cancelled request leaves its entry, and those of others, on their way."""
    store.let.clear()
    first, second = (asyncio.create_task(audit.record(replace(STOP, detail=who))) for who in ("first", "second"))
    await asyncio.sleep(0)
    first.cancel()
    store.let.set()
    await second

    assert {entry.detail for entry in store.entries} == {"first", "second"}


async def test_a_refusal_waits_for_nothing_and_is_written_soon(store: FullStore, audit: Audit):
    """The one who was refused is not kept waiting by the disk."""
    running = asyncio.create_task(audit.run())
    audit.note(REFUSED)
    assert store.entries == []

    await eventually(lambda: store.entries == [REFUSED])
    running.cancel()


async def test_what_was_counted_is_written_at_the_end(store: FullStore):
    """An orderly end loses nothing."""
    audit = Audit(store, lambda: NOW)
    for _ in range(5):
        audit.note(REFUSED)
    await audit.close()

    assert [entry.times for entry in store.entries] == [1, 4]


@pytest.mark.parametrize(
    "secret",
    [
        "tdg_" + "A1b2" * 11,
        "Authorization: Bearer c2VjcmV0LXNlY3JldA",
        "ticket=abcdef0123456789",
        "password=correct-horse",
        "0123456789abcdef" * 4,
    ],
)
async def test_what_looks_like_a_secret_is_not_written(store: FullStore, audit: Audit, secret: str):
    """Whoever types one where a name belongs has not told it to all who read the log."""
    await audit.record(replace(STOP, principal=secret, detail=secret, cluster=secret, actor=secret))

    (entry,) = store.entries
    assert secret.rpartition(" ")[2].rpartition("=")[2] not in repr(entry)


async def test_a_text_from_outside_is_one_short_line(store: FullStore, audit: Audit):
    """Whatever somebody sends as a name."""
    await audit.record(replace(STOP, cluster="x" * 10**6, detail="a\nb"))

    (entry,) = store.entries
    assert (len(entry.cluster) < LONGEST + 5, entry.detail) == (True, "a?b")


async def test_a_full_disk_is_said_once_and_made_up_for(
    store: FullStore, audit: Audit, caplog: pytest.LogCaptureFixture
):
    """Requests are answered meanwhile; what waited is written as soon as there is room."""
    store.full = True
    with caplog.at_level(logging.WARNING):
        for n in range(3):
            await audit.record(replace(STOP, detail=str(n)))
        assert [r.levelname for r in caplog.records] == ["ERROR"]
        assert "cannot write the audit log to the database: cannot write: the disk is full" in caplog.text

        store.full = False
        await audit.record(replace(STOP, detail="3"))

    assert [entry.detail for entry in store.entries] == ["0", "1", "2", "3"]
    assert "written to the database again; 0 entries of it are lost" in caplog.text


async def test_what_waits_is_bounded_and_what_is_lost_is_counted(
    store: FullStore, audit: Audit, caplog: pytest.LogCaptureFixture
):
    """A disk that stays full does not fill the memory."""
    store.full = True
    for n in range(auditing.MOST_WAITING // 1000 + 2):
        audit._put([replace(STOP, detail=f"{n} {m}") for m in range(1000)])
    store.full = False
    await audit.flush()
    assert len(store.entries) == auditing.MOST_WAITING

    store.full = True
    await audit.flush()
    audit._put([STOP] * (auditing.MOST_WAITING + 7))
    await audit.flush()
    store.full = False
    await audit.flush()
    assert "7 entries of it are lost" in caplog.text


async def test_only_administrators_read_it(store: FullStore, audit: Audit):
    """To others it is not there; not to one who acts on behalf of somebody either."""
    await audit.record(STOP)
    audit.note(REFUSED)

    for other in (Principal("alice"), Principal("alice", actor="root")):
        with pytest.raises(NotVisible):
            await audit.find(other, Wanted())
    found = await audit.find(ROOT, Wanted())
    assert [recorded.entry for recorded in found] == [REFUSED, STOP]


async def test_old_entries_are_forgotten(store: FullStore):
    """Those that are older than the setting says, however many."""
    audit = Audit(store, lambda: NOW, keep=10 * DAY)
    await store.add_audit([replace(STOP, at=NOW - 11 * DAY)] * (auditing.PRUNED_AT_ONCE + 5))
    await store.add_audit([replace(STOP, at=NOW - 9 * DAY)])

    assert await audit.prune() == auditing.PRUNED_AT_ONCE + 5
    assert [entry.at for entry in store.entries] == [NOW - 9 * DAY]


# -- the file --------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[str]:
    """Return the details of the lines in a file."""
    return [json.loads(line)["detail"] for line in path.read_text().splitlines()]


async def test_everything_stands_in_the_file_too(store: FullStore, tmp_path: Path):
    """In the order in which it happened."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(store, lambda: NOW, AuditFile(path))
    await audit.start()
    await audit.record(replace(STOP, detail="done"))
    audit.note(replace(REFUSED, detail="refused"))
    await audit.close()

    assert read(path) == ["done", "refused"]


async def test_a_file_that_cannot_be_written_stops_nothing(
    store: FullStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """It is said, the store goes on, and when the folder is back the lines that waited are written."""
    folder = tmp_path / "logs"
    folder.mkdir()
    audit = Audit(store, lambda: NOW, AuditFile(folder / "audit.jsonl"))
    await audit.start()
    (folder / "audit.jsonl").unlink()
    folder.rmdir()

    await audit.record(replace(STOP, detail="one"))
    await audit.flush()
    assert "cannot write the audit log to" in caplog.text
    assert [entry.detail for entry in store.entries] == ["one"]

    folder.mkdir()
    await audit.record(replace(STOP, detail="two"))
    await audit.close()
    assert read(folder / "audit.jsonl") == ["one", "two"]


async def test_a_store_that_is_full_keeps_nothing_from_the_file(store: FullStore, tmp_path: Path):
    """Each has a queue of its own."""
    path = tmp_path / "audit.jsonl"
    audit = Audit(store, lambda: NOW, AuditFile(path))
    store.full = True
    await audit.record(replace(STOP, detail="one"))
    await audit.flush()
    await audit.flush()

    assert read(path) == ["one"]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A path that whoever opens it to write waits at, as at a file system that hangs: a pipe that nobody reads."""
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)
    yield path
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # lets those go who wait
    eventually_sync(lambda: not writers())
    os.close(reader)


def writers() -> list[threading.Thread]:
    """Return the threads that write to an audit file."""
    return [thread for thread in threading.enumerate() if thread.name == "audit-file"]


async def test_a_file_system_that_hangs_does_not_keep_the_gateway(
    store: FullStore, hanging: Path, caplog: pytest.LogCaptureFixture
):
    """It ends soon, and says what is not written there; the database has it all, also what nobody waited for."""
    audit = Audit(store, lambda: NOW, AuditFile(hanging))
    running = asyncio.create_task(audit.run())
    await audit.record(replace(STOP, detail="one"))
    await eventually(writers)
    audit.note(REFUSED)
    await eventually(lambda: len(store.entries) == 2)
    running.cancel()
    await asyncio.wait_for(audit.close(0.05), 5)

    assert f"that were not written to {hanging}: 2, the oldest of 2023-11-14 22:13:20Z" in caplog.text
    # The interpreter waits for all others before it ends.
    assert [thread.daemon for thread in writers()] == [True]


async def test_a_file_system_that_hangs_is_found_at_the_start(store: FullStore, hanging: Path):
    """An administrator reads which setting it is, instead of waiting."""
    audit = Audit(store, lambda: NOW, AuditFile(hanging))

    with pytest.raises(TidegateError, match=r"has not answered for 0\.05 s\. Set audit\.file"):
        await audit.start(0.05)


async def test_what_a_full_disk_has_kept_back_is_said_in_the_end(store: FullStore, caplog: pytest.LogCaptureFixture):
    """Nothing is lost silently."""
    audit = Audit(store, lambda: NOW)
    store.full = True
    await audit.record(STOP)
    await audit.close()

    assert "entries of the audit log that were not written to the database: 1, the oldest" in caplog.text


async def test_nothing_is_written_twice_when_the_log_ends_amid_a_write(store: FullStore, hanging: Path):
    """Whoever is interrupted while a slow disk works leaves it working, and does not begin anew."""
    audit = Audit(store, lambda: NOW, AuditFile(hanging))
    running = asyncio.create_task(audit.run())
    audit.note(REFUSED)
    await eventually(writers)
    running.cancel()
    closing = asyncio.create_task(audit.close(20))
    await eventually(lambda: running.done() and store.entries)
    reader = os.open(hanging, os.O_RDONLY | os.O_NONBLOCK)
    await closing

    assert os.read(reader, 65536).count(b"\n") == 1
    os.close(reader)


async def test_a_file_that_cannot_be_made_is_found_at_the_start(store: FullStore, tmp_path: Path):
    """An administrator reads which setting it is."""
    audit = Audit(store, lambda: NOW, AuditFile(tmp_path / "nowhere" / "audit.jsonl"))

    with pytest.raises(TidegateError, match=r"cannot write the audit log to .*: No such file.*Set audit\.file"):
        await audit.start()
