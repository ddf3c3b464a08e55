"""Warnings that are seen: at the line of the user's that asked for something, and each time.

Requests run in the event loop, in a notebook in another thread: there the stack leads to no line of the user's. So what
is to be said is kept until the caller's thread goes on.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tidegate.client.errors import GatewayWarning

OURS = frozenset({"tidegate", "distributed", "tornado", "asyncio", "contextlib"})
"""Packages whose lines are not what a warning should point at."""

# Python's default is to say the same words at the same line once; the second size that was clamped is news as well.
# Last in the list, so that what the user has chosen wins.
warnings.simplefilter("always", GatewayWarning, append=True)

_kept: ContextVar[list[str] | None] = ContextVar("kept", default=None)


def warn(message: str) -> None:
    """Say it at the line outside of this package that is being served, or keep it for ``at_the_caller``."""
    kept = _kept.get()
    if kept is None:
        _say(message)
    else:
        kept.append(message)


@contextmanager
def at_the_caller() -> Iterator[None]:
    """Keep what coroutines warn of that are started within (they inherit the context), and say it at the end."""
    kept: list[str] = []
    token = _kept.set(kept)
    try:
        yield
    finally:
        _kept.reset(token)
        for message in kept:
            _say(message)


def _say(message: str) -> None:
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(GatewayWarning(message), stacklevel=level)
