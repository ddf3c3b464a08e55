"""Following events: what was recorded first, then what is recorded as it happens, without a gap between.

The events in the store are the truth; the bus only says that there are new ones. One listens first and reads then, so
an event that is recorded while one reads is either read or notified.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from tidegate.control.bus import EVERYTHING, Bus, of_cluster, owned_by, shared_with
from tidegate.control.catalogue import Catalogue, Whose
from tidegate.control.records import Records
from tidegate.model import event as events
from tidegate.model.cluster import Cluster
from tidegate.model.ends import foreseen
from tidegate.model.errors import NotVisible
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.line import placed, told
from tidegate.model.permissions import Action, may
from tidegate.model.principal import Principal
from tidegate.model.share import grantees_of
from tidegate.store.base import Store

PAGE = 500
"""Events that are read at a time."""
NAMES_AT_ONCE = 500
"""Of how many shared clusters events are asked for at a time; SQLite takes 32,766 parameters, old builds of it 999."""
_LAST = (events.STOPPED, events.FAILED)


def follow(
    records: Records,
    bus: Bus,
    catalogue: Catalogue,
    principal: Principal,
    *,
    cluster: str | None,
    whose: Whose,
    after: int | None,
) -> AsyncIterator[RecordedEvent]:
    """Yield events of one cluster until it has ended, or of those that a list shows. See ``Clusters.follow``."""
    if cluster is not None:
        return _follow_one(records, bus, principal, cluster, after or 0)
    return _follow_many(records.store, bus, catalogue, principal, whose, after)


async def _follow_one(
    records: Records, bus: Bus, principal: Principal, name: str, after: int
) -> AsyncIterator[RecordedEvent]:
    store, is_first, before, place = records.store, True, None, 0
    with bus.listen(of_cluster(name)) as listener:
        while True:
            # Before the events: if it has ended here, its last event is among those that are read next.
            record = await store.load(name)
            if record is None or not may(principal, Action.SEE, record):
                if is_first:
                    raise NotVisible(f"Cluster {name} not found")
                return  # a share that was withdrawn; whoever asks again is told that there is nothing
            outlook = _outlook(record)
            has_moved = not is_first and outlook != before
            is_first, before = False, outlook
            page = await store.events(clusters=[name], after=after, limit=PAGE)
            for event in page:
                after = event.id
                if is_told(event, principal, record):
                    yield event
                if event.event.kind in _LAST:
                    return
            if len(page) == PAGE:
                continue
            if record.state.ended:
                return
            if has_moved and not page:
                yield RecordedEvent(after, record.changed_at, name, record.owner, Event(events.LOOK, "Its end moved"))
            record = placed(record, records.places)
            if record.waiting is not None and record.waiting.place not in (0, place):
                place = record.waiting.place
                yield RecordedEvent(after, record.changed_at, name, record.owner, told(record))
            await listener.changed()


def _outlook(cluster: Cluster) -> tuple[str, float, bool] | None:
    """Return what is seen of the end of a cluster before it comes, which moves without an event."""
    ending = foreseen(cluster)
    return None if ending is None else (ending.code, ending.at, ending.code in cluster.activity.warned)


async def _follow_many(
    store: Store, bus: Bus, catalogue: Catalogue, principal: Principal, whose: Whose, after: int | None
) -> AsyncIterator[RecordedEvent]:
    with bus.listen(*_topics(principal, whose)) as listener:
        if after is None:
            after = await store.last_event_id()
        while True:
            page = await _read_page(store, catalogue, principal, whose, after)
            for event in page:
                after = event.id
                entry = await catalogue.get(event.cluster)
                if entry is not None and is_told(event, principal, entry.cluster):
                    yield event
            if len(page) < PAGE:
                await listener.changed()


def _topics(principal: Principal, whose: Whose) -> list[str]:
    """Return what to listen to for news of what a list shows."""
    if whose is Whose.ALL and principal.admin:
        return [EVERYTHING]
    mine = [owned_by(principal.name)] if whose is not Whose.SHARED else []
    shared = [shared_with(str(grantee)) for grantee in grantees_of(principal)] if whose is not Whose.MINE else []
    return mine + shared


async def _read_page(
    store: Store, catalogue: Catalogue, principal: Principal, whose: Whose, after: int
) -> list[RecordedEvent]:
    """Return the next events of what a list shows, at most ``PAGE``."""
    if whose is Whose.ALL and principal.admin:
        return await store.events(after=after, limit=PAGE)
    found: list[RecordedEvent] = []
    if whose is not Whose.SHARED:
        found = await store.events(owner=principal.name, after=after, limit=PAGE)
    if whose is not Whose.MINE:
        shared = [entry.cluster.name for entry in await catalogue.find(principal, whose=Whose.SHARED)]
        for names in _batches(shared):
            found += await store.events(clusters=names, after=after, limit=PAGE)
    return sorted(found, key=lambda event: event.id)[:PAGE]


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield names[start : start + NAMES_AT_ONCE]


def is_told(event: RecordedEvent, principal: Principal, cluster: Cluster) -> bool:
    """Whether ``principal`` reads this event of a cluster: with whom it is shared is not everyone's to know."""
    if event.event.kind not in events.OF_SHARING:
        return may(principal, Action.SEE, cluster)
    grantee = event.event.data.get("grantee")
    concerned = any(grantee == str(mine) for mine in grantees_of(principal))
    return may(principal, Action.SHARE, cluster) or (concerned and may(principal, Action.SEE, cluster))
