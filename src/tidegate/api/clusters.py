"""Clusters, in our own protocol: create, list, read, resize, stop; their logs and the credentials of their clients."""

from __future__ import annotations

import base64
import json
import math
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of, tell_bounds, tell_size
from tidegate.api.services import services_of
from tidegate.control.catalogue import Whose
from tidegate.model.audit import Deed
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import Conflict, Invalid
from tidegate.model.permissions import Rights, usable_rights
from tidegate.model.principal import Principal
from tidegate.model.share import LONGEST_NAME
from tidegate.wire import v2
from tidegate.wire.names import SNI_PREFIX

PAGE_LIMIT = 500
"""Clusters on one page of a list: about a megabyte of JSON."""

LOG_LINES_LIMIT = 10_000
"""Lines of each log in one reply: about a megabyte a process."""

STATE_WORDS = {state.value: frozenset({state}) for state in ClusterState} | {
    "active": frozenset(state for state in ClusterState if not state.ended),
    "ended": frozenset(state for state in ClusterState if state.ended),
}
"""What ``?state=`` understands."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        description="A request repeated with the same key finds the cluster that the first one made.",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
    ),
]

OfQuery = Annotated[
    Whose | None,
    Query(
        description="mine, shared (others' that are shared with you) or all (both; for administrators every "
        "cluster). By default mine, with an owner all."
    ),
]


async def create_cluster(
    request: Request, response: Response, body: v2.NewCluster, idempotency_key: IdempotencyKey = None
) -> v2.ClusterBody:
    """Create a cluster. The answer comes at once; events, or reading it, tell when it runs."""
    clusters = services_of(request).clusters
    options = body.options or {}
    cluster = await clusters.create(
        caller(request),
        options,
        hints=body.hints.to_model(),
        key=idempotency_key,
        alias=body.alias,
        labels=body.labels,
        shutdown_on_close=body.shutdown_on_close,
    )
    facts_of(request).cluster = cluster.name
    response.headers["Location"] = f"{address_of(request).prefix}/api/v2/clusters/{cluster.name}"
    return body_of(request, cluster)


async def list_clusters(
    request: Request,
    state: Annotated[
        str | None,
        Query(description="States, comma-separated: requested, starting, ...; or active, ended. All by default."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Clusters on a page.")] = 100,
    cursor: Annotated[str | None, Query(max_length=500, description="The next_cursor of the page before.")] = None,
    of: OfQuery = None,
    owner: Annotated[str | None, Query(max_length=LONGEST_NAME, description="Only this user's.")] = None,
) -> Response:
    """List your clusters, newest first, also those that have ended; logs are left out."""
    principal = caller(request)
    found = await services_of(request).clusters.entries(
        principal,
        whose=of or (Whose.MINE if owner is None else Whose.ALL),
        owner=owner,
        states=_parse_states(state),
        before=_parse_cursor(cursor),
        limit=limit + 1,
    )
    more = len(found) > limit
    texts = b",".join(entry.made(_brief, *_stand(principal, entry.cluster)) for entry in found[:limit])
    next_cursor = json.dumps(_cursor(*found[limit - 1].place) if more else None).encode()
    return _json(b'{"clusters":[' + texts + b'],"next_cursor":' + next_cursor + b"}")


def _brief(cluster: Cluster, rights: Rights, mine: bool) -> bytes:
    return v2.ClusterBody.from_model(cluster, rights, mine=mine, brief=True).model_dump_json().encode()


def _whole(cluster: Cluster, rights: Rights, mine: bool) -> bytes:
    return v2.ClusterBody.from_model(cluster, rights, mine=mine).model_dump_json().encode()


def body_of(request: Request, cluster: Cluster, *, note: str | None = None) -> v2.ClusterBody:
    """Return what the caller is shown of a cluster; ``note`` tells what differs from what they asked."""
    rights, mine = _stand(caller(request), cluster)
    return v2.ClusterBody.from_model(cluster, rights, mine=mine, note=note)


def _stand(principal: Principal, cluster: Cluster) -> tuple[Rights, bool]:
    """Return what somebody may do with a cluster, and whether it is theirs."""
    return usable_rights(principal, cluster), cluster.owner == principal.name


def _json(text: bytes) -> Response:
    return Response(text, media_type="application/json")


def _parse_states(text: str | None) -> frozenset[ClusterState] | None:
    if text is None:
        return None
    chosen: frozenset[ClusterState] = frozenset()
    for word in text.split(","):
        if word.strip() not in STATE_WORDS:
            rule = f"choose among {', '.join(STATE_WORDS)}"
            raise Invalid(f"cannot list clusters by state {word.strip()[:40]!r}: {rule}", field="state")
        chosen |= STATE_WORDS[word.strip()]
    return chosen


def _cursor(created_at: float, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([created_at, name]).encode()).decode()


def _parse_cursor(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    try:
        created_at, name = json.loads(base64.urlsafe_b64decode(text))
        if isinstance(created_at, float | int) and math.isfinite(created_at) and isinstance(name, str):
            return float(created_at), name
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise Invalid("cannot page on: cursor is not a next_cursor of this gateway", field="cursor")


async def show_cluster(request: Request, name: str) -> Response:
    """Read one cluster, also after its end."""
    principal = caller(request)
    entry = await services_of(request).clusters.entry(principal, name)
    return _json(entry.made(_whole, *_stand(principal, entry.cluster)))


async def patch_cluster(request: Request, name: str, body: v2.ClusterPatch) -> v2.ClusterBody:
    """Set the size by hand (``workers``) or by the load (``adaptive``); ``note`` tells where a limit shrank it.

    Administrators set the most workers that the cluster may have (``max_workers``).
    """
    clusters, facts = services_of(request).clusters, facts_of(request)
    given = body.model_fields_set & {"workers", "adaptive", "max_workers"}
    if len(given) != 1:
        raise Invalid("cannot change the cluster: give one of workers, adaptive and max_workers", field="workers")
    note = None
    if "max_workers" in given:
        facts.deed, facts.detail = Deed.LIMIT_SET, f"at most {tell_size(body.max_workers)}"
        cluster = await clusters.limit(caller(request), name, body.max_workers)
    elif "workers" in given:
        facts.detail = tell_size(body.workers)
        cluster, note = await clusters.scale(caller(request), name, body.workers, body.group)
    else:
        bounds = body.adaptive or v2.NewBounds()
        active = body.adaptive is not None
        facts.detail = tell_bounds(bounds.minimum, bounds.maximum, active=active)
        cluster, note = await clusters.adapt(
            caller(request), name, bounds.minimum, bounds.maximum, active=active, group=body.group
        )
    return body_of(request, cluster, note=note)


async def stop_cluster(request: Request, name: str) -> Response:
    """Stop a cluster: 202 while it is being taken away, 204 when it has ended already."""
    cluster = await services_of(request).clusters.stop(caller(request), name)
    if cluster.state.ended:
        return Response(status_code=204)
    return JSONResponse(body_of(request, cluster).model_dump(mode="json"), status_code=202)


async def show_credentials(request: Request, name: str) -> v2.Credentials:
    """Hand out what a client connects to the scheduler with, while the cluster lives."""
    credentials = await services_of(request).clusters.client_credentials(caller(request), name)
    if credentials is None:
        raise Conflict("cannot hand out credentials: the cluster has ended, and they ended with it")
    certificate, key = credentials
    return v2.Credentials(certificate=certificate, key=key, sni=SNI_PREFIX + name)


async def show_logs(
    request: Request,
    name: str,
    lines: Annotated[int, Query(ge=1, le=LOG_LINES_LIMIT, description="Last lines of each log.")] = 200,
) -> v2.Logs:
    """Read the last lines of every log of a cluster, the scheduler's first; also after its end."""
    logs = await services_of(request).clusters.logs(caller(request), name, lines)
    return v2.Logs(logs=[v2.LogBody(process=log.process, text=log.text) for log in logs])
