"""The store on SQLite or PostgreSQL: the statements of its neighbours, each run as a transaction (``database.py``).

How to think about it
---------------------
* **Whether anything changed is asked with every request**, so that one question has a shorter way (``latest.py``).
* **The last value that was written of each active cluster is kept**, as what the next save is compared with. It is
  worth something only if its revision is the one that the caller started from; else the record is loaded. So it may be
  old or missing, never wrong: a revision of a cluster has one content.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cryptography.fernet import InvalidToken
from sqlalchemy import URL, Connection

from tidegate.model.admission import Admission
from tidegate.model.amounts import Amounts, Resource
from tidegate.model.audit import Entry, RecordedEntry, Wanted
from tidegate.model.clocks import Jumps
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import BackendFailed
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.limits import Rule, Scope, Subject, holding_of
from tidegate.model.usage import Books, Query
from tidegate.store import audit, ledger, queries, usage
from tidegate.store.base import Changes, ClientPair, Credentials, NotAdmitted, StaleRecord, Store, Token
from tidegate.store.database import BUSY_TIMEOUT, Database
from tidegate.store.engine import Mode, for_mode, our_words
from tidegate.store.latest import SharedQuestion

REMEMBERED = 2000
"""How many clusters' last written values are kept: some 2 kB each, and 200 bytes for each worker."""


class SqlStore(Database, Store):
    """A ``Store`` in a SQL database.

    Parameters
    ----------
    folder : Path
        The data folder: it holds the sealing key, and the SQLite database unless ``url`` says otherwise.
    url : str or sqlalchemy.URL, optional
        Where the database is: ``postgresql://USER@HOST/NAME``, or ``sqlite:////PATH``.
    clock : callable, optional
        Returns the time in seconds since the epoch; events are dated with it.
    steady : callable, optional
        Returns seconds that nobody sets; from it the store knows that the clock was set. By default it does not.
    busy_timeout : float, optional
        Seconds to wait for a database that another process holds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | URL | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        super().__init__(folder, url=url, clock=clock, busy_timeout=busy_timeout)
        self._jumps = Jumps(clock, steady)
        self._has_looked_at_clock = False
        self._last_written: dict[str, Cluster] = {}
        self._latest = SharedQuestion(lambda: self._read(queries.latest_change))

    # -- clusters ----------------------------------------------------------------------------------------------------

    async def insert(
        self,
        cluster: Cluster,
        credentials: Credentials,
        events: Sequence[Event],
        *,
        key: str | None = None,
        admission: Admission | None = None,
    ) -> Cluster:
        """Record a new cluster if it is admitted, or return the one that the same owner made with the same key."""
        agent_token_hash = _hash(credentials.agent_token)

        def write(connection: Connection) -> Cluster:
            # Within the transaction: a rotation of the keys that comes before it is known, one after it seals anew.
            sealed = self._sealer.seal(json.dumps(asdict(credentials)).encode())
            if key is not None and (first := queries.cluster_of_key(connection, cluster.owner, key)) is not None:
                return first
            queries.check_alias(connection, cluster.owner, cluster.alias)
            new, more = self._decide(connection, cluster, admission) if admission is not None else (cluster, ())
            queries.insert_cluster(connection, new, sealed, agent_token_hash)
            queries.insert_events(connection, new, [*events, *more], self._clock())
            if key is not None:
                queries.insert_key(connection, new.owner, key, new.name)
            return new

        def transaction() -> Cluster:
            with our_words(), for_mode(self._engine, Mode.DURABLE).begin() as connection:
                recorded = write(connection)
            if recorded.name == cluster.name:
                self._remember(recorded)
            return recorded

        return await self._run(self._writer, transaction)

    async def load(self, name: str) -> Cluster | None:
        """Return the record, or None."""
        # What this process wrote last mostly stands still. To see that takes microseconds here; to read it all, a
        # millisecond on a thread, and while a cluster starts or grows everybody reads it again and again.
        last = self._last_written.get(name)
        if last is not None and self._glance is not None and self._glance.revision(name) == last.revision:
            return last
        return await self._read(queries.load_cluster, name)

    async def save(self, cluster: Cluster, events: Sequence[Event] = ()) -> Cluster:
        """Record a changed cluster over the revision that it was made from."""
        # That a cluster is to stop must not be forgotten, it may cost money; all else is seen again after a power cut.
        mode = Mode.DURABLE if cluster.target is Target.STOPPED else Mode.WRITE
        saved = replace(cluster, revision=cluster.revision + 1)

        def write(connection: Connection) -> None:
            before = self._last_written.get(cluster.name)
            if before is None or before.revision != cluster.revision:
                before = queries.load_cluster(connection, cluster.name)
            if before is None or before.revision != cluster.revision:
                raise StaleRecord(cluster.name)
            if (held := holding_of(saved)).exceeds(holding_of(before)):
                raise NotAdmitted(f"cluster {cluster.name} would hold {held}, and {holding_of(before)} were admitted")
            queries.update_cluster(connection, before, saved, now := self._clock())
            queries.insert_events(connection, saved, events, now)

        def transaction() -> Cluster:
            self._follow_clock()
            with our_words(), for_mode(self._engine, mode).begin() as connection:
                write(connection)
            # After the commit, and still on the writer's thread.
            self._remember(saved)
            return saved

        return await self._run(self._writer, transaction)

    async def admit(self, name: str, admission: Admission) -> Cluster | None:
        """Change a cluster as ``admission`` decides, in one transaction."""

        def write(connection: Connection) -> Cluster | None:
            before = queries.load_cluster(connection, name)
            if before is None:
                return None
            after, events = self._decide(connection, before, admission)
            if after == before and not events:
                return before
            saved = replace(after, revision=before.revision + 1)
            queries.update_cluster(connection, before, saved, now := self._clock())
            queries.insert_events(connection, saved, events, now)
            return saved

        def transaction() -> Cluster | None:
            self._follow_clock()
            with our_words(), for_mode(self._engine, Mode.WRITE).begin() as connection:
                saved = write(connection)
            if saved is not None:
                self._remember(saved)
            return saved

        return await self._run(self._writer, transaction)

    def _decide(
        self, connection: Connection, cluster: Cluster, admission: Admission
    ) -> tuple[Cluster, Sequence[Event]]:
        return admission.decide(cluster, ledger.read_ledger(connection, admission.rules, cluster, self._clock()))

    def _remember(self, saved: Cluster) -> None:
        self._last_written.pop(saved.name, None)  # so that what was written last stands last
        if not saved.state.ended:
            self._last_written[saved.name] = saved
        if len(self._last_written) > REMEMBERED:
            del self._last_written[next(iter(self._last_written))]

    async def find(
        self,
        *,
        owner: str | None = None,
        states: Collection[ClusterState] | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Cluster]:
        """Return clusters, newest first."""
        return await self._read(queries.find_clusters, owner, states, before, limit)

    async def active(self) -> list[Cluster]:
        """Return every cluster that has not ended."""
        return await self._read(queries.active_clusters)

    async def latest_change(self) -> int:
        """Return the number of the latest change of any cluster, by whatever process."""
        number = self._glance.read() if self._glance is not None else None
        return number if number is not None else await self._latest.answer()

    async def changed_since(self, change: int) -> Changes:
        """Return the clusters that were written after the change of that number."""
        return await self._read(queries.changed_clusters, change)

    async def snapshot(self, ended: int) -> Changes:
        """Return every cluster that has not ended, and the newest of those that have."""
        return await self._read(queries.snapshot_clusters, ended)

    async def prune(self, before: float) -> list[str]:
        """Delete clusters that ended before that time, with their events."""
        return await self._write(Mode.WRITE, queries.prune_clusters, before)

    # -- use -----------------------------------------------------------------------------------------------------------

    async def usage(self, query: Query) -> Books:
        """Return what was used."""
        if self._has_to_follow_clock:
            await self._run(self._writer, self._follow_clock)
        return await self._read(usage.read_books, query, self._clock())

    @property
    def _has_to_follow_clock(self) -> bool:
        return not self._has_looked_at_clock or self._jumps.look() != 0

    def _follow_clock(self) -> None:
        """If the clock was set, see that nobody is billed for it. On the writer's thread, before anything is booked."""
        if not self._has_to_follow_clock:
            return
        jump = self._jumps.look()
        with our_words(), for_mode(self._engine, Mode.WRITE).begin() as connection:
            usage.follow_clock(connection, jump, self._clock())
        # After the commit: who dies in between has forgotten what the clock was.
        self._jumps.accept(jump)
        self._has_looked_at_clock = True

    async def prune_usage(self, before: int) -> int:
        """Delete what was used on the days before that one."""
        return await self._write(Mode.WRITE, usage.prune_usage, before)

    # -- limits --------------------------------------------------------------------------------------------------------

    async def held(self, scopes: Collection[Scope]) -> dict[Scope, Amounts]:
        """Return what all clusters of each scope hold together."""
        return await self._read(ledger.held_within, scopes)

    async def groups_of_owners(self) -> dict[str, frozenset[str]]:
        """Return everybody who has a cluster that has not ended, with the groups for which these count."""
        return await self._read(ledger.groups_of_owners)

    async def rules(self) -> list[Rule]:
        """Return the limits that were set at run time."""
        return await self._read(ledger.select_rules)

    async def set_rule(self, rule: Rule) -> None:
        """Record a limit in the place of an earlier one."""
        await self._write(Mode.DURABLE, ledger.write_rule, rule)

    async def unset_rule(self, subject: Subject, resource: Resource) -> bool:
        """Delete such a limit; return whether it was there."""
        return await self._write(Mode.DURABLE, ledger.delete_rule, subject, resource)

    # -- credentials -------------------------------------------------------------------------------------------------

    async def credentials(self, name: str) -> Credentials | None:
        """Return the unsealed secrets of a cluster, or None."""
        sealed = await self._read(queries.sealed_credentials, name)
        return None if sealed is None else Credentials(**self._unseal(sealed, name))

    def _unseal(self, sealed: bytes, name: str) -> dict[str, Any]:
        try:
            secrets: dict[str, Any] = json.loads(self._sealer.unseal(sealed))
            return secrets
        except InvalidToken as error:
            raise BackendFailed(
                f"cannot read the secrets of cluster {name!r}. Tell the gateway's administrator",
                detail="they were sealed with a key that is not in this gateway's seal.key",
                permanent=True,
            ) from error

    async def add_client_pair(self, cluster: str, serial: str, pair: ClientPair) -> None:
        """Record certificate and key of somebody who uses a cluster by a share."""

        def write(connection: Connection) -> None:
            sealed = self._sealer.seal(json.dumps(asdict(pair)).encode())
            queries.insert_client_pair(connection, cluster, serial, sealed)

        await self._write(Mode.DURABLE, write)

    async def client_pair(self, cluster: str, serial: str) -> ClientPair | None:
        """Return them, or None."""
        sealed = await self._read(queries.sealed_client_pair, cluster, serial)
        return None if sealed is None else ClientPair(**self._unseal(sealed, cluster))

    async def find_by_agent_token(self, token: str) -> str | None:
        """Return the name of the cluster whose agent bears this token, or None."""
        return await self._read(queries.cluster_of_agent, _hash(token))

    # -- events ------------------------------------------------------------------------------------------------------

    async def events(
        self, *, owner: str | None = None, clusters: Collection[str] | None = None, after: int = 0, limit: int = 500
    ) -> list[RecordedEvent]:
        """Return recorded events in order, those with ``id > after``."""
        return await self._read(queries.select_events, owner, clusters, after, limit)

    async def last_events(self, cluster: str, limit: int) -> list[RecordedEvent]:
        """Return the newest events of one cluster, in order."""
        return await self._read(queries.select_last_events, cluster, limit)

    async def last_event_id(self) -> int:
        """Return the id of the newest event, 0 if there is none."""
        return await self._read(queries.newest_event_id)

    # -- tokens ------------------------------------------------------------------------------------------------------

    async def add_token(self, token: Token, secret: str) -> None:
        """Record a token under the hash of its secret."""
        await self._write(Mode.DURABLE, queries.insert_token, token, _hash(secret))

    async def find_token(self, secret: str) -> Token | None:
        """Return the token that this secret belongs to, expired or not, or None."""
        return await self._read(queries.token_of_hash, _hash(secret))

    async def list_tokens(self, principal: str) -> list[Token]:
        """Return the tokens of one principal, newest first."""
        return await self._read(queries.tokens_of, principal)

    async def note_use(self, token_id: str, at: float) -> None:
        """Record when a token was last used; nothing happens if it is gone, or a later use is on record."""
        await self._write(Mode.WRITE, queries.note_use, token_id, at)

    async def remove_token(self, token_id: str) -> bool:
        """Delete a token; return whether it was there."""
        return await self._write(Mode.DURABLE, queries.delete_token, token_id)

    # -- the audit log -----------------------------------------------------------------------------------------------

    async def add_audit(self, entries: Sequence[Entry]) -> None:
        """Append entries to the audit log, in order."""
        # Not durable: a loss of power may take the last moment of the log, and everybody would wait for the disk.
        if entries:
            await self._write(Mode.WRITE, audit.insert_audit, entries)

    async def find_audit(
        self, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int = 100
    ) -> list[RecordedEntry]:
        """Return entries of the audit log, newest first, or those after a number, oldest first."""
        return await self._read(audit.select_audit, wanted, before, after, limit)

    async def prune_audit(self, before: float, limit: int) -> int:
        """Delete the oldest entries from before that time, at most ``limit``."""
        return await self._write(Mode.WRITE, audit.prune_audit, before, limit)


def _hash(secret: str) -> str:
    # "surrogatepass": a header may hold any bytes, and a wrong token is wrong, not an error.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
