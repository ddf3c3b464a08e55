"""A store in memory, for tests that need thousands of them. It passes the same contract suite as the real one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from tidegate.model import naming
from tidegate.model.admission import Admission
from tidegate.model.amounts import Amounts, Resource
from tidegate.model.audit import Entry, RecordedEntry, Wanted
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.limits import Ledger, Rule, Scope, Subject, holding_of, scopes_of
from tidegate.model.line import is_waiting
from tidegate.model.usage import Books, Line, Query, rate_of, running_lines, summarise
from tidegate.store.base import (
    AlreadyExists,
    Changes,
    ClientPair,
    Credentials,
    NotAdmitted,
    StaleRecord,
    Store,
    Token,
)


@dataclass
class Tables:
    """What lasts: several stores may stand on the same tables, as several processes on one database."""

    clusters: dict[str, Cluster] = field(default_factory=dict)
    credentials: dict[str, Credentials] = field(default_factory=dict)
    client_pairs: dict[tuple[str, str], ClientPair] = field(default_factory=dict)
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    events: list[RecordedEvent] = field(default_factory=list)
    tokens: dict[str, tuple[Token, str]] = field(default_factory=dict)
    last_event: int = 0
    changes: dict[str, int] = field(default_factory=dict)
    latest_change: int = 0
    pruned_before: float = 0.0
    audit: list[RecordedEntry] = field(default_factory=list)
    last_audit: int = 0
    metered_at: dict[str, float] = field(default_factory=dict)
    usage: list[Line] = field(default_factory=list)
    rules: dict[tuple[Subject, Resource], Rule] = field(default_factory=dict)


class MemoryStore(Store):
    """A ``Store`` on ``Tables``."""

    def __init__(self, tables: Tables, clock: Callable[[], float]) -> None:
        self.tables = tables
        self._clock = clock

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def insert(
        self,
        cluster: Cluster,
        credentials: Credentials,
        events: Sequence[Event],
        *,
        key: str | None = None,
        admission: Admission | None = None,
    ) -> Cluster:
        """Record a new cluster, or return the one that the same owner made with the same key."""
        tables = self.tables
        if key is not None and (cluster.owner, key) in tables.keys:
            return tables.clusters[tables.keys[cluster.owner, key]]
        if cluster.name in tables.clusters:
            raise AlreadyExists(cluster.name)
        for other in tables.clusters.values():
            if cluster.alias == other.alias and cluster.owner == other.owner and naming.has_alias(other):
                raise naming.taken(cluster.alias, other.name)
        if admission is not None:
            cluster, more = self._decide(cluster, admission)
            events = [*events, *more]
        self._put(cluster)
        tables.credentials[cluster.name] = credentials
        if key is not None:
            tables.keys[cluster.owner, key] = cluster.name
        self._record(cluster, events)
        return cluster

    async def load(self, name: str) -> Cluster | None:
        """Return the record, or None."""
        return self.tables.clusters.get(name)

    async def save(self, cluster: Cluster, events: Sequence[Event] = ()) -> Cluster:
        """Record a changed cluster over the revision that it was made from."""
        before = self.tables.clusters.get(cluster.name)
        if before is None or before.revision != cluster.revision:
            raise StaleRecord(cluster.name)
        if holding_of(cluster).exceeds(holding_of(before)):
            raise NotAdmitted(cluster.name)
        return self._write(cluster, events)

    def _write(self, cluster: Cluster, events: Sequence[Event]) -> Cluster:
        saved = replace(cluster, revision=cluster.revision + 1)
        self._book(self.tables.clusters[cluster.name], saved)
        self._put(saved)
        if saved.state.ended:
            self.tables.credentials.pop(cluster.name, None)
            for key in [key for key in self.tables.client_pairs if key[0] == cluster.name]:
                del self.tables.client_pairs[key]
        self._record(saved, events)
        return saved

    def _book(self, before: Cluster, after: Cluster) -> None:
        if rate_of(before) != rate_of(after):
            self.tables.usage += running_lines(before, self._metered_at(before.name), self._clock())
            self.tables.metered_at[before.name] = self._clock()

    def _metered_at(self, name: str) -> float | None:
        metered = self.tables.metered_at
        if name in metered:  # or the clock was set back
            metered[name] = min(metered[name], self._clock())
        return metered.get(name)

    async def usage(self, query: Query) -> Books:
        """Return what was used."""
        now = self._clock()
        running = [line for c in await self.active() for line in running_lines(c, self._metered_at(c.name), now)]
        return summarise([*self.tables.usage, *running], query)

    async def prune_usage(self, before: int) -> int:
        """Delete what was used on the days before that one."""
        old = {(line.cluster, line.day) for line in self.tables.usage if line.day is not None and line.day < before}
        self.tables.usage = [line for line in self.tables.usage if (line.cluster, line.day) not in old]
        return len(old)

    async def admit(self, name: str, admission: Admission) -> Cluster | None:
        """Change a cluster as ``admission`` decides."""
        before = self.tables.clusters.get(name)
        if before is None:
            return None
        after, events = self._decide(before, admission)
        return before if after == before and not events else self._write(after, events)

    def _decide(self, cluster: Cluster, admission: Admission) -> tuple[Cluster, Sequence[Event]]:
        limits = admission.rules.overlaid(self.tables.rules.values()).limits_of(cluster.owner, cluster.owner_groups)
        others = {limit.scope: self._held(limit.scope, cluster.name) for limit in limits}
        ledger = Ledger(limits, others, at=self._clock())
        if admission.rules.waits:
            line = [c for c in self.tables.clusters.values() if c.name != cluster.name and is_waiting(c)]
            blocked = frozenset(c.waiting.limit for c in line if c.waiting is not None)
            ledger = replace(ledger, blocked=blocked, line=sum(c.owner == cluster.owner for c in line))
        return admission.decide(cluster, ledger)

    def _held(self, scope: Scope, besides: str = "") -> Amounts:
        counted = [c for c in self.tables.clusters.values() if c.name != besides and not c.state.ended]
        return sum((holding_of(c) for c in counted if scope in scopes_of(c.owner, c.owner_groups)), Amounts())

    async def held(self, scopes: Collection[Scope]) -> dict[Scope, Amounts]:
        """Return what all clusters of each scope hold together."""
        return {scope: self._held(scope) for scope in scopes}

    async def groups_of_owners(self) -> dict[str, frozenset[str]]:
        """Return everybody who has a cluster that has not ended, with the groups for which these count."""
        found: dict[str, frozenset[str]] = {}
        for cluster in await self.active():
            found[cluster.owner] = found.get(cluster.owner, frozenset()) | set(cluster.owner_groups)
        return found

    async def rules(self) -> list[Rule]:
        """Return the limits that were set at run time."""
        return sorted(self.tables.rules.values(), key=lambda rule: (str(rule.subject), rule.resource.value))

    async def set_rule(self, rule: Rule) -> None:
        """Record a limit in the place of an earlier one."""
        self.tables.rules[rule.subject, rule.resource] = rule

    async def unset_rule(self, subject: Subject, resource: Resource) -> bool:
        """Delete such a limit; return whether it was there."""
        return self.tables.rules.pop((subject, resource), None) is not None

    def _put(self, cluster: Cluster) -> None:
        self.tables.latest_change += 1
        self.tables.changes[cluster.name] = self.tables.latest_change
        self.tables.clusters[cluster.name] = cluster

    def _record(self, cluster: Cluster, events: Sequence[Event]) -> None:
        for event in events:
            self.tables.last_event += 1
            entry = RecordedEvent(self.tables.last_event, self._clock(), cluster.name, cluster.owner, event)
            self.tables.events.append(entry)

    async def find(
        self,
        *,
        owner: str | None = None,
        states: Collection[ClusterState] | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Cluster]:
        """Return clusters, newest first."""
        found = [
            c
            for c in self.tables.clusters.values()
            if (owner is None or c.owner == owner)
            and (states is None or c.state in states)
            and (before is None or (c.created_at, c.name) < before)
        ]
        return sorted(found, key=lambda c: (c.created_at, c.name), reverse=True)[:limit]

    async def active(self) -> list[Cluster]:
        """Return every cluster that has not ended."""
        return [c for c in self.tables.clusters.values() if not c.state.ended]

    async def latest_change(self) -> int:
        """Return the number of the latest change."""
        return self.tables.latest_change

    async def changed_since(self, change: int) -> Changes:
        """Return the clusters that were written after the change of that number."""
        tables = self.tables
        found = [tables.clusters[name] for name, number in tables.changes.items() if number > change]
        return Changes(tables.latest_change, found, tables.pruned_before)

    async def snapshot(self, ended: int) -> Changes:
        """Return every cluster that has not ended, and the newest of those that have."""
        states = [state for state in ClusterState if state.ended]
        found = [*await self.active(), *await self.find(states=states, limit=ended)]
        return Changes(self.tables.latest_change, found, self.tables.pruned_before)

    async def credentials(self, name: str) -> Credentials | None:
        """Return the secrets of a cluster, or None."""
        return self.tables.credentials.get(name)

    async def add_client_pair(self, cluster: str, serial: str, pair: ClientPair) -> None:
        """Record certificate and key of somebody who uses a cluster by a share."""
        self.tables.client_pairs[cluster, serial] = pair

    async def client_pair(self, cluster: str, serial: str) -> ClientPair | None:
        """Return them, or None."""
        return self.tables.client_pairs.get((cluster, serial))

    async def find_by_agent_token(self, token: str) -> str | None:
        """Return the name of the cluster whose agent bears this token, or None."""
        return next((n for n, c in self.tables.credentials.items() if c.agent_token == token), None)

    async def events(
        self, *, owner: str | None = None, clusters: Collection[str] | None = None, after: int = 0, limit: int = 500
    ) -> list[RecordedEvent]:
        """Return recorded events in order, those with ``id > after``."""
        found = [
            e
            for e in self.tables.events
            if e.id > after and (owner is None or e.owner == owner) and (clusters is None or e.cluster in clusters)
        ]
        return found[:limit]

    async def last_events(self, cluster: str, limit: int) -> list[RecordedEvent]:
        """Return the newest events of a cluster, in order."""
        return [e for e in self.tables.events if e.cluster == cluster][-limit:]

    async def last_event_id(self) -> int:
        """Return the id of the newest event, 0 if there is none."""
        return self.tables.last_event

    async def prune(self, before: float) -> list[str]:
        """Delete clusters that ended before that time, with their events."""
        tables = self.tables
        old = [c.name for c in tables.clusters.values() if c.stopped_at is not None and c.stopped_at < before]
        for name in old:
            del tables.clusters[name]
            tables.changes.pop(name, None)  # tests lay records here that were never written
        if old:
            tables.latest_change += 1
            tables.pruned_before = max(tables.pruned_before, before)
        tables.keys = {key: name for key, name in tables.keys.items() if name not in old}
        tables.events = [e for e in tables.events if e.cluster not in old]
        return old

    async def add_token(self, token: Token, secret: str) -> None:
        """Record a token."""
        if token.id in self.tables.tokens or any(s == secret for _, s in self.tables.tokens.values()):
            raise AlreadyExists(token.id)
        self.tables.tokens[token.id] = (token, secret)

    async def find_token(self, secret: str) -> Token | None:
        """Return the token that this secret belongs to, or None."""
        return next((t for t, s in self.tables.tokens.values() if s == secret), None)

    async def list_tokens(self, principal: str) -> list[Token]:
        """Return the tokens of one principal, newest first."""
        mine = [t for t, _ in self.tables.tokens.values() if t.principal.name == principal]
        return sorted(mine, key=lambda t: t.created_at, reverse=True)

    async def note_use(self, token_id: str, at: float) -> None:
        """Record when a token was last used."""
        if token_id in self.tables.tokens:
            token, secret = self.tables.tokens[token_id]
            self.tables.tokens[token_id] = replace(token, used_at=max(token.used_at or at, at)), secret

    async def remove_token(self, token_id: str) -> bool:
        """Delete a token; return whether it was there."""
        return self.tables.tokens.pop(token_id, None) is not None

    async def add_audit(self, entries: Sequence[Entry]) -> None:
        """Append entries to the audit log."""
        for entry in entries:
            self.tables.last_audit += 1
            self.tables.audit.append(RecordedEntry(self.tables.last_audit, entry))

    async def find_audit(
        self, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int = 100
    ) -> list[RecordedEntry]:
        """Return entries of the audit log, newest first, or those after a number, oldest first."""
        found = [r for r in self.tables.audit if _is_wanted(r.entry, wanted)]
        if before is not None:
            found = [r for r in found if r.id < before]
        found = found[::-1] if after is None else [r for r in found if r.id > after]
        return found[:limit]

    async def prune_audit(self, before: float, limit: int) -> int:
        """Delete the oldest entries from before that time, at most ``limit``."""
        old = sorted((r for r in self.tables.audit if r.entry.at < before), key=lambda r: r.entry.at)[:limit]
        self.tables.audit = [r for r in self.tables.audit if r not in old]
        return len(old)


def _is_wanted(entry: Entry, wanted: Wanted) -> bool:
    return (
        wanted.user in ("", entry.principal, entry.actor)
        and wanted.cluster in ("", entry.cluster)
        and wanted.deed in (None, entry.deed)
        and wanted.outcome in (None, entry.outcome)
        and (wanted.since is None or entry.at >= wanted.since)
    )
