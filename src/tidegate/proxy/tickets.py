"""Who may see a dashboard: tickets that control has signed, in a cookie or, once, in a link.

The ticket in a link is exchanged for a cookie of the dashboard's own host, and is worth nothing afterwards, so a link
in a history, a log or a Referer opens nothing. Every proxy process checks tickets by itself, so what was used is
written down in a folder that all of them share: to create a file that must not exist yet is atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from tidegate.wire.tickets import OPEN_SECONDS

_FOLDER = "used-tickets"

logger = logging.getLogger(__name__)


class UsedTickets:
    """Remembers the one-time tickets that were used, until they have expired anyway.

    Parameters
    ----------
    run_dir : Path
        The folder that all proxy processes share.
    clock : callable
        Seconds since the epoch.
    """

    def __init__(self, run_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = run_dir / _FOLDER
        self._clock = clock
        self._here: dict[str, float] = {}
        self._sweep_at = 0.0

    def claim(self, once: str, expires_at: float) -> bool:
        """Use a ticket up; False when it was used before."""
        now = self._clock()
        self._sweep(now)
        name = f"{int(expires_at) + 1}-{hashlib.sha256(once.encode()).hexdigest()[:32]}"
        if name in self._here:
            return False
        self._here[name] = expires_at
        try:
            return self._write_down(name)
        except OSError as error:  # a full disk must not lock people out; this process at least remembers
            logger.warning("cannot write down that a ticket was used: %s", error)
            return True

    def _write_down(self, name: str) -> bool:
        """Create a file of this name; False when it is there already."""
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, exist_ok=True)
        try:
            os.close(os.open(self._folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        return True

    def _sweep(self, now: float) -> None:
        if now < self._sweep_at:
            return
        self._sweep_at = now + OPEN_SECONDS
        self._here = {name: expires_at for name, expires_at in self._here.items() if expires_at > now}
        with contextlib.suppress(OSError):
            for entry in list(os.scandir(self._folder)):
                expires_at = entry.name.partition("-")[0]
                if expires_at.isdecimal() and int(expires_at) < now:
                    os.unlink(entry.path)
