"""Changing records: load, think, save over the same revision, tell the bus; again when someone else was quicker."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate.control.bus import Bus
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Busy
from tidegate.model.event import Event
from tidegate.store.base import StaleRecord, Store

Alter = Callable[[Cluster], tuple[Cluster, Sequence[Event]]]
"""From a record to the record that it should become, and the events to go with it. It may be called several times."""

ATTEMPTS = 20
"""How often a change is tried. Each failure means that another change of the same cluster succeeded; twenty of them
within the milliseconds of one request do not happen to an honest cluster."""


class Records:
    """The only way in which control writes clusters: so every change reaches the bus."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self.store = store
        self._bus = bus

    async def load(self, name: str) -> Cluster | None:
        """Return the record, or None."""
        return await self.store.load(name)

    async def save(self, cluster: Cluster, events: Sequence[Event] = ()) -> Cluster:
        """Save over the revision that ``cluster`` was made from, or raise ``StaleRecord``."""
        saved = await self.store.save(cluster, events)
        self._bus.publish(saved)
        return saved

    async def change(self, name: str, alter: Alter) -> Cluster | None:
        """Apply ``alter`` to the newest record until it is saved; return what is recorded then, None if there is none.

        Nothing is written when ``alter`` changes nothing.
        """
        for _ in range(ATTEMPTS):
            before = await self.store.load(name)
            if before is None:
                return None
            after, events = alter(before)
            if after == before and not events:
                return before
            try:
                return await self.save(after, events)
            except StaleRecord:
                continue
        raise Busy(f"cannot change cluster {name} now: it is being changed by others. Try again in a moment")
