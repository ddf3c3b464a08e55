"""What became of each process of a cluster, as its journal (``keeper/journal.py``) tells, read with suspicion.

The journal is a file of the cluster's account, whose processes can append to it whatever they like, as fast as a disk
takes it. So a look reads a bounded piece of it and goes on from there at the next. Until its end is reached, nothing
can be told of the cluster: what was read first may long be otherwise. A journal beyond any honest size is not read at
all: then what it says of the cluster is that its scheduler has ended, and why, so that the cluster is stopped as after
any other end. All that can be read in the life of one cluster is bounded by that size.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from tidegate.backends.local.keeper.journal import EXITED, SCHEDULER, SENTENCE
from tidegate.backends.local.keeper.processes import raise_if_short
from tidegate.model.errors import BackendFailed

WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}-[0-9]{1,12}")

READ_BYTES = 1024 * 1024
"""How much of a journal is read at a look: 5,000 lines of 200 bytes, as an honest keeper writes them. They
take 0.04 s; the worst lines that we could think of take 0.1 s."""

HONEST_BYTES = 64 * 1024 * 1024
"""How large an honest journal becomes: one of 100,000 workers, which take a cluster weeks, has 40 MB."""

LINE_BYTES = range(32, 16 * 1024)
"""How long a line about a process may be: no shorter than two names and two words, and no longer than a sentence of
1,000 characters, which JSON writes with 12 bytes each at the most, and the names around it."""

STATUSES = 4000
"""How many processes are kept in memory and told at each look: all that run on one machine, and the newest that have
ended. A journal names 100,000 when its cluster has run for weeks."""

OVERGROWN = f"its journal (status.jsonl) grew beyond {HONEST_BYTES // 2**20} MiB: something in the cluster writes there"


class Unread(BackendFailed):
    """Nothing can be told yet: there is more in the journal than is read at a look."""


@dataclass(frozen=True)
class Status:
    """The last line of the journal about one process."""

    process: str
    state: str
    why: str = ""
    code: str = ""
    expected: bool = False


class Statuses:
    """The last status of each process of one cluster.

    Parameters
    ----------
    cluster : str
        Its name.
    opened : callable
        Returns a context that opens its journal to read; ``OSError`` where there is none.
    """

    def __init__(self, cluster: str, opened: Callable[[], AbstractContextManager[BinaryIO]]) -> None:
        self._cluster = cluster
        self._opened = opened
        self._reading = threading.Lock()
        self._last: dict[str, Status] = {}
        self._offset = 0
        self._within = False
        """Whether reading stopped within a line that is too long."""
        self.is_unread = False
        """Whether the last look did not come to the end."""

    def forget(self) -> None:
        """Begin anew: the journal is another one."""
        with self._reading:
            self._last, self._offset, self._within, self.is_unread = {}, 0, False, False

    def read(self) -> dict[str, Status]:
        """Return the last status of each process, those that changed last at the end; reads only what is new.

        Raises
        ------
        Unread
            There is more than is read at a time.
        """
        with self._reading:
            try:
                with self._opened() as file:
                    size = os.fstat(file.fileno()).st_size
                    if size > HONEST_BYTES:
                        self.is_unread = False
                        return {SCHEDULER: Status(SCHEDULER, EXITED, OVERGROWN, "exited")}
                    file.seek(self._offset)
                    new = file.read(READ_BYTES)
            except OSError as error:
                raise_if_short(error)
                return {}
            self.is_unread = self._offset + len(new) < size
            self._fold(new)
            if self.is_unread:
                raise Unread(
                    f"cannot tell yet what became of the cluster {self._cluster}: its journal has {size} bytes, "
                    f"of which {self._offset} are read, at most {READ_BYTES} at a time; look again"
                )
            return dict(self._last)

    def _fold(self, new: bytes) -> None:
        """Take the whole lines of ``new``; what may become one stays for the next time."""
        lines = new.split(b"\n")
        rest = lines.pop()
        if self._within and lines:
            del lines[0]
            self._within = False
        if self._within or len(rest) >= LINE_BYTES.stop:
            self._within = True
            rest = b""
        self._offset += len(new) - len(rest)
        for line in lines:
            status = _parse(line) if len(line) in LINE_BYTES else None
            if status is not None:
                self._last.pop(status.process, None)  # So that they stand in the order of their last change.
                self._last[status.process] = status
                if len(self._last) >= 2 * STATUSES:
                    _drop_surplus(self._last)
        _drop_surplus(self._last)


def is_process(name: str) -> bool:
    """Say whether that can be the name of a process of a cluster."""
    return name == SCHEDULER or WORKER_NAME.fullmatch(name) is not None


def as_sentence(said: object) -> str:
    """Return what a cluster's processes say as text that can be passed on anywhere, and is not endless."""
    text = str(said)[:SENTENCE]
    # Half characters (surrogates), which JSON can name and nobody can encode, are not printable either.
    return text if text.isprintable() else "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _drop_surplus(statuses: dict[str, Status]) -> None:
    """Drop the oldest ends, never what runs, unless more is said to run than can."""
    surplus = max(0, len(statuses) - STATUSES)
    if not surplus:
        return
    ended = [name for name, status in statuses.items() if status.state == EXITED and name != SCHEDULER]
    for name in ended[:surplus]:
        del statuses[name]
    for name in list(statuses)[STATUSES:]:
        del statuses[name]


def _parse(line: bytes) -> Status | None:
    """Read a line of the journal; what cannot be one is no status. The keeper runs as the user, who may write there."""
    try:
        entry = json.loads(line)
        if not is_process(str(entry.get("process"))):
            return None
        process, state, why, code = (as_sentence(entry.get(key, "")) for key in ("process", "state", "why", "code"))
        return Status(process, state, why, code, expected=bool(entry.get("expected", False)))
    except (ValueError, AttributeError, RecursionError):
        return None
