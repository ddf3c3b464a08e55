"""The lists of what is withdrawn, signed once and handed out many times.

Every answer to an agent carries them, and an agent may ask as often as it likes; but to sign a list of 5,000 leaves
takes 30 ms. So a list is made in a thread, one at a time, and kept for as long as it says the same and is of today.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence

from tidegate.control.credentials import EARLY, revocation_lists
from tidegate.store.base import Credentials

KEPT = 64
"""How many clusters' lists are kept, those that were asked for last: the longest, of 5,000 leaves, has 300 kB."""
LASTS = EARLY / 2
"""Seconds for which lists are handed out. They are good from ``EARLY`` seconds before they were signed, so one of
tomorrow, from before the clock was set back, may be refused by schedulers; and one of long ago is made anew."""


class RevocationLists:
    """Makes lists, and keeps them.

    Parameters
    ----------
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._kept: dict[bytes, tuple[float, str]] = {}
        self._signing = asyncio.Lock()

    async def of(self, credentials: Credentials, withdrawn: Sequence[str]) -> str:
        """Return the lists, as PEM, of one cluster of which the leaves with these serial numbers are withdrawn."""
        key = _key(credentials, withdrawn)
        if (known := self._find(key)) is not None:
            return known
        async with self._signing:
            # Who asked for the same has waited here, and finds it now.
            if (known := self._find(key)) is not None:
                return known
            now = self._clock()
            serials = (int(serial, 16) for serial in withdrawn)
            made = await asyncio.to_thread(revocation_lists, credentials, serials, now)
            self._kept[key] = now, made
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
            return made

    def _find(self, key: bytes) -> str | None:
        found = self._kept.pop(key, None)
        if found is None or abs(self._clock() - found[0]) > LASTS:
            return None
        self._kept[key] = found  # It stands at the end now: those at the front go first.
        return found[1]


def _key(credentials: Credentials, withdrawn: Sequence[str]) -> bytes:
    # Both authorities, and not the cluster's name: its secrets may be others tomorrow.
    said = "\n".join((credentials.clients_ca_cert, credentials.ca_cert, *withdrawn))
    return hashlib.sha256(said.encode()).digest()
