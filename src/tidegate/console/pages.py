"""The pages: my clusters, one cluster, and what is shown when something goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.services import services_of
from tidegate.console import live
from tidegate.console.render import page, render
from tidegate.console.views import view_cluster, view_events
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import TidegateError
from tidegate.model.options import Option

ACTIVE = frozenset(state for state in ClusterState if not state.ended)
ENDED = frozenset(state for state in ClusterState if state.ended)

ENDED_SHOWN = 10
"""How many clusters that have ended are listed: what one looks for is the last one that failed."""

EVENTS_SHOWN = 50

LOG_LINES = 200


async def show_home(request: Request) -> Response:
    """Show the caller's clusters."""
    return await home(request)


async def home(request: Request, *, error: TidegateError | None = None, given: Mapping[str, str] = {}) -> Response:
    """Return the first page; with ``error``, the form for a new cluster says what was wrong with ``given``."""
    services = services_of(request)
    return page(
        request,
        "home.html",
        status=error.status if error else 200,
        **await _clusters_of(request),
        options=services.clusters.options().options,
        error=error.message if error else None,
        wrong=getattr(error, "field", None),
        given=given,
    )


async def follow_home(request: Request) -> Response:
    """Send the list of clusters again after each change."""

    async def draw() -> dict[str, str]:
        return {"clusters": render("_clusters.html", base=address_of(request).prefix, **await _clusters_of(request))}

    return live.stream(services_of(request).clusters.follow(caller(request)), draw)


async def _clusters_of(request: Request) -> dict[str, Any]:
    services, principal = services_of(request), caller(request)
    now = services.clock()
    active = await services.clusters.find(principal, states=ACTIVE)
    ended = await services.clusters.find(principal, states=ENDED, limit=ENDED_SHOWN)
    return {
        "active": [view_cluster(cluster, now) for cluster in active],
        "ended": [view_cluster(cluster, now) for cluster in ended],
    }


async def show_cluster(request: Request, name: str) -> Response:
    """Show one cluster: its size, why it is as it is, and what happened to it."""
    return await show_cluster_page(request, name)


async def show_cluster_page(request: Request, name: str, *, words: str | None = None, status: int = 200) -> Response:
    """Return the page of one cluster; ``words`` answer what was just asked."""
    cluster = await services_of(request).clusters.get(caller(request), name)
    return page(request, "cluster.html", status=status, words=words, **await _details_of(request, cluster))


async def follow_cluster(request: Request, name: str) -> Response:
    """Send what changes on a cluster's page again after each change."""
    clusters, principal = services_of(request).clusters, caller(request)
    await clusters.get(principal, name)
    # Before the first drawing, which shows all that happened until then.
    last = await clusters.last_event_id()

    async def draw() -> dict[str, str]:
        details = await _details_of(request, await clusters.get(principal, name))
        base = address_of(request).prefix
        return {part: render(f"_{part}.html", base=base, **details) for part in ("cluster", "events")}

    return live.stream(clusters.follow(principal, cluster=name, after=last), draw)


async def _details_of(request: Request, cluster: Cluster) -> dict[str, Any]:
    services = services_of(request)
    now = services.clock()
    events = await services.clusters.last_events(caller(request), cluster.name, EVENTS_SHOWN)
    facts = cluster.scheduler if cluster.reported else None
    return {
        "cluster": view_cluster(cluster, now),
        "options": [(o.label or o.name, _shown(o, cluster)) for o in services.clusters.options().options],
        "versions": dict(facts.versions) if facts else {},
        "limit": cluster.spec.max_workers,
        "limit_reason": cluster.spec.max_workers_reason,
        "events": view_events(events, now),
    }


def _shown(option: Option, cluster: Cluster) -> str:
    value = cluster.options.get(option.name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else option.describe(value)


async def show_logs(request: Request, name: str) -> Response:
    """Show the logs of a cluster."""
    logs = await services_of(request).clusters.logs(caller(request), name, LOG_LINES)
    if "hx-request" in request.headers:
        return HTMLResponse(render("_logs.html", logs=logs))
    return page(request, "logs.html", logs=logs, name=name)
