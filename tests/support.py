"""What tests of every part use: waiting for a condition with a deadline, since nothing here sleeps and hopes."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

TIMEOUT = 30.0
"""Seconds after which a condition will not come true any more, on a machine with ten times as much to do as it can.
Who waits in vain has found a bug and can wait; so no test names less."""
ANY_TLS = ssl.create_default_context()
"""For requests in a loop. One without a context reads all authorities that this machine trusts, for 18 ms of processor:
a look every 20 ms would keep half a core from what it waits for."""
INTERVAL = 0.02
"""Seconds between two looks at a condition that nobody can notify us of."""


async def eventually(predicate: Callable[[], object], timeout: float = TIMEOUT, what: str = "") -> None:
    """Return when ``predicate()`` is true; fail, naming ``what``, when it is not within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout:g} s: {what or predicate}")
        await asyncio.sleep(INTERVAL)


def eventually_sync(predicate: Callable[[], object], timeout: float = TIMEOUT, what: str = "") -> None:
    """Do the same where there is no event loop."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true within {timeout:g} s: {what or predicate}")
        time.sleep(INTERVAL)
