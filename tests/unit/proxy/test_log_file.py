"""The log of the proxies: whatever is said, and by however many, it has a size."""

from __future__ import annotations

import logging
from pathlib import Path

from tidegate.proxy.log_file import LOG_FILES, LogFile


def say(handler: LogFile, words: str) -> None:
    """Write one line."""
    handler.emit(logging.LogRecord("tidegate.proxy", logging.INFO, "", 0, words, None, None))


def test_processes_that_share_a_log_keep_it_small(tmp_path: Path):
    """Whoever finds it full sets it aside, once; the others go on with the new file, and nobody with an old one."""
    path = tmp_path / "proxy.log"
    handlers = [LogFile(path, limit=10_000) for _ in range(3)]
    for number in range(3_000):
        say(handlers[number % 3], f"{number:099d}")
    for handler in handlers:
        handler.close()

    files = {file.name: file.read_text().splitlines() for file in tmp_path.iterdir()}
    assert set(files) == {"proxy.log", *(f"proxy.log.{n + 1}" for n in range(LOG_FILES))}
    assert all(file.stat().st_size <= 10_000 for file in tmp_path.iterdir())
    lines = sorted(int(line) for kept in files.values() for line in kept)
    assert lines == list(range(3_000 - len(lines), 3_000))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_taken_away_is_begun_anew(tmp_path: Path):
    """Another program that rotates logs does no harm."""
    path = tmp_path / "proxy.log"
    handler = LogFile(path, limit=1_000)
    say(handler, "x" * 900)
    path.unlink()

    say(handler, "y" * 900)
    handler.close()

    assert path.read_text() == "y" * 900 + "\n"
