"""What is held, and the rules of the run time: statements, each within the transaction of its caller.

``holdings`` has one row for each cluster that has not ended, written in the transaction that writes the cluster; it
is ``limits.holding_of`` of the record, no more and no less. A sum over it costs a few microseconds for each cluster,
and only those sums are made that a limit is on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Cluster
from tidegate.model.limits import Ledger, Rule, Rules, Scope, ScopeKind, Subject, holding_of
from tidegate.model.line import waits_for
from tidegate.store import tables

_h = tables.holdings.c
_AMOUNTS = (_h.clusters, _h.workers, _h.cores, _h.memory, _h.gpus)
_SUMS = [func.coalesce(func.sum(column), 0) for column in _AMOUNTS]


def insert_holding(connection: Connection, cluster: Cluster) -> None:
    """Count a new cluster, for its owner and each of their groups."""
    if cluster.state.ended:
        return
    connection.execute(insert(tables.holdings), {"cluster": cluster.name, "owner": cluster.owner, **_values(cluster)})
    if cluster.owner_groups:
        groups = [{"cluster": cluster.name, "name": group} for group in cluster.owner_groups]
        connection.execute(insert(tables.cluster_groups), groups)


def update_holding(connection: Connection, before: Cluster, after: Cluster) -> None:
    """Count what a cluster holds now; nothing any more once it has ended."""
    if after.state.ended:
        for table in (tables.holdings, tables.cluster_groups):
            connection.execute(delete(table).where(table.c.cluster == after.name))
        return
    values = _values(after)
    if values != _values(before):
        connection.execute(update(tables.holdings).where(_h.cluster == after.name).values(values))


def _values(cluster: Cluster) -> dict[str, Any]:
    held = holding_of(cluster)
    return {
        "clusters": held.clusters,
        "workers": held.workers,
        "cores": held.cores,
        "memory": float(held.memory),  # a whole number may be larger than SQLite takes
        "gpus": held.gpus,
        "waits_for": waits_for(cluster),
    }


def read_ledger(connection: Connection, rules: Rules, cluster: Cluster, at: float) -> Ledger:
    """Return the limits that hold for a cluster, and what all others hold and wait for."""
    limits = rules.overlaid(select_rules(connection)).limits_of(cluster.owner, cluster.owner_groups)
    held = held_within(connection, {limit.scope for limit in limits}, besides=cluster.name)
    if not rules.waits:
        return Ledger(limits, held, at=at)
    waiting = select(_h.owner, _h.waits_for).where(_h.waits_for.is_not(None), _h.cluster != cluster.name)
    line = connection.execute(waiting).all()
    mine = sum(row.owner == cluster.owner for row in line)
    return Ledger(limits, held, frozenset(row.waits_for for row in line), mine, at)


def held_within(connection: Connection, scopes: Collection[Scope], *, besides: str = "") -> dict[Scope, Amounts]:
    """Return what all clusters of each scope hold together, but for one."""
    return {scope: _held(connection, scope, besides) for scope in scopes}


def _held(connection: Connection, scope: Scope, besides: str) -> Amounts:
    query = select(*_SUMS).where(_h.cluster != besides)
    if scope.kind is ScopeKind.USER:
        query = query.where(_h.owner == scope.name)
    elif scope.kind is ScopeKind.GROUP:
        g = tables.cluster_groups.c
        query = query.where(_h.cluster.in_(select(g.cluster).where(g.name == scope.name)))
    return _to_amounts(connection.execute(query).one())


def groups_of_owners(connection: Connection) -> dict[str, frozenset[str]]:
    """Return everybody who has a cluster that has not ended, with the groups for which these count."""
    g = tables.cluster_groups.c
    joined = tables.holdings.outerjoin(tables.cluster_groups, g.cluster == _h.cluster)
    found: dict[str, set[str]] = defaultdict(set)
    for owner, group in connection.execute(select(_h.owner, g.name).select_from(joined).distinct()):
        found[owner].update([group] if group is not None else [])
    return {owner: frozenset(groups) for owner, groups in found.items()}


def _to_amounts(sums: Sequence[Any]) -> Amounts:
    clusters, workers, cores, memory, gpus = sums
    # PostgreSQL adds whole numbers up to a decimal.
    return Amounts(int(clusters), int(workers), float(cores), int(memory), int(gpus)) if clusters else NOTHING


# -- the rules of the run time -----------------------------------------------------------------------------------------


def select_rules(connection: Connection) -> list[Rule]:
    """Return the rules that were made at run time."""
    c = tables.limits.c
    query = select(tables.limits).order_by(c.subject, c.resource)
    return [_to_rule(row) for row in connection.execute(query)]


def write_rule(connection: Connection, rule: Rule) -> None:
    """Write a rule in the place of an earlier one for the same subject and resource."""
    delete_rule(connection, rule.subject, rule.resource)
    values = {
        "subject": str(rule.subject),
        "resource": rule.resource.value,
        "amount": rule.amount if rule.amount < math.inf else None,
        "set_by": rule.set_by,
        "set_at": rule.set_at,
    }
    connection.execute(insert(tables.limits), values)


def delete_rule(connection: Connection, subject: Subject, resource: Resource) -> bool:
    """Delete a rule; return whether it was there."""
    c = tables.limits.c
    gone = delete(tables.limits).where(c.subject == str(subject), c.resource == resource.value)
    return connection.execute(gone).rowcount == 1


def _to_rule(row: Row[Any]) -> Rule:
    amount = math.inf if row.amount is None else row.amount
    return Rule(Subject.parse(row.subject), Resource(row.resource), amount, row.set_by, row.set_at)
