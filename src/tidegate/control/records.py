"""Changing records: load, think, save over the same revision, tell the bus; again when someone else was quicker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from tidegate.control.bus import Bus
from tidegate.model.admission import Admission, Decide
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Busy
from tidegate.model.event import Event
from tidegate.model.limits import Ledger, Rules
from tidegate.model.line import numbered
from tidegate.model.policy import Capacity
from tidegate.store.base import Credentials, StaleRecord, Store

Alter = Callable[[Cluster], tuple[Cluster, Sequence[Event]]]
"""From a record to the record that it should become, and the events to go with it. It may be called several times."""

ATTEMPTS = 20
"""How often a change is tried. Each failure means that another change of the same cluster succeeded; twenty of them
within the milliseconds of one request do not happen to an honest cluster."""


class Records:
    """The only way in which control writes clusters: so every change reaches the bus, and what is to hold more is held
    against the limits.

    Parameters
    ----------
    store : Store
    bus : Bus
    rules : Rules, optional
        The limits of the configuration. Those of the run time are in the store.
    """

    def __init__(self, store: Store, bus: Bus, rules: Rules | None = None) -> None:
        self.store = store
        self.rules = rules or Rules()
        self.spent: Callable[[str, Collection[str]], str | None] = lambda owner, groups: None
        """Tells which budget is spent for which the clusters of an owner in some groups count, in words."""
        self.fair: Mapping[str, Mapping[str, Capacity]] = {}
        """For each cluster and group whose load asks for more than its fair size: that size, and why no more."""
        self.places: Mapping[str, int] = {}
        """The number in line of each cluster that waits, as the line was when it was looked at last."""
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

    async def insert(
        self, cluster: Cluster, credentials: Credentials, decide: Decide, *, key: str | None = None
    ) -> Cluster:
        """Record a new cluster as ``decide`` has it, or return the one of the same key. What it raises is raised."""
        recorded = await self.store.insert(cluster, credentials, [], key=key, admission=self._admission(decide))
        if recorded.name == cluster.name:
            self._bus.publish(recorded)
        return recorded

    def _admission(self, decide: Decide) -> Admission:
        return Admission(self.rules, lambda cluster, ledger: decide(cluster, self.informed(cluster, ledger)))

    def informed(self, cluster: Cluster, ledger: Ledger) -> Ledger:
        """Return a ledger with what the store does not know: which budget is spent, and what is fair."""
        spent = self.spent(cluster.owner, cluster.owner_groups)
        return replace(ledger, spent=spent, fair=self.fair.get(cluster.name, {}))

    def number(self, line: Sequence[Cluster]) -> None:
        """Take a line as it is now, and have those look again who follow a cluster whose place has changed."""
        before, self.places = self.places, numbered(line)
        for cluster in line:
            if before.get(cluster.name) != self.places.get(cluster.name):
                self._bus.look_again(cluster)

    async def admit(self, name: str, decide: Decide) -> Cluster | None:
        """Change a record by what ``decide`` makes of it and the ledger, in one transaction; None if there is none.

        Unlike ``change``, this may have the cluster hold more than before.
        """
        before: int | None = None

        def noting(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
            nonlocal before
            before = cluster.revision
            return decide(cluster, ledger)

        saved = await self.store.admit(name, self._admission(noting))
        if saved is not None and saved.revision != before:
            self._bus.publish(saved)
        return saved
