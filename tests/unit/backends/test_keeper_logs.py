"""Logs that would grow for ever."""

from __future__ import annotations

import os
from pathlib import Path

from tidegate.backends.local.keeper.logs import EndedLogs, cap_logs

LINE = b"%08d\n"


def write_lines(log: int, first: int, count: int) -> None:
    """Append numbered lines of nine bytes."""
    os.write(log, b"".join(LINE % n for n in range(first, first + count)))


def test_a_log_keeps_its_first_and_last_lines(tmp_path: Path) -> None:
    """Whole lines, with a word between them; whoever has the file open goes on behind them, again and again."""
    path = tmp_path / "scheduler.log"
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for turn in range(3):
        write_lines(log, turn * 1000, 1000)
        cap_logs(str(tmp_path), limit=2000, head=100, tail=200)
        os.write(log, b"and so on\n")

        lines = path.read_text().splitlines()
        assert lines[:11] == [f"{n:08}" for n in range(11)]
        assert lines[11].startswith("tidegate: cut ")
        assert lines[12:-1] == [f"{n:08}" for n in range(turn * 1000 + 978, turn * 1000 + 1000)]
        assert lines[-1] == "and so on"
    os.close(log)


def test_a_log_that_is_not_too_long_stays_as_it_is(tmp_path: Path) -> None:
    """Nor is anything touched that is no log."""
    for name in ("default-1.log", "status.jsonl"):
        (tmp_path / name).write_bytes(b"x" * (2000 if name.endswith(".log") else 3000))
    cap_logs(str(tmp_path), limit=2000, head=100, tail=200)
    assert (tmp_path / "default-1.log").stat().st_size == 2000
    assert (tmp_path / "status.jsonl").stat().st_size == 3000
    cap_logs(str(tmp_path / "nowhere"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Whoever runs in the cluster can write to this folder."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "precious").write_bytes(b"x" * 3000)
    (tmp_path / "logs" / "scheduler.log").symlink_to(tmp_path / "precious")
    os.mkfifo(tmp_path / "logs" / "default-1.log")
    cap_logs(str(tmp_path / "logs"), limit=2000, head=100, tail=200)
    assert (tmp_path / "precious").stat().st_size == 3000


def test_one_endless_line_is_cut_all_the_same(tmp_path: Path) -> None:
    """A progress bar writes no line feeds."""
    (tmp_path / "default-1.log").write_bytes(b"x" * 3000)
    cap_logs(str(tmp_path), limit=2000, head=100, tail=200)
    assert 300 <= (tmp_path / "default-1.log").stat().st_size < 500


def test_the_oldest_logs_of_ended_workers_go(tmp_path: Path) -> None:
    """A group that fails all night leaves its last logs, and those of what still runs."""
    for name in ("scheduler", *(f"default-{n}" for n in range(1, 6))):
        (tmp_path / f"{name}.log").touch()
    ended = EndedLogs(str(tmp_path), keep=2)
    for name in ("default-2", "never-logged-1", "default-1", "default-4"):
        ended.add(name)
    assert sorted(os.listdir(tmp_path)) == [
        f"{name}.log" for name in ("default-1", "default-3", "default-4", "default-5", "scheduler")
    ]
