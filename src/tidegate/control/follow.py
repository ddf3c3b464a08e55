"""Following events: what was recorded first, then what is recorded as it happens, without a gap between.

The events in the store are the truth; the bus only says that there are new ones. One listens first and reads then, so
an event that is recorded while one reads is either read or notified.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from tidegate.control.bus import Bus
from tidegate.model import event as events
from tidegate.model.errors import NotVisible
from tidegate.model.event import RecordedEvent
from tidegate.model.permissions import Action, may
from tidegate.model.principal import Principal
from tidegate.store.base import Store

PAGE = 500
"""Events that are read at a time."""
_LAST = (events.STOPPED, events.FAILED)


def follow(
    store: Store, bus: Bus, principal: Principal, *, cluster: str | None, after: int | None
) -> AsyncIterator[RecordedEvent]:
    """Yield events of one cluster until it has ended, or of all clusters of ``principal``. See ``Clusters.follow``."""
    if cluster is not None:
        return _follow_one(store, bus, principal, cluster, after or 0)
    return _follow_all(store, bus, principal, after)


async def _follow_one(
    store: Store, bus: Bus, principal: Principal, name: str, after: int
) -> AsyncIterator[RecordedEvent]:
    with bus.listen(cluster=name) as listener:
        while True:
            # Before the events: if it has ended here, its last event is among those that are read next.
            record = await store.load(name)
            if record is None or not may(principal, Action.SEE, record):
                raise NotVisible(f"Cluster {name} not found")
            page = await store.events(cluster=name, after=after, limit=PAGE)
            for event in page:
                after = event.id
                yield event
                if event.event.kind in _LAST:
                    return
            if len(page) == PAGE:
                continue
            if record.state.ended:
                return
            await listener.changed()


async def _follow_all(store: Store, bus: Bus, principal: Principal, after: int | None) -> AsyncIterator[RecordedEvent]:
    with bus.listen(owner=principal.name) as listener:
        if after is None:
            after = await store.last_event_id()
        while True:
            page = await store.events(owner=principal.name, after=after, limit=PAGE)
            for event in page:
                after = event.id
                yield event
            if len(page) < PAGE:
                await listener.changed()
