"""The numbers of the latest changes, of any cluster and of one, for askers who come thousands of times a second.

SQLite is a file that this process has open: on a connection of its own the answer takes four microseconds, less than
the trip to a thread and back, so it is read on the event loop. That connection waits for nobody. When the file is not
readable at once (another process recovers it, or has locked it whole), the question takes the way of all others, on a
thread that may wait.

PostgreSQL is a conversation over the network. There the askers of one moment share a question, and each gets the answer
to one that was put *after* they asked: an older one might miss what they have just written.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from tidegate.store.queries import LATEST_CHANGE, REVISION


class Glance:
    """Reads the numbers from a SQLite database, at once or not at all."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(database, timeout=0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA query_only = ON")

    def read(self) -> int | None:
        """Return the number of the latest change; None when it cannot be read without waiting."""
        return self._number(LATEST_CHANGE)

    def revision(self, name: str) -> int | None:
        """Return the revision of one cluster; None when there is none, or it cannot be read without waiting."""
        return self._number(REVISION, name)

    def _number(self, query: str, *values: str) -> int | None:
        try:
            with closing(self._connection.execute(query, values)) as cursor:
                row: tuple[int] | None = cursor.fetchone()
        except sqlite3.Error:
            return None
        return row[0] if row is not None else None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class SharedQuestion:
    """Puts a question for many askers.

    Parameters
    ----------
    ask : callable
        Puts it, and returns the answer.
    """

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._under_way: asyncio.Task[int] | None = None
        self._next: asyncio.Task[int] | None = None

    async def answer(self) -> int:
        """Return the answer to a question that is put after this call."""
        if self._next is None:
            self._next = asyncio.create_task(self._put(self._under_way), name="shared-question")
            # Everyone who asked may be gone when it fails; that is no news then.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        # One who stops waiting must not take the answer from the others.
        return await asyncio.shield(self._next)

    async def _put(self, before: asyncio.Task[int] | None) -> int:
        if before is not None:
            await asyncio.wait([before])
        # From here on, who asks is too late for this one.
        self._under_way, self._next = self._next, None
        return await self._ask()
