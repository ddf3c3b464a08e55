"""Who wants to know that something changed, and tells them: notifications inside one control process.

A notification carries no news, only *that* there is some: whoever hears it reads the store. So it does not matter when
several become one, and nothing is lost as long as one listens first and reads then::

    with bus.listen(of_cluster(name)) as listener:
        while not_what_i_wait_for(await store.load(name)):
            await listener.changed(timeout)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tidegate.model.cluster import Cluster

EVERYTHING = "everything"
"""The topic of all clusters."""


def of_cluster(name: str) -> str:
    """Return the topic of one cluster."""
    return f"cluster {name}"


def owned_by(owner: str) -> str:
    """Return the topic of one owner's clusters."""
    return f"owned by {owner}"


def shared_with(grantee: str) -> str:
    """Return the topic of the clusters that are shared with one grantee, in its written form."""
    return f"shared with {grantee}"


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
    """Notifications by cluster, and by who sees one: its owner, whom it is shared with, and who sees all."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._callbacks: list[Callable[[str], None]] = []

    def look_again(self, cluster: Cluster) -> None:
        """Tell those who listen to this cluster alone that it is shown otherwise, though nothing of it changed."""
        for listener in self._listeners.get(of_cluster(cluster.name), ()):
            listener.notify()

    def publish(self, cluster: Cluster) -> None:
        """Tell everyone who listens that this cluster, or its events, changed. Call it after the commit."""
        grantees = (str(share.grantee) for share in cluster.shares)
        for topic in (of_cluster(cluster.name), owned_by(cluster.owner), *map(shared_with, grantees), EVERYTHING):
            for listener in self._listeners.get(topic, ()):
                listener.notify()
        for callback in self._callbacks:
            callback(cluster.name)

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Listener]:
        """Listen to these topics, while the context is open."""
        listener = Listener()
        for topic in topics:
            self._listeners.setdefault(topic, set()).add(listener)
        try:
            yield listener
        finally:
            for topic in set(topics):
                self._listeners[topic].discard(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]

    @contextmanager
    def subscribe(self, callback: Callable[[str], None]) -> Iterator[None]:
        """Call ``callback``, which must be quick, with the name of each cluster that changes, in this context."""
        self._callbacks.append(callback)
        try:
            yield
        finally:
            with suppress(ValueError):
                self._callbacks.remove(callback)
