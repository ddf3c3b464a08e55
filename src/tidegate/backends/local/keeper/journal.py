"""What happened to each process of a cluster, one JSON line per change, appended to ``status.jsonl``.

The last line about a process is its state. The file is the only memory of how things ended: it survives the keeper, the
gateway, and the processes that it is about.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

SCHEDULER = "scheduler"
"""The name of the scheduler's lines; workers' names contain a dash."""

SENTENCE = 1000
"""Characters of a sentence about a process: an honest one has 200, but the words of an error may be a user's."""

RUNNING = "running"
EXITED = "exited"


class Journal:
    """Appends lines, and tells ``on_change`` after each.

    On a full disk lines are kept and written with the next one: a cluster must not end because it cannot be watched.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._pending = b""
        self.on_change: Callable[[], None] = lambda: None

    def running(self, process: str, *, why: str = "", code: str = "") -> None:
        """Note that ``process`` runs; ``why`` tells of an earlier end that a restart has mended."""
        self._append({"process": process, "state": RUNNING, "why": why[:SENTENCE], "code": code})

    def exited(self, process: str, *, why: str, code: str, expected: bool = False) -> None:
        """Note that ``process`` has ended, how, and whether it was told to."""
        entry = {"process": process, "state": EXITED, "why": why[:SENTENCE], "code": code, "expected": expected}
        self._append(entry)

    def _append(self, entry: dict[str, Any]) -> None:
        self._pending += json.dumps({"at": time.time(), **entry}).encode() + b"\n"
        try:
            # What users put in its place must not lead elsewhere, nor hold us up.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self._path, flags, 0o600)
            try:
                self._pending = self._pending[os.write(fd, self._pending) :]
            finally:
                os.close(fd)
        except OSError:
            pass
        self.on_change()
