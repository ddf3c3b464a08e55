"""The log file of the proxy processes: one for all of them, of bounded size, whatever strangers make them say.

A proxy lives for weeks, so nobody else can cut its log at a start. Whichever process finds the file full sets it aside;
the others notice that the name has come to stand for another file, and go on with that one.
"""

from __future__ import annotations

import io
import logging.handlers
import os
from pathlib import Path

LOG_BYTES = 10 * 2**20
"""Of one file: some fifty thousand lines."""
LOG_FILES = 3
"""So many older ones are kept."""


class LogFile(logging.handlers.RotatingFileHandler):
    """A log file that several processes append to and set aside when it is full.

    Parameters
    ----------
    path : Path
    limit : int
        Bytes of one file.
    """

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        super().__init__(path, maxBytes=limit, backupCount=LOG_FILES)

    def doRollover(self) -> None:
        """Go on with an empty file, or with the one that another process has begun."""
        if self._is_current():
            super().doRollover()
        elif self.stream is not None:
            self.stream.close()
            self.stream = self._open()

    def _is_current(self) -> bool:
        if self.stream is None:
            return True
        try:
            return os.path.samestat(os.stat(self.baseFilename), os.fstat(self.stream.fileno()))
        except FileNotFoundError:
            return False

    def _open(self) -> io.TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(descriptor, "a", encoding="utf-8", errors="backslashreplace")
