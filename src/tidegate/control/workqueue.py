"""A queue of names to look after: each at most once, and never two at work on the same one.

The shape is that of Kubernetes' ``client-go`` work queue. A name that is added while it is being worked on comes again
when that is done: what changed meanwhile is not missed. A name can be added for later; the earliest time counts.
"""

from __future__ import annotations

import asyncio
from collections import deque


class WorkQueue:
    """Names in the order in which they were first added."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._filled = asyncio.Event()

    def add(self, name: str) -> None:
        """Ask for ``name`` to be looked after, soon."""
        timer = self._later.pop(name, None)
        if timer is not None:
            timer.cancel()
        if name in self._queued:
            return
        self._queued.add(name)
        if name not in self._active:
            self._ready.append(name)
            self._filled.set()

    def add_later(self, name: str, delay: float) -> None:
        """Ask for ``name`` to be looked after in ``delay`` seconds, unless it is to be sooner anyway."""
        if name in self._queued:
            return
        if delay <= 0:
            self.add(name)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        timer = self._later.get(name)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._later[name] = loop.call_at(when, self.add, name)

    async def get(self) -> str:
        """Wait for a name; the caller must say ``done`` afterwards, whatever happens."""
        while not self._ready:
            self._filled.clear()
            await self._filled.wait()
        name = self._ready.popleft()
        self._queued.discard(name)
        self._active.add(name)
        return name

    def done(self, name: str) -> None:
        """The work on ``name`` is over; if it was added meanwhile, it is ready again."""
        self._active.discard(name)
        if name in self._queued:
            self._ready.append(name)
            self._filled.set()

    def close(self) -> None:
        """Forget what was asked for later."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
