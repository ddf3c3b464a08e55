"""The statements of the books, in which stands what was used: see ``model/usage.py`` for how to think about them.

A row is what one cluster used on one day. It refers to nothing: it is kept longer than the cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, delete, func, insert, or_, select, update

from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, WorkerState
from tidegate.model.prices import FREE, Prices
from tidegate.model.usage import (
    USE_FIELDS,
    Books,
    Dimension,
    Line,
    Query,
    Use,
    rate_of,
    running_lines,
    split,
    summarise,
)
from tidegate.store.tables import clusters, usage, workers

_ACTIVE = [state.value for state in ClusterState if not state.ended]
_USE = tuple(usage.c[name] for name in USE_FIELDS)


def book(connection: Connection, before: Cluster, after: Cluster, now: float) -> dict[str, Any]:
    """Book what a cluster used until now, if it goes on at another rate; return what that changes in its record."""
    rate = rate_of(before)
    if rate == rate_of(after):
        return {}
    since = connection.execute(select(clusters.c.metered_at).where(clusters.c.name == before.name)).scalar()
    if since is not None:
        for day, use in split(rate, since, now):
            _add(connection, before, day, use)
    return {"metered_at": now}


def _add(connection: Connection, cluster: Cluster, day: int, use: Use) -> None:
    """Add to the row of a day. Writers take turns, so nobody else makes it meanwhile."""
    this_row = (usage.c.cluster == cluster.name, usage.c.day == day)
    more = {name: usage.c[name] + getattr(use, name) for name in USE_FIELDS}
    if connection.execute(update(usage).where(*this_row).values(more)).rowcount == 0:
        values: dict[str, Any] = {name: getattr(use, name) for name in USE_FIELDS}
        values |= {"cluster": cluster.name, "day": day, "owner": cluster.owner, "alias": cluster.alias}
        connection.execute(insert(usage), {**values, "owner_groups": json.dumps(cluster.owner_groups)})


def read_books(connection: Connection, query: Query, now: float) -> Books:
    """Return what was used, with what is not booked yet."""
    booked = [_to_line(row) for row in connection.execute(_added_up(query))]
    return summarise([*booked, *_unbooked(connection, query, now)], query)


def _unbooked(connection: Connection, query: Query, now: float) -> Iterator[Line]:
    """Yield what was used since the last booking by the clusters asked for that have not ended.

    Of a record only that is read from which its rate follows, and its workers are counted where they lie: this is asked
    every half minute, of a thousand clusters with ten workers each.
    """
    c = clusters.c
    wanted: list[ColumnElement[bool]] = [c.state.in_(_ACTIVE), c.metered_at.is_not(None)]
    wanted += [c.owner == query.user] if query.user is not None else []
    wanted += [c.name == query.cluster] if query.cluster is not None else []
    let_go = and_(workers.c.state == WorkerState.STOPPING.value, workers.c.started_at.is_not(None))
    running = or_(workers.c.state == WorkerState.RUNNING.value, let_go)  # what model.usage.runs says
    per_cluster = select(workers.c.cluster, func.count().label("running")).join(clusters, c.name == workers.c.cluster)
    counted = connection.execute(per_cluster.where(running, *wanted).group_by(workers.c.cluster))
    counts = {row.cluster: row.running for row in counted}
    columns = (c.name, c.owner, c.alias, c.owner_groups, c.spec, c.prices, c.state, c.started_at, c.metered_at)
    for row in connection.execute(select(*columns).where(*wanted)):
        yield from running_lines(_metered(row), row.metered_at, now, counts.get(row.name, 0))


def _metered(row: Any) -> Cluster:
    """Return as much of a cluster as its rate needs, and the books tell."""
    return Cluster(
        row.name,
        row.owner,
        backend="",
        spec=ClusterSpec(**row.spec),
        created_at=0.0,
        state=ClusterState(row.state),
        started_at=row.started_at,
        alias=row.alias or "",
        owner_groups=tuple(row.owner_groups or ()),
        prices=FREE if row.prices is None else Prices(*row.prices),
    )


# -- the clock ---------------------------------------------------------------------------------------------------------


def follow_clock(connection: Connection, jump: float, now: float) -> None:
    """Have what runs count on as if the clock had always been right that was just set by ``jump`` seconds.

    Nothing was booked after this moment, whatever the clock said meanwhile, or while nobody looked.
    """
    moved = clusters.c.metered_at + jump
    is_off = clusters.c.metered_at.is_not(None) if jump else clusters.c.metered_at > now
    connection.execute(
        update(clusters)
        .where(clusters.c.state.in_(_ACTIVE), is_off)
        .values(metered_at=case((moved > now, now), else_=moved))
    )


def _added_up(query: Query) -> Select[Any]:
    """Return the statement that adds rows up as far as the query does not tell them apart."""
    c = usage.c
    apart: list[ColumnElement[Any]] = []
    if Dimension.DAY in query.by:
        apart.append(c.day)
    if {Dimension.USER, Dimension.CLUSTER} & query.by:
        apart.append(c.owner)
    if Dimension.CLUSTER in query.by:
        apart += [c.cluster, c.alias]
    if query.needs_groups:
        apart.append(c.owner_groups)
    sums = (func.sum(column).label(column.name) for column in _USE)
    statement = select(*apart, *sums).where(c.day >= query.since, c.day <= query.until).group_by(*apart)
    if query.user is not None:
        statement = statement.where(c.owner == query.user)
    if query.cluster is not None:
        statement = statement.where(c.cluster == query.cluster)
    return statement


def _to_line(row: Row[Any]) -> Line:
    found = row._mapping
    return Line(
        Use(*(found[name] or 0.0 for name in USE_FIELDS)),
        day=found.get("day"),
        user=found.get("owner"),
        cluster=found.get("cluster"),
        alias=found.get("alias", ""),
        groups=tuple(json.loads(found.get("owner_groups", "[]"))),
    )


def prune_usage(connection: Connection, before: int) -> int:
    """Delete the rows of the days before that one; return how many."""
    return connection.execute(delete(usage).where(usage.c.day < before)).rowcount
