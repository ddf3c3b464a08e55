"""The audit log as a file of JSON lines, for whatever collects logs.

It is only ever added to, a whole line or none: what a full disk has cut off is taken away again. Whoever rotates it may
move it aside at any time; the next line goes to a new file. Everything here blocks, so it is called on a thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from tidegate.model.audit import Entry


class AuditFile:
    """A file to which lines are added.

    Parameters
    ----------
    path : Path
        Where it is; it is made with mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def append(self, entries: Sequence[Entry]) -> None:
        """Add a line for each entry: for all of them, or for none.

        Raises
        ------
        OSError
            When the system does not let us.
        """
        descriptor = self._open()
        rest = memoryview("".join(map(to_line, entries)).encode())
        size = os.fstat(descriptor).st_size
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def _open(self) -> int:
        """Return the descriptor of the file that stands under the name now."""
        if self._descriptor is not None and self._was_moved(self._descriptor):
            self.close()
        if self._descriptor is None:
            # Not through a link: who can write to the folder could else choose what we add lines to.
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def _was_moved(self, descriptor: int) -> bool:
        try:
            return not os.path.samestat(os.fstat(descriptor), os.stat(self.path, follow_symlinks=False))
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Close it; the next line opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def to_line(entry: Entry) -> str:
    """Return an entry as a line of JSON; every key is always there."""
    moment = datetime.fromtimestamp(entry.at, timezone.utc)
    values = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "action": entry.deed.value,
        "outcome": entry.outcome.value,
        "code": entry.code,
        "user": entry.principal,
        "actor": entry.actor,
        "method": entry.method,
        "token": entry.token,
        "cluster": entry.cluster,
        "detail": entry.detail,
        "address": entry.address,
        "times": entry.times,
    }
    return json.dumps(values, ensure_ascii=False) + "\n"
