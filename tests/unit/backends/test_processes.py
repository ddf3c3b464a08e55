"""Finding and ending processes by descent and mark."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import eventually_sync
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.keeper import processes

MARK = secrets.token_hex(8)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that bears a mark."""
    environment = {"PATH": os.environ["PATH"], processes.MARK: MARK, processes.CLUSTER: "c1"}
    process = subprocess.Popen(["sleep", "1000"], env=environment)
    yield process
    process.kill()
    process.wait()


def test_a_process_is_found_by_its_mark(sleeper: subprocess.Popen[bytes]) -> None:
    """By the whole mark, with the name of its cluster; and not once it has ended."""
    assert processes.marked(MARK) == {"c1": {sleeper.pid}}
    assert processes.marked(MARK[:-1]) == {}
    sleeper.kill()
    eventually_sync(lambda: processes.marked(MARK) == {}, what="a zombie counts as gone")


def test_a_zombie_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    """It has no start time any more, and is found among the zombies of its parent."""
    assert processes.start_time(sleeper.pid) is not None
    assert processes.identity(sleeper.pid) != processes.identity(os.getpid())
    sleeper.kill()
    eventually_sync(lambda: processes.start_time(sleeper.pid) is None)
    assert sleeper.pid in processes.zombie_children(os.getpid())
    assert sleeper.pid not in processes.descendants(os.getpid())


def test_a_sweep_ends_what_it_finds(sleeper: subprocess.Popen[bytes]) -> None:
    """It returns when nothing is found any more, or says that it could not."""
    assert sleeper.pid in processes.descendants(os.getpid())
    assert processes.sweep(lambda: processes.marked(MARK).get("c1", set()), 10)
    assert sleeper.wait() == -signal.SIGKILL
    assert not processes.sweep(lambda: {2**22 + 1}, 0)


async def test_a_process_that_marks_itself_with_no_name_is_not_listed(tmp_path: Path) -> None:
    """Whoever runs in a cluster can choose the environment of what they start: there is no such cluster to stop."""
    backend = LocalBackend(tmp_path)
    await backend.start()
    mark = (tmp_path / "clusters" / ".mark").read_text()
    environment = {"PATH": os.environ["PATH"], processes.MARK: mark, processes.CLUSTER: "../No name"}
    process = subprocess.Popen(["sleep", "1000"], env=environment)
    try:
        assert processes.marked(mark) == {"../No name": {process.pid}}
        assert await backend.list_clusters() == set()
    finally:
        process.kill()
        process.wait()
        await backend.close()


async def test_stop_ends_what_bears_the_mark_without_a_keeper(tmp_path: Path) -> None:
    """A process whose cluster left nothing but the mark is listed as something that runs, and ended."""
    backend = LocalBackend(tmp_path)
    await backend.start()
    mark = (tmp_path / "clusters" / ".mark").read_text()
    environment = {"PATH": os.environ["PATH"], processes.MARK: mark, processes.CLUSTER: "c2"}
    process = subprocess.Popen(["sleep", "1000"], env=environment)
    try:
        assert await backend.list_clusters() == {"c2"}
        assert (await backend.observe(["c2"]))["c2"].remains
        await backend.stop("c2")
        assert process.wait() == -signal.SIGKILL
        assert not (await backend.observe(["c2"]))["c2"].remains
    finally:
        process.kill()
        await backend.close()


@pytest.mark.parametrize(
    ("status", "code", "why"),
    [
        (0, "exited", "its process ended with exit code 0"),
        (70, "exited", "its process ended with exit code 70"),
        (-9, "killed", "signal 9 (SIGKILL) ended its process"),
        (-40, "killed", "signal 40 (unknown) ended its process"),
    ],
)
def test_an_end_is_told_in_words(status: int, code: str, why: str) -> None:
    """Exit codes and signals have a code for programs and a sentence for people."""
    assert processes.describe_end(status) == (code, why)
