"""What a tenant may have put where the gateway looks: it is read with a bound, and nobody waits for it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tidegate.backends.local import zygotes
from tidegate.backends.local.keeper import zygote


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """Give the path of a program's log, where nothing is yet."""
    return tmp_path / "zygote.log"


def test_the_last_line_of_a_log_is_read_from_its_end(log_file: Path) -> None:
    """However long it is, and blank lines do not count."""
    log_file.write_bytes(b"x" * 2**20 + b"\nthe last words \xff\n\n")
    assert zygotes._last_line(log_file) == "the last words \ufffd"


def test_one_endless_line_is_cut(log_file: Path) -> None:
    """It stands in a message."""
    log_file.write_bytes(b"x" * 2**20)
    assert zygotes._last_line(log_file) == "x" * zygotes.LOG_BYTES


def test_no_words_are_told_as_that(log_file: Path) -> None:
    """Where there is no log, or nothing in it."""
    assert zygotes._last_line(log_file) == "it said nothing"
    log_file.touch()
    assert zygotes._last_line(log_file) == "it said nothing"


def test_a_link_is_not_followed(log_file: Path) -> None:
    """It could lead to what only the gateway may read, or to what never ends."""
    log_file.symlink_to("/dev/zero")
    assert zygotes._last_line(log_file) == "it said nothing"


def test_nobody_waits_for_a_pipe(log_file: Path) -> None:
    """One without a writer would keep who opens it waiting."""
    os.mkfifo(log_file)
    assert zygotes._last_line(log_file) == "what it said is not in its log"


def test_a_zygote_that_accepts_nobody_keeps_nobody_waiting(tmp_path: Path) -> None:
    """When as many wait as the kernel lets, the next is told at once."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / zygote.SOCKET_FILE))
        listener.listen(0)
        with zygote.connect(str(tmp_path)) as first, pytest.raises(BlockingIOError):
            zygote.connect(str(tmp_path))
        assert first.getblocking()
