"""The protocol of the store, read first.

* A cluster is saved whole, and only over the revision that it was made from: ``save`` raises ``StaleRecord`` when
  someone else was quicker, and the caller loads again and thinks again.
* A cluster comes to hold more only through ``insert`` and ``admit``, which read the ledger and write in one
  transaction: however many ask at once, no limit is exceeded.
* What a cluster used is booked in the transaction that changes what runs of it (``model/usage.py``).
* What belongs together is one transaction: a cluster with its credentials and first event; a change with its events.
* Secrets are sealed before they reach a table (``store/sealing.py``); tokens are stored as hashes only.
* Every read returns values of ``model``: no row, session or query leaves this folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.model.admission import Admission
from tidegate.model.amounts import Amounts, Resource
from tidegate.model.audit import Entry, RecordedEntry, Wanted
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import TidegateError
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.limits import Rule, Scope, Subject
from tidegate.model.principal import Token as Token
from tidegate.model.usage import Books, Query


class StoreUnusable(TidegateError):
    """The store cannot be opened as it is; the message tells the operator what to do. Only ``start`` raises it."""

    code = "store-unusable"


class StaleRecord(Exception):
    """The record has changed since it was loaded."""


class NotAdmitted(Exception):
    """A change would have a cluster hold more, and nobody held it against the limits: a mistake in the program."""


class AlreadyExists(Exception):
    """There is a record under this name or key."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """The secrets of one cluster; they die with it. Everything is PEM or text; ``repr`` shows nothing.

    ``ca_key`` signs further leaves; ``agent_token`` is what the agent reports with; ``dashboard_secret`` is what the
    scheduler's and workers' own HTTP servers demand in a header; ``ticket_key`` signs dashboard tickets and links and
    never leaves control and the proxies. ``clients_ca_key`` signs the leaves of those who use the cluster by a share;
    it is empty in clusters that were made before there were shares. ``variables`` are for the environment of what runs.
    """

    ca_cert: str
    ca_key: str
    client_cert: str
    client_key: str
    scheduler_cert: str
    scheduler_key: str
    worker_cert: str
    worker_key: str
    agent_token: str
    dashboard_secret: str
    ticket_key: str
    clients_ca_cert: str = ""
    clients_ca_key: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class ClientPair:
    """A client's certificate and its key, as PEM; ``repr`` shows nothing."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Clusters that changed.

    Parameters
    ----------
    latest : int
        Number of the latest change that is among them.
    clusters : sequence of Cluster
        As they are now.
    pruned_before : float
        Time in seconds since the epoch: clusters that ended before it are gone from the record.
    """

    latest: int
    clusters: Sequence[Cluster]
    pruned_before: float


class Store(Protocol):
    """What the rest of the server asks of the database."""

    async def start(self) -> None:
        """Open the database, bring its schema up to date, and check that this version can read it.

        Raises
        ------
        StoreUnusable
            With what the operator has to do, when it cannot be used as it is.
        """

    async def close(self) -> None:
        """Close it."""

    async def insert(
        self,
        cluster: Cluster,
        credentials: Credentials,
        events: Sequence[Event],
        *,
        key: str | None = None,
        admission: Admission | None = None,
    ) -> Cluster:
        """Record a new cluster. With ``key`` (the request's idempotency key, unique per owner) a second insert of the
        same owner returns the first cluster, and changes nothing.

        With ``admission`` that decides what is recorded, from the cluster and the ledger as it is in this transaction;
        its events come after the others. What it raises is raised, and nothing is recorded.

        Raises
        ------
        NameTaken
            Another cluster of the owner has its alias (``model/naming.py``).
        """

    async def load(self, name: str) -> Cluster | None:
        """Return the record, or None."""

    async def save(self, cluster: Cluster, events: Sequence[Event] = ()) -> Cluster:
        """Record a changed cluster made from the record of the same ``revision``; return it with the next one.

        Raises
        ------
        StaleRecord
            When the record is no longer at that revision, or gone.
        NotAdmitted
            When the cluster would hold more than before (``limits.holding_of``): that is for ``admit``.
        """

    async def admit(self, name: str, admission: Admission) -> Cluster | None:
        """Change a cluster as ``admission`` decides from its record and the ledger, all in one transaction.

        Nothing is written when it changes nothing. What it raises is raised. None if there is no such cluster.
        """

    async def held(self, scopes: Collection[Scope]) -> dict[Scope, Amounts]:
        """Return what all clusters of each scope hold together."""

    async def groups_of_owners(self) -> dict[str, frozenset[str]]:
        """Return everybody who has a cluster that has not ended, with the groups for which these count."""

    async def rules(self) -> list[Rule]:
        """Return the limits that were set at run time, in order of their subjects."""

    async def set_rule(self, rule: Rule) -> None:
        """Record a limit in the place of an earlier one for the same subject and resource."""

    async def unset_rule(self, subject: Subject, resource: Resource) -> bool:
        """Delete such a limit; return whether it was there."""

    async def find(
        self,
        *,
        owner: str | None = None,
        states: Collection[ClusterState] | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Cluster]:
        """Return clusters, newest first (by ``created_at``, ``name``), at most ``limit``; ``before`` pages on."""

    async def active(self) -> list[Cluster]:
        """Return every cluster that has not ended."""

    async def latest_change(self) -> int:
        """Return the number of the latest change of any cluster, by whatever process.

        It tells of everything that was committed before the call, and costs so little that it can be asked with every
        request.
        """

    async def changed_since(self, change: int) -> Changes:
        """Return the clusters that were written after the change of that number."""

    async def snapshot(self, ended: int) -> Changes:
        """Return every cluster that has not ended, and the newest of those that have, at most ``ended``."""

    async def usage(self, query: Query) -> Books:
        """Return what was used, up to this moment; also by clusters that are no longer on record."""

    async def prune_usage(self, before: int) -> int:
        """Delete what was used on the days before that one; return how many rows."""

    async def credentials(self, name: str) -> Credentials | None:
        """Return the unsealed secrets of a cluster, or None (also after its end: they die with it)."""

    async def add_client_pair(self, cluster: str, serial: str, pair: ClientPair) -> None:
        """Record certificate and key of somebody who uses a cluster by a share; they die with its credentials."""

    async def client_pair(self, cluster: str, serial: str) -> ClientPair | None:
        """Return them, or None."""

    async def find_by_agent_token(self, token: str) -> str | None:
        """Return the name of the cluster whose agent bears this token, or None."""

    async def events(
        self, *, owner: str | None = None, clusters: Collection[str] | None = None, after: int = 0, limit: int = 500
    ) -> list[RecordedEvent]:
        """Return recorded events in order, those with ``id > after``: of one owner's clusters, or of these."""

    async def last_events(self, cluster: str, limit: int) -> list[RecordedEvent]:
        """Return the newest events of one cluster, at most ``limit``, in order."""

    async def last_event_id(self) -> int:
        """Return the id of the newest event, 0 if there is none."""

    async def prune(self, before: float) -> list[str]:
        """Delete clusters that ended before that time, with their events; return their names."""

    async def add_token(self, token: Token, secret: str) -> None:
        """Record a token under the hash of its secret."""

    async def find_token(self, secret: str) -> Token | None:
        """Return the token that this secret belongs to, expired or not, or None."""

    async def list_tokens(self, principal: str) -> list[Token]:
        """Return the tokens of one principal, newest first."""

    async def note_use(self, token_id: str, at: float) -> None:
        """Record when a token was last used; nothing happens if it is gone, or a later use is on record."""

    async def remove_token(self, token_id: str) -> bool:
        """Delete a token; return whether it was there."""

    async def add_audit(self, entries: Sequence[Entry]) -> None:
        """Append entries to the audit log, in order; all of them, or none."""

    async def find_audit(
        self, wanted: Wanted, *, before: int | None = None, after: int | None = None, limit: int = 100
    ) -> list[RecordedEntry]:
        """Return entries of the audit log, at most ``limit``: newest first, ``before`` (a number) pages on; or with
        ``after`` those with larger numbers, oldest first.
        """

    async def prune_audit(self, before: float, limit: int) -> int:
        """Delete the oldest entries from before that time, at most ``limit``; return how many."""
