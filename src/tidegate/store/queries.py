"""The statements: plain functions on an open connection, each within the transaction of its caller.

They know nothing of threads, sealing or our errors; ``sql.py`` puts those around them. A cluster is written as the
difference from the value that it was made from: one worker that changes is one row, though a hundred stand beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Row, Select, Table, bindparam, delete, func, insert, or_, select, tuple_, update

from tidegate.model import naming
from tidegate.model.cluster import Cluster, ClusterState, Target, Worker, WorkerGroup
from tidegate.model.event import Event, RecordedEvent
from tidegate.store import ledger, rows, tables, usage
from tidegate.store.base import Changes, StaleRecord, Token

NAMES_AT_ONCE = 500
"""How many clusters' workers one query asks for; SQLite takes 32,766 parameters, old builds of it 999."""

LARGEST_ID = 2**63 - 1
"""What a column holds. A client may well ask for events after 10**30: there are none."""

_ENDED_STATES = [state for state in ClusterState if state.ended]
ENDED = [state.value for state in _ENDED_STATES]
ACTIVE = [state.value for state in ClusterState if not state.ended]


# -- clusters --------------------------------------------------------------------------------------------------------


def insert_cluster(connection: Connection, cluster: Cluster, sealed: bytes, agent_token_hash: str) -> None:
    """Write a new cluster with its groups, workers and credentials."""
    values = rows.cluster_values(cluster) | {"change": _next_change(connection)}
    connection.execute(insert(tables.clusters), values)
    _insert_parts(connection, tables.worker_groups, cluster.name, map(rows.group_values, cluster.groups))
    _insert_parts(connection, tables.workers, cluster.name, map(rows.worker_values, cluster.workers))
    ledger.insert_holding(connection, cluster)
    connection.execute(
        insert(tables.credentials),
        {"cluster": cluster.name, "sealed": sealed, "agent_token_hash": agent_token_hash},
    )


def update_cluster(connection: Connection, before: Cluster, after: Cluster, now: float) -> None:
    """Write what differs between two values of one cluster, if the record is still at the revision of ``before``."""
    old = rows.cluster_values(before)
    changed = {k: v for k, v in rows.cluster_values(after).items() if v != old[k]}
    changed |= usage.book(connection, before, after, now)
    changed |= {"revision": before.revision + 1, "change": _next_change(connection)}
    table = tables.clusters
    done = connection.execute(
        update(table).where(table.c.name == before.name, table.c.revision == before.revision).values(changed)
    )
    if done.rowcount != 1:
        raise StaleRecord(before.name)
    if before.groups != after.groups:
        _update_parts(connection, tables.worker_groups, after.name, before.groups, after.groups, rows.group_values)
    if before.workers != after.workers:
        _update_parts(connection, tables.workers, after.name, before.workers, after.workers, rows.worker_values)
    ledger.update_holding(connection, before, after)
    if after.state.ended:
        for secrets in (tables.credentials, tables.client_pairs):
            connection.execute(delete(secrets).where(secrets.c.cluster == after.name))


def load_cluster(connection: Connection, name: str) -> Cluster | None:
    """Return one cluster, or None."""
    found = _load_clusters(connection, select(tables.clusters).where(tables.clusters.c.name == name))
    return found[0] if found else None


def find_clusters(
    connection: Connection,
    owner: str | None,
    states: Collection[ClusterState] | None,
    before: tuple[float, str] | None,
    limit: int,
) -> list[Cluster]:
    """Return a page of clusters, newest first."""
    c = tables.clusters.c
    query = select(tables.clusters).order_by(c.created_at.desc(), c.name.desc()).limit(max(0, min(limit, LARGEST_ID)))
    if owner is not None:
        query = query.where(c.owner == owner)
    if states is not None:
        query = query.where(c.state.in_([state.value for state in states]))
    if before is not None:
        query = query.where(tuple_(c.created_at, c.name) < before)
    return _load_clusters(connection, query)


def check_alias(connection: Connection, owner: str, alias: str) -> None:
    """Raise ``NameTaken`` if a cluster of this owner has this alias. Writers take turns, so it stays as it is found."""
    if not alias:
        return
    c = tables.clusters.c
    has_it = (c.owner == owner, c.alias == alias, c.state.in_(ACTIVE), c.target == Target.RUNNING.value)
    holder = connection.execute(select(c.name).where(*has_it)).scalar()
    if holder is not None:
        raise naming.taken(alias, holder)


def active_clusters(connection: Connection) -> list[Cluster]:
    """Return every cluster that has not ended, oldest first."""
    c = tables.clusters.c
    query = select(tables.clusters).where(c.state.in_(ACTIVE)).order_by(c.created_at, c.name)
    return _load_clusters(connection, query)


def prune_clusters(connection: Connection, before: float) -> list[str]:
    """Delete the clusters that ended before that time, with all that belongs to them."""
    c = tables.clusters.c
    ended_at = func.coalesce(c.stopped_at, c.changed_at)
    gone = delete(tables.clusters).where(c.state.in_(ENDED), ended_at < before).returning(c.name)
    names = list(connection.execute(gone).scalars())
    if names:
        _next_change(connection)
        connection.execute(
            update(tables.changes).where(tables.changes.c.pruned_before < before).values(pruned_before=before)
        )
    return names


# -- changes ---------------------------------------------------------------------------------------------------------

LATEST_CHANGE = "SELECT latest FROM changes"
REVISION = "SELECT revision FROM clusters WHERE name = ?"

_COUNT_ON = update(tables.changes).values(latest=tables.changes.c.latest + 1).returning(tables.changes.c.latest)


def _next_change(connection: Connection) -> int:
    """Count a change. Writers take turns, so the numbers ascend in the order of commit."""
    number: int = connection.execute(_COUNT_ON).scalar_one()
    return number


def latest_change(connection: Connection) -> int:
    """Return the number of the latest change."""
    number: int = connection.exec_driver_sql(LATEST_CHANGE).scalar_one()
    return number


def changed_clusters(connection: Connection, change: int) -> Changes:
    """Return the clusters that were written after the change of that number."""
    c = tables.clusters.c
    return _as_changes(connection, _load_clusters(connection, select(tables.clusters).where(c.change > change)))


def snapshot_clusters(connection: Connection, ended: int) -> Changes:
    """Return every cluster that has not ended, and the newest ``ended`` of those that have."""
    return _as_changes(
        connection, [*active_clusters(connection), *find_clusters(connection, None, _ENDED_STATES, None, ended)]
    )


def _as_changes(connection: Connection, found: Sequence[Cluster]) -> Changes:
    latest, pruned_before = connection.execute(select(tables.changes.c.latest, tables.changes.c.pruned_before)).one()
    return Changes(latest, found, pruned_before)


def _load_clusters(connection: Connection, query: Select[Any]) -> list[Cluster]:
    """Run a query for clusters and complete them: three queries in all, not two more for each."""
    found = connection.execute(query).all()
    groups: dict[str, list[WorkerGroup]] = defaultdict(list)
    workers: dict[str, list[Worker]] = defaultdict(list)
    for start in range(0, len(found), NAMES_AT_ONCE):
        names = [row.name for row in found[start : start + NAMES_AT_ONCE]]
        for row in _select_parts(connection, tables.worker_groups, names):
            groups[row.cluster].append(rows.to_group(row))
        for row in _select_parts(connection, tables.workers, names):
            workers[row.cluster].append(rows.to_worker(row))
    return [rows.to_cluster(row, groups[row.name], workers[row.name]) for row in found]


# -- the parts of a cluster: groups and workers ----------------------------------------------------------------------


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Part = TypeVar("Part", bound=_Named)


def _select_parts(connection: Connection, table: Table, names: Sequence[str]) -> Sequence[Row[Any]]:
    return connection.execute(select(table).where(table.c.cluster.in_(names)).order_by(table.c.id)).all()


def _insert_parts(connection: Connection, table: Table, cluster: str, values: Iterable[rows.Values]) -> None:
    if new := [{"cluster": cluster, **v} for v in values]:
        connection.execute(insert(table), new)


def _update_parts(
    connection: Connection,
    table: Table,
    cluster: str,
    before: Sequence[Part],
    after: Sequence[Part],
    values: Callable[[Part], rows.Values],
) -> None:
    """Write the difference between two tuples of parts; their order is the order of their ids."""
    old, new = {part.name: part for part in before}, {part.name: part for part in after}
    kept = [name for name in old if name in new]
    if [*kept, *(name for name in new if name not in old)] != list(new):
        # Not merely shortened and lengthened at the end: only new ids can tell the new order.
        connection.execute(delete(table).where(table.c.cluster == cluster))
        _insert_parts(connection, table, cluster, map(values, after))
        return
    this_part = (table.c.cluster == cluster, table.c.name == bindparam("part"))
    if gone := [{"part": name} for name in old if name not in new]:
        connection.execute(delete(table).where(*this_part), gone)
    if changed := [{"part": name, **values(new[name])} for name in kept if old[name] != new[name]]:
        connection.execute(update(table).where(*this_part), changed)
    _insert_parts(connection, table, cluster, (values(new[name]) for name in new if name not in old))


# -- credentials and keys --------------------------------------------------------------------------------------------


def sealed_credentials(connection: Connection, name: str) -> bytes | None:
    """Return the sealed secrets of a cluster, or None."""
    c = tables.credentials.c
    return connection.execute(select(c.sealed).where(c.cluster == name)).scalar()


def insert_client_pair(connection: Connection, cluster: str, serial: str, sealed: bytes) -> None:
    """Write what one client connects with."""
    connection.execute(insert(tables.client_pairs), {"cluster": cluster, "serial": serial, "sealed": sealed})


def sealed_client_pair(connection: Connection, cluster: str, serial: str) -> bytes | None:
    """Return what one client connects with, sealed, or None."""
    c = tables.client_pairs.c
    return connection.execute(select(c.sealed).where(c.cluster == cluster, c.serial == serial)).scalar()


def all_sealed(connection: Connection) -> list[bytes]:
    """Return everything that was sealed."""
    columns = (tables.credentials.c.sealed, tables.client_pairs.c.sealed)
    return [sealed for column in columns for sealed in connection.execute(select(column)).scalars()]


def cluster_of_agent(connection: Connection, token_hash: str) -> str | None:
    """Return the cluster whose agent's token has this hash, or None."""
    c = tables.credentials.c
    return connection.execute(select(c.cluster).where(c.agent_token_hash == token_hash)).scalar()


def cluster_of_key(connection: Connection, owner: str, key: str) -> Cluster | None:
    """Return the cluster that this owner made with this idempotency key, or None."""
    c = tables.idempotency_keys.c
    name = connection.execute(select(c.cluster).where(c.owner == owner, c.key == key)).scalar()
    return None if name is None else load_cluster(connection, name)


def insert_key(connection: Connection, owner: str, key: str, cluster: str) -> None:
    """Record the idempotency key of a cluster."""
    connection.execute(insert(tables.idempotency_keys), {"owner": owner, "key": key, "cluster": cluster})


# -- events ----------------------------------------------------------------------------------------------------------


def insert_events(connection: Connection, cluster: Cluster, happened: Sequence[Event], at: float) -> None:
    """Append events to the history of a cluster, in order."""
    if happened:
        connection.execute(insert(tables.events), [rows.event_values(event, cluster, at) for event in happened])


def select_events(
    connection: Connection, owner: str | None, clusters: Collection[str] | None, after: int, limit: int
) -> list[RecordedEvent]:
    """Return a page of events in order."""
    c = tables.events.c
    query = select(tables.events).where(c.id > min(after, LARGEST_ID)).order_by(c.id)
    if owner is not None:
        query = query.where(c.owner == owner)
    if clusters is not None:
        query = query.where(c.cluster.in_(clusters))
    return [rows.to_event(row) for row in connection.execute(query.limit(max(0, min(limit, LARGEST_ID))))]


def select_last_events(connection: Connection, cluster: str, limit: int) -> list[RecordedEvent]:
    """Return the newest events of one cluster, in order."""
    c = tables.events.c
    query = select(tables.events).where(c.cluster == cluster).order_by(c.id.desc()).limit(limit)
    return [rows.to_event(row) for row in reversed(connection.execute(query).all())]


def newest_event_id(connection: Connection) -> int:
    """Return the id of the newest event, 0 if there is none."""
    return connection.execute(select(func.max(tables.events.c.id))).scalar() or 0


# -- tokens ----------------------------------------------------------------------------------------------------------


def insert_token(connection: Connection, token: Token, secret_hash: str) -> None:
    """Write a new token."""
    connection.execute(insert(tables.tokens), rows.token_values(token, secret_hash))


def token_of_hash(connection: Connection, secret_hash: str) -> Token | None:
    """Return the token whose secret has this hash, or None."""
    row = connection.execute(select(tables.tokens).where(tables.tokens.c.secret_hash == secret_hash)).first()
    return None if row is None else rows.to_token(row)


def tokens_of(connection: Connection, principal: str) -> list[Token]:
    """Return the tokens of a principal, newest first."""
    c = tables.tokens.c
    query = select(tables.tokens).where(c.principal == principal).order_by(c.created_at.desc(), c.id.desc())
    return [rows.to_token(row) for row in connection.execute(query)]


def note_use(connection: Connection, token_id: str, at: float) -> None:
    """Write when a token was used, unless a later use is on record."""
    c = tables.tokens.c
    is_later = or_(c.used_at.is_(None), c.used_at < at)
    connection.execute(update(tables.tokens).where(c.id == token_id, is_later).values(used_at=at))


def delete_token(connection: Connection, token_id: str) -> bool:
    """Delete a token; return whether it was there."""
    return connection.execute(delete(tables.tokens).where(tables.tokens.c.id == token_id)).rowcount == 1
