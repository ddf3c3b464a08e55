"""Passing on what a backend hears to all who listen: its ``changes``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Listeners:
    """Those who want the names of clusters at which something changed."""

    def __init__(self) -> None:
        # By each one's queue, the names that wait in it: who tells faster than we listen must not fill our memory.
        self._queues: dict[asyncio.Queue[str], set[str]] = {}

    def tell(self, cluster: str) -> None:
        """Pass on that something changed at this cluster."""
        for queue, waiting in self._queues.items():
            if cluster not in waiting:
                waiting.add(cluster)
                queue.put_nowait(cluster)

    async def changes(self) -> AsyncIterator[str]:
        """Yield names as they come."""
        queue: asyncio.Queue[str] = asyncio.Queue()
        waiting = self._queues[queue] = set()
        try:
            while True:
                cluster = await queue.get()
                # Before it is looked at: what is told from now on may be missing from that look.
                waiting.discard(cluster)
                yield cluster
        finally:
            del self._queues[queue]
