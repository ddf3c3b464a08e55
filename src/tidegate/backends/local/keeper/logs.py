"""Keeping the logs of a cluster from filling the disk.

A log is cut where it lies, because the processes that write it cannot be made to open another: what they append goes
behind what is left. How it began says what was started, the last of it says how it ended; the middle goes. Lines that
are written in the very moment of a cut may be lost, which is little beside what the cut takes away.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque

LIMIT = 64 * 2**20
"""Bytes that a log may come to: half a million lines."""

HEAD = 8 * 2**20
TAIL = 8 * 2**20
"""Bytes that stay of its beginning and of its end. To move them takes milliseconds, in which the keeper does nothing
else; and to come to the limit again takes another 48 MiB."""

KEPT = 200
"""How many logs of workers that have ended stay: those of a night of failures all say the same."""

INTERVAL = 2.0
"""Seconds between two looks. In this time a process that only prints can write some hundred megabytes."""


def cap_logs(folder: str, *, limit: int = LIMIT, head: int = HEAD, tail: int = TAIL) -> None:
    """Cut every log in ``folder`` that is longer than ``limit`` bytes."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".log"):
                # On a disk that is full or fails a log stays as it is until the next look.
                with contextlib.suppress(OSError):
                    _cap(entry.path, limit, head, tail)


class EndedLogs:
    """Removes from ``folder`` the oldest logs of workers that have ended, beyond the last ``keep``."""

    def __init__(self, folder: str, keep: int = KEPT) -> None:
        self._folder = folder
        self._keep = keep
        self._names: deque[str] = deque()

    def add(self, worker: str) -> None:
        """Note that a worker has ended, and will write no more."""
        self._names.append(worker)
        if len(self._names) > self._keep:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, f"{self._names.popleft()}.log"))


def _cap(path: str, limit: int, head: int, tail: int) -> None:
    found = os.lstat(path)
    # Those who run in the cluster can write here: not through a link, and not into what is no file.
    if not stat.S_ISREG(found.st_mode) or found.st_size <= limit:
        return
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        first = os.pread(fd, head, 0)
        last = os.pread(fd, tail, size - tail)
        # Whole lines, where there are any.
        kept = first.rfind(b"\n") + 1 or len(first)
        last = last[last.find(b"\n") + 1 :] or last
        os.ftruncate(fd, kept)
        gap = b"" if first[:kept].endswith(b"\n") else b"\n"
        gone = size - kept - len(last)
        word = b"tidegate: cut %d bytes here: the log had come to more than %d\n" % (gone, limit)
        os.write(fd, gap + word + last)
    finally:
        os.close(fd)
