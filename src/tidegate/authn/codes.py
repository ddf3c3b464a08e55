"""One-time codes: a link that logs a browser in without anything to paste.

Whoever starts the gateway reads such a link in the terminal. A code is good for a few minutes and for one use, so that
a link in a scroll-back or in a browser's history opens nothing. Codes live in memory as hashes; they end with the
process, which is right for what is printed at its start.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

from tidegate.model.principal import Principal

CODE_SECONDS = 600.0
"""Ten minutes: long enough to find the browser, short enough to be forgotten."""

CODE_LIMIT = 1000
"""How many codes are open at the most; the oldest goes first."""


class LoginCodes:
    """Makes and redeems one-time login codes.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._open: dict[bytes, tuple[Principal, float]] = {}

    def mint(self, principal: Principal) -> str:
        """Return a code that logs ``principal`` in, once."""
        code = secrets.token_urlsafe(32)
        if len(self._open) >= CODE_LIMIT:
            self._open.pop(next(iter(self._open)))
        self._open[_digest(code)] = (principal, self._clock() + CODE_SECONDS)
        return code

    def redeem(self, code: str) -> Principal | None:
        """Return whom the code logs in, and make it worthless; None when it is unknown, used or too old."""
        principal, until = self._open.pop(_digest(code), (None, 0.0))
        return principal if until > self._clock() else None


def _digest(code: str) -> bytes:
    # The table is searched by hash: how long a search takes tells nothing about a code.
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()
