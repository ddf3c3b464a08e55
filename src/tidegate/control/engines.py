"""The backends as control calls them: with the deadline that the protocol promises, and no surprise.

``backends/base.py`` promises that every call returns or raises within ``CALL_TIMEOUT``. A backend that breaks the
promise must not take the loop with it, so it is held to it here; and whatever else it raises becomes ``BackendFailed``,
with the traceback in the log for the operator.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from tidegate.backends.base import CALL_TIMEOUT
from tidegate.model.errors import BackendFailed, TidegateError

log = logging.getLogger(__name__)

T = TypeVar("T")

GRACE = 5.0
"""Seconds beyond the promised deadline: the backend's own, better informed error should come first."""


async def ask(what: str, call: Awaitable[T], *, deadline: float = CALL_TIMEOUT + GRACE) -> T:
    """Await a call to a backend; ``what`` completes "cannot ..." when it fails in a way that nobody foresaw.

    Raises
    ------
    TidegateError
        What the backend raises on purpose, as it is; ``BackendFailed`` for everything else.
    """
    try:
        async with asyncio.timeout(deadline):
            return await call
    except TidegateError:
        raise
    except TimeoutError as error:
        raise BackendFailed(f"cannot {what}: the backend did not answer within {deadline:g} s") from error
    except Exception as error:
        log.exception("cannot %s: the backend raised something that it does not promise", what)
        raise BackendFailed(f"cannot {what}: the backend failed", detail=repr(error)) from error
