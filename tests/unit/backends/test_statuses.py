"""A journal is read piece by piece, and one that cannot be honest not at all. No process runs here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidegate.backends.local.accounts import own
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper.journal import Journal
from tidegate.backends.local.statuses import HONEST_BYTES, LINE_BYTES, OVERGROWN, READ_BYTES, Status, Unread
from tidegate.model.observation import ProcessState

FLOODED, QUIET = "flooded", "quiet"


def make(root: Path, name: str) -> ClusterFolder:
    """Make a cluster's folder with a secret in it."""
    folder = ClusterFolder(root / "clusters", name)
    folder.give_to(own())
    folder.create({"agent.json": b"{}"})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    """Give the folder of a cluster whose journal begins with its scheduler's start."""
    folder = make(tmp_path, FLOODED)
    Journal(str(folder.status_file)).running("scheduler")
    return folder


def flood(folder: ClusterFolder, pieces: int, line: bytes = b"{}\n") -> None:
    """Append lines that say nothing, of so many times what is read at a look."""
    with folder.status_file.open("ab") as file:
        file.write(line * (pieces * READ_BYTES // len(line)))


def looks(folder: ClusterFolder) -> tuple[int, dict[str, Status]]:
    """Look until something can be told; return how many looks could not tell, and what is told."""
    for unread in range(100):
        try:
            return unread, folder.statuses()
        except Unread:
            assert folder.is_unread
    raise AssertionError("it never comes to the end")


@pytest.mark.parametrize("line", [b"{}\n", b"\n", b"x" * 100 + b"\n", b"[" * 10_000 + b"\n", b"\0"])
def test_a_look_reads_a_piece_and_the_next_goes_on(folder: ClusterFolder, line: bytes) -> None:
    """Before the end is reached nothing is told, for what was read may long be otherwise."""
    flood(folder, 3, line)
    with folder.status_file.open("ab") as file:
        file.write(b"\n")
    Journal(str(folder.status_file)).exited("scheduler", why="it ended", code="exited")

    unread, told = looks(folder)

    assert unread == 3
    assert told == {"scheduler": Status("scheduler", "exited", "it ended", "exited")}
    assert not folder.is_unread
    assert looks(folder) == (0, told)


def test_lines_that_are_too_long_are_passed_over(folder: ClusterFolder) -> None:
    """Wherever in them a look ends; what follows is read. An honest line of the longest sentence is not too long."""
    lie = b'{"process": "default-1", "state": "running", "why": "%s"}'
    with folder.status_file.open("ab") as file:
        for length in (LINE_BYTES.stop, READ_BYTES, 3 * READ_BYTES):
            file.write(lie % (b"x" * length) + b"\n")
        file.write(lie % (b"x" * LINE_BYTES.stop))
    assert set(looks(folder)[1]) == {"scheduler"}
    with folder.status_file.open("ab") as file:
        file.write(b'{"process": "default-2", "state": "running"}\n')
    assert set(looks(folder)[1]) == {"scheduler"}  # It is the end of that line.
    Journal(str(folder.status_file)).exited("default-3", why="\N{GRINNING FACE}" * 5000, code="exited")
    assert looks(folder)[1]["default-3"].why == "\N{GRINNING FACE}" * 1000


def test_a_journal_beyond_any_honest_size_is_not_read(folder: ClusterFolder) -> None:
    """It is as if the scheduler had ended, and says why: so the cluster is stopped, and its owner reads that."""
    os.truncate(folder.status_file, HONEST_BYTES + 1)
    assert folder.statuses() == {"scheduler": Status("scheduler", "exited", OVERGROWN, "exited")}
    assert not folder.is_unread


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    """Give a backend of both clusters."""
    Journal(str(make(tmp_path, QUIET).status_file)).exited("scheduler", why="it ended", code="exited")
    backend = LocalBackend(tmp_path)
    await backend.start()
    yield backend
    await backend.close()


async def test_a_flood_hides_no_other_cluster(folder: ClusterFolder, backend: LocalBackend) -> None:
    """Of the flooded one nothing can be told until it is read, and that its turn has come again is told at once."""
    flood(folder, 2)
    changes = backend.changes()
    for _ in range(2):
        told = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)  # It listens from then on.
        assert set(await backend.observe([FLOODED, QUIET])) == {QUIET}
        assert await asyncio.wait_for(told, 10) == FLOODED
    assert set(await backend.observe([FLOODED, QUIET])) == {FLOODED, QUIET}


async def test_a_cluster_with_an_overgrown_journal_ends(folder: ClusterFolder, backend: LocalBackend) -> None:
    """It can be stopped, nothing of it remains, and the reason stands."""
    os.truncate(folder.status_file, HONEST_BYTES + 1)
    await backend.stop(FLOODED)
    seen = (await backend.observe([FLOODED]))[FLOODED]
    assert not seen.remains
    assert seen.scheduler is not None
    assert (seen.scheduler.state, seen.scheduler.why) == (ProcessState.EXITED, OVERGROWN)


async def test_a_flooded_cluster_can_be_stopped(folder: ClusterFolder, backend: LocalBackend) -> None:
    """How it ended is written at the journal's end, and what was written before counts."""
    flood(folder, 2)
    await backend.stop(FLOODED)
    while FLOODED not in (seen := await backend.observe([FLOODED])):
        pass
    scheduler = seen[FLOODED].scheduler
    assert scheduler is not None
    assert (scheduler.state, scheduler.code) == (ProcessState.EXITED, "killed")
