"""Between the values of ``model`` and the rows of ``tables``: pure functions, both ways.

A row is a plain dict by column name on the way in, a tuple of ``Row`` on the way out. Written by hand, field by field:
``dataclasses.asdict`` copies deeply and takes as long as the query itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row

from tidegate.model.activity import NO_ACTIVITY, Activity
from tidegate.model.cluster import (
    Adaptive,
    Cluster,
    ClusterSpec,
    ClusterState,
    Reason,
    SchedulerFacts,
    Target,
    Waiting,
    Worker,
    WorkerGroup,
    WorkerState,
)
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.prices import FREE, Prices
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import ClientLeaf, Grantee, GranteeKind, Right, Share, ShareLink
from tidegate.store.base import Token

Values = dict[str, Any]


def cluster_values(cluster: Cluster) -> Values:
    """Return the row of a cluster, without its groups and workers."""
    return {
        "name": cluster.name,
        "owner": cluster.owner,
        "backend": cluster.backend,
        "spec": _spec_document(cluster.spec),
        "options": dict(cluster.options),
        "state": cluster.state.value,
        "target": cluster.target.value,
        "created_at": cluster.created_at,
        "started_at": cluster.started_at,
        "stopped_at": cluster.stopped_at,
        "changed_at": cluster.changed_at,
        "attempt": cluster.attempt,
        "reason": _reason_document(cluster.reason),
        "host": cluster.host,
        "scheduler": _scheduler_document(cluster.scheduler),
        "sharing": _sharing_document(cluster),
        "alias": cluster.alias or None,
        "labels": dict(cluster.labels) or None,
        "owner_groups": list(cluster.owner_groups) or None,
        "waiting": _waiting_document(cluster),
        "prices": _prices_document(cluster.prices),
        "activity": _activity_document(cluster.activity),
        "revision": cluster.revision,
    }


def group_values(group: WorkerGroup) -> Values:
    """Return the row of a worker group."""
    adaptive = group.adaptive
    return {
        "name": group.name,
        "wanted": group.wanted,
        "adaptive": None if adaptive is None else {"minimum": adaptive.minimum, "maximum": adaptive.maximum},
        "launched": group.launched,
        "failures": group.failures,
        "retry_at": group.retry_at,
        "trouble": _reason_document(group.trouble),
        "asked": group.asked,
    }


def worker_values(worker: Worker) -> Values:
    """Return the row of a worker."""
    return {
        "name": worker.name,
        "worker_group": worker.group,
        "state": worker.state.value,
        "changed_at": worker.changed_at,
        "reason": _reason_document(worker.reason),
        "started_at": worker.started_at,
    }


def event_values(event: Event, cluster: Cluster, at: float) -> Values:
    """Return the row of an event of ``cluster``."""
    return {
        "at": at,
        "cluster": cluster.name,
        "owner": cluster.owner,
        "kind": event.kind,
        "body": {"message": event.message, "data": dict(event.data)},
    }


def token_values(token: Token, secret_hash: str) -> Values:
    """Return the row of a token."""
    return {
        "id": token.id,
        "secret_hash": secret_hash,
        "principal": token.principal.name,
        "principal_groups": sorted(token.principal.groups),
        "admin": token.principal.admin,
        "method": token.principal.method,
        "label": token.label,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "scope": token.scope.value,
        "used_at": token.used_at,
    }


def to_cluster(row: Row[Any], groups: Iterable[WorkerGroup], workers: Iterable[Worker]) -> Cluster:
    """Return the cluster that a row of ``tables.clusters`` and its groups and workers stand for."""
    return Cluster(
        name=row.name,
        owner=row.owner,
        backend=row.backend,
        spec=ClusterSpec(**row.spec),
        created_at=row.created_at,
        options=row.options,
        state=ClusterState(row.state),
        target=Target(row.target),
        started_at=row.started_at,
        stopped_at=row.stopped_at,
        changed_at=row.changed_at,
        attempt=row.attempt,
        reason=_to_reason(row.reason),
        host=row.host,
        scheduler=None if row.scheduler is None else SchedulerFacts(**row.scheduler),
        groups=tuple(groups),
        workers=tuple(workers),
        **_to_sharing(row.sharing),
        alias=row.alias or "",
        labels=row.labels or {},
        owner_groups=tuple(row.owner_groups or ()),
        **_to_waiting(row.waiting),
        prices=FREE if row.prices is None else Prices(*row.prices),
        activity=NO_ACTIVITY if row.activity is None else Activity(**row.activity),
        revision=row.revision,
    )


def to_group(row: Row[Any]) -> WorkerGroup:
    """Return the worker group that a row of ``tables.worker_groups`` stands for."""
    return WorkerGroup(
        name=row.name,
        wanted=row.wanted,
        adaptive=None if row.adaptive is None else Adaptive(**row.adaptive),
        launched=row.launched,
        failures=row.failures,
        retry_at=row.retry_at,
        trouble=_to_reason(row.trouble),
        asked=row.asked,
    )


def to_worker(row: Row[Any]) -> Worker:
    """Return the worker that a row of ``tables.workers`` stands for."""
    state, reason = WorkerState(row.state), _to_reason(row.reason)
    return Worker(row.name, row.worker_group, state, row.changed_at, reason, row.started_at)


def to_event(row: Row[Any]) -> RecordedEvent:
    """Return the event that a row of ``tables.events`` stands for."""
    event = Event(row.kind, row.body["message"], row.body["data"])
    return RecordedEvent(row.id, row.at, row.cluster, row.owner, event)


def to_token(row: Row[Any]) -> Token:
    """Return the token that a row of ``tables.tokens`` stands for."""
    principal = Principal(row.principal, frozenset(row.principal_groups), row.admin, row.method)
    return Token(row.id, principal, row.label, row.created_at, row.expires_at, Scope(row.scope), row.used_at)


def _spec_document(spec: ClusterSpec) -> Values:
    return {
        "worker_cores": spec.worker_cores,
        "worker_memory": spec.worker_memory,
        "worker_threads": spec.worker_threads,
        "worker_gpus": spec.worker_gpus,
        "scheduler_cores": spec.scheduler_cores,
        "scheduler_memory": spec.scheduler_memory,
        "max_workers": spec.max_workers,
        "max_workers_reason": spec.max_workers_reason,
        "environment": spec.environment,
        "image": spec.image,
        "start_timeout": spec.start_timeout,
        "idle_timeout": spec.idle_timeout,
        "no_client_timeout": spec.no_client_timeout,
        "lifetime": spec.lifetime,
        "end_warning": spec.end_warning,
        "hub_server": spec.hub_server,
        "extra": dict(spec.extra),
    }


def _scheduler_document(facts: SchedulerFacts | None) -> Values | None:
    if facts is None:
        return None
    return {
        "attempt": facts.attempt,
        "port": facts.port,
        "dashboard_port": facts.dashboard_port,
        "versions": dict(facts.versions),
    }


def _activity_document(activity: Activity) -> Values | None:
    """Return what is known of the life in a cluster; before anything is heard, nothing."""
    if activity == NO_ACTIVITY:
        return None
    return {
        "idle_since": activity.idle_since,
        "had_client": activity.had_client,
        "clientless_since": activity.clientless_since,
        "active_at": activity.active_at,
        "kept_until": activity.kept_until,
        "warned": dict(activity.warned),
        "question": activity.question,
        "asked_at": activity.asked_at,
        "spent_since": activity.spent_since,
        "spent_grace": activity.spent_grace,
        "spent_why": activity.spent_why,
        "at_hub": activity.at_hub,
    }


def _prices_document(prices: Prices) -> list[float] | None:
    """Return the prices of a cluster; where nothing costs anything, nothing."""
    return None if prices == FREE else [prices.core_hour, prices.gib_hour, prices.gpu_hour]


def _waiting_document(cluster: Cluster) -> Values | None:
    """Return the place in the line of a cluster; most have none."""
    place = cluster.waiting
    if place is None and not cluster.queued:
        return None
    line = None if place is None else [place.since, place.limit, place.reason]
    return {"queued": cluster.queued, "line": line}


def _to_waiting(document: Values | None) -> Values:
    if document is None:
        return {}
    line = document["line"]
    return {"queued": document["queued"], "waiting": None if line is None else Waiting(*line[:3])}


def _sharing_document(cluster: Cluster) -> Values | None:
    """Return what was ever shared of a cluster; of most it is nothing."""
    if not (cluster.shares or cluster.links or cluster.leaves or cluster.share_epoch):
        return None
    return {
        "epoch": cluster.share_epoch,
        "shares": [[str(s.grantee), s.right.value, s.created_at, s.created_by] for s in cluster.shares],
        "links": [[k.id, k.expires_at, k.created_at, k.created_by, k.label] for k in cluster.links],
        "leaves": [[k.serial, k.user, [str(g) for g in k.grantees], k.withdrawn] for k in cluster.leaves],
    }


def _to_sharing(document: Values | None) -> Values:
    if document is None:
        return {}
    return {
        "share_epoch": document["epoch"],
        "shares": tuple(Share(_to_grantee(g), Right(right), at, by) for g, right, at, by in document["shares"]),
        "links": tuple(ShareLink(*parts) for parts in document["links"]),
        "leaves": tuple(
            ClientLeaf(serial, user, tuple(map(_to_grantee, grantees)), withdrawn)
            for serial, user, grantees, withdrawn in document["leaves"]
        ),
    }


def _to_grantee(text: str) -> Grantee:
    kind, _, name = text.partition(":")
    return Grantee(GranteeKind(kind), name)


def _reason_document(reason: Reason | None) -> Values | None:
    if reason is None:
        return None
    return {"code": reason.code, "message": reason.message, "detail": reason.detail, "log_tail": reason.log_tail}


def _to_reason(document: Values | None) -> Reason | None:
    return None if document is None else Reason(**document)
