"""Passing on what a backend hears to all who listen: its ``changes``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Listeners:
    """Those who want the names of clusters at which something changed."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[str]] = set()

    def tell(self, cluster: str) -> None:
        """Pass on that something changed at this cluster."""
        for queue in self._queues:
            queue.put_nowait(cluster)

    async def changes(self) -> AsyncIterator[str]:
        """Yield names as they come."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
