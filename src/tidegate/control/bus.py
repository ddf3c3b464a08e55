"""Who wants to know that something changed, and tells them: notifications inside one control process.

A notification carries no news, only *that* there is some: whoever hears it reads the store. So it does not matter when
several become one, and nothing is lost as long as one listens first and reads then::

    with bus.listen(cluster=name) as listener:
        while not_what_i_wait_for(await store.load(name)):
            await listener.changed(timeout)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tidegate.model.cluster import Cluster


class Listener:
    """Remembers whether something changed since it was last asked, from the moment it is made."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        """Something changed."""
        self._changed.set()

    async def changed(self, timeout: float | None = None) -> bool:
        """Wait until something changed since the last call; False if nothing did within ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


class Bus:
    """Notifications by cluster and by owner."""

    def __init__(self) -> None:
        self._listeners: dict[tuple[str, str], set[Listener]] = {}
        self._callbacks: list[Callable[[str], None]] = []

    def publish(self, cluster: Cluster) -> None:
        """Tell everyone who listens that this cluster, or its events, changed. Call it after the commit."""
        for key in (("cluster", cluster.name), ("owner", cluster.owner)):
            for listener in self._listeners.get(key, ()):
                listener.notify()
        for callback in self._callbacks:
            callback(cluster.name)

    @contextmanager
    def listen(self, *, cluster: str | None = None, owner: str | None = None) -> Iterator[Listener]:
        """Listen to one cluster, or to all of one owner, while the context is open."""
        if (cluster is None) == (owner is None):
            raise ValueError("cannot listen: name either a cluster or an owner")
        key = ("cluster", cluster) if cluster is not None else ("owner", owner or "")
        listener = Listener()
        self._listeners.setdefault(key, set()).add(listener)
        try:
            yield listener
        finally:
            self._listeners[key].discard(listener)
            if not self._listeners[key]:
                del self._listeners[key]

    @contextmanager
    def subscribe(self, callback: Callable[[str], None]) -> Iterator[None]:
        """Call ``callback``, which must be quick, with the name of each cluster that changes, in this context."""
        self._callbacks.append(callback)
        try:
            yield
        finally:
            with suppress(ValueError):
                self._callbacks.remove(callback)
