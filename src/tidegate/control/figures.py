"""Figures for monitoring that nobody counts as it happens: read from records and books when somebody asks for them.

What was used since the last time is what the books say more than then. They are read from the day of the last time on:
earlier days are complete, since what runs now is added up to the moment of each reading.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping

import prometheus_client

from tidegate.model.amounts import Resource
from tidegate.model.cluster import Cluster
from tidegate.model.limits import GATEWAY
from tidegate.model.line import is_person_waiting, is_waiting
from tidegate.model.usage import DAY_SECONDS, NOTHING, USE_FIELDS, Dimension, Line, Query, Use
from tidegate.store.base import Store
from tidegate.telemetry.metrics import MOST_NAMES, OTHERS, Metrics

STATES = ("queued", "requested", "starting", "running", "stopping")
WORKER_STATES = ("requested", "starting", "running", "stopping")


class Figures:
    """Reads the figures.

    Parameters
    ----------
    store : Store
    sink : Metrics
        Where they are kept, beside those that others count.
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, store: Store, sink: Metrics, clock: Callable[[], float]) -> None:
        self._store = store
        self._metrics = sink
        self._clock = clock
        self._users = _Growth("user", sink.user_use)
        self._groups = _Growth("group", sink.group_use)
        # Two who ask at once would count the same use twice.
        self._turn = asyncio.Lock()

    async def read(self) -> bytes:
        """Return all figures, as ``metrics.CONTENT_TYPE``."""
        async with self._turn:
            active = await self._store.active()
            self._tell_clusters(active)
            held = (await self._store.held([GATEWAY]))[GATEWAY]
            for resource in Resource:
                self._metrics.held.labels(resource.value).set(held.of(resource))
            await self._tell_use()
            return self._metrics.write()

    def _tell_clusters(self, active: list[Cluster]) -> None:
        clusters = Counter("queued" if cluster.queued else cluster.state.value for cluster in active)
        workers = Counter(worker.state.value for cluster in active for worker in cluster.workers)
        for state in STATES:
            self._metrics.clusters.labels(state).set(clusters[state])
        for state in WORKER_STATES:
            self._metrics.workers.labels(state).set(workers[state])
        people = sum(map(is_person_waiting, active))
        waits = [c.waiting.since for c in active if c.waiting is not None and is_waiting(c)]
        self._metrics.waiting.labels("asked").set(people)
        self._metrics.waiting.labels("load").set(len(waits) - people)
        self._metrics.longest_wait.set(max(0.0, self._clock() - min(waits)) if waits else 0.0)

    async def _tell_use(self) -> None:
        today = int(self._clock() // DAY_SECONDS)
        for growth, dimension in ((self._users, Dimension.USER), (self._groups, Dimension.GROUP)):
            since = min(today, today if growth.day is None else growth.day)
            books = await self._store.usage(Query(since, today, frozenset({dimension, Dimension.DAY})))
            growth.tell(books.lines, today)


class _Growth:
    """Counts by how much the books have grown."""

    def __init__(self, label: str, counters: Mapping[str, prometheus_client.Counter]) -> None:
        self._label = label
        self._counters = counters
        self._known: dict[tuple[str, int], Use] = {}
        self._names: set[str] = set()
        self.day: int | None = None
        """The day of the last reading."""

    def tell(self, lines: Collection[Line], today: int) -> None:
        """Count what is more than at the last reading; the first one tells from where it is counted."""
        for line in lines:
            name, day = str(getattr(line, self._label) or ""), line.day or 0
            before = self._known.get((name, day), NOTHING)
            self._known[name, day] = line.use
            if self.day is None:
                continue
            for figure in USE_FIELDS:
                more = getattr(line.use, figure) - getattr(before, figure)
                # Books are not taken back, but sums of fractions may differ in the last digit.
                self._counters[figure].labels(self._named(name)).inc(max(0.0, more))
        self.day = today
        self._known = {key: use for key, use in self._known.items() if key[1] >= today}

    def _named(self, name: str) -> str:
        """Return under which name it is counted: whoever has one keeps it, for a counter must not fall."""
        if name not in self._names and len(self._names) < MOST_NAMES:
            self._names.add(name)
        return name if name in self._names else OTHERS
