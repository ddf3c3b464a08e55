"""Telling an end for want of memory from others, by what the kernel counts."""

from __future__ import annotations

import signal
from pathlib import Path

from tidegate.backends.local.keeper.groups import Group
from tidegate.backends.local.keeper.memory import GroupMemory, OutOfMemory

NO_COUNT = OutOfMemory("/nowhere/vmstat")


def test_a_kill_of_the_kernels_explains_one_death_of_these_seconds(tmp_path: Path) -> None:
    """Its count is the machine's: what it killed long ago, and others, is not why a worker of ours is killed now."""
    statistics = tmp_path / "vmstat"

    def kill(times: int) -> None:
        statistics.write_text(f"pgfault 7\noom_kill {times}\nswap_ra 0\n")

    kill(3)
    memory = OutOfMemory(str(statistics))
    assert memory.explain(-signal.SIGKILL) is None
    kill(5)
    assert memory.explain(-signal.SIGTERM) is None
    codes = [(memory.explain(-signal.SIGKILL) or ("killed",))[0] for _ in range(3)]
    assert codes == ["out-of-memory", "out-of-memory", "killed"]

    kill(6)
    memory.look()
    assert memory.explain(-signal.SIGKILL) is not None  # Killed right before a look, and heard of after it.
    kill(7)
    memory.look()
    memory.look()
    assert memory.explain(-signal.SIGKILL) is None


def test_the_count_of_its_group_explains_the_end_of_a_worker(tmp_path: Path) -> None:
    """Exactly once, with the limit that was reached; what another signal ended was not for want of memory."""
    memory = GroupMemory(Group([str(tmp_path)]), 2 * 2**30, NO_COUNT)
    assert memory.explain(-signal.SIGKILL) is None  # There is no count: nothing can be told.

    for files in ({"memory.events": "oom 1\noom_kill 1\n"}, {"memory.oom_control": "under_oom 0\noom_kill 2\n"}):
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        assert memory.explain(-signal.SIGTERM) is None
        explained = memory.explain(-signal.SIGKILL)
        assert explained is not None
        assert explained[0] == "out-of-memory"
        assert explained[1].endswith("it came to more than its limit of 2 GiB")
        assert memory.explain(-signal.SIGKILL) is None
        if "memory.events" in files:
            (tmp_path / "memory.events").unlink()
            (tmp_path / "memory.limit_in_bytes").write_text(f"{2**31}\n")
            (tmp_path / "memory.max_usage_in_bytes").write_text(f"{2**31 - 4096}\n")


def test_a_kill_below_the_limit_is_the_machines(tmp_path: Path) -> None:
    """Nobody is told of a limit of theirs that they have not come to."""
    (tmp_path / "memory.events").write_text("low 0\noom 0\noom_kill 1\n")
    explained = GroupMemory(Group([str(tmp_path)]), 2**30, NO_COUNT).explain(-signal.SIGKILL)
    assert explained == ("out-of-memory", "the kernel killed its process: memory ran out on the machine")


def test_what_a_task_had_started_is_told_once_and_not_too_early(tmp_path: Path) -> None:
    """A kill that is new may be of the worker's own process, whose end is heard of in a moment."""
    (tmp_path / "memory.limit_in_bytes").write_text("314572800\n")
    (tmp_path / "memory.max_usage_in_bytes").write_text("314572800\n")
    count = tmp_path / "memory.oom_control"
    count.write_text("oom_kill 0\n")
    memory = GroupMemory(Group([str(tmp_path)]), 300 * 2**20, NO_COUNT)
    assert memory.look() == ""
    count.write_text("oom_kill 1\n")
    assert memory.look() == ""
    assert memory.look().startswith("the kernel killed a process that a task had started")
    assert memory.look() == ""

    count.write_text("oom_kill 2\n")
    assert memory.look() == ""
    assert memory.explain(-signal.SIGKILL) is not None
    assert memory.look() == ""
