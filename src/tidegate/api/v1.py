"""The dask-gateway protocol, version 1: a thin translation for the unmodified official client.

It differs from dask-gateway in three things, on purpose. What is not yours does not exist (404, and ``DELETE`` is 204
without effect), where dask-gateway says 403; what is shared with you for use you can connect to by its name. A client
that waits for a cluster that failed is told why, as an error: of a report that says FAILED it would print fixed words.
And errors that this client cannot show (it keeps the words of 404, 409, 422 and 500 only) come under a status that it
can show; ``api/app.py`` does that.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tidegate.api.access import caller
from tidegate.api.audited import facts_of, tell_bounds, tell_size
from tidegate.api.body import read_object
from tidegate.api.services import VERSION, services_of
from tidegate.model import reasons
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import Conflict, Invalid, NotVisible
from tidegate.model.offer import ChoiceLabels
from tidegate.model.permissions import Action
from tidegate.wire import v1

WAIT_SECONDS = 20.0
"""How long ``?wait`` is held, as in dask-gateway: shorter than the idle timeout of common reverse proxies."""


async def version(request: Request) -> JSONResponse:
    """Tell the version."""
    return JSONResponse({"version": VERSION})


async def list_options(request: Request) -> JSONResponse:
    """List the options as the fields of the official client."""
    options = services_of(request).clusters.options(caller(request)).shown()
    return JSONResponse({"cluster_options": [v1.option_field(option) for option in options]})


async def list_clusters(request: Request) -> Response:
    """List the caller's clusters by name, without credentials; the active ones when no status is asked for.

    All of them: this protocol knows no pages.
    """
    asked, states = _asked_for(request.query_params.get("status"))
    clusters = services_of(request).clusters
    found = await clusters.entries(caller(request), states=states)
    labels = clusters.choice_labels
    members = [entry.made(_member, labels) for entry in found if v1.status_of(entry.cluster) in asked]
    return Response(b"{" + b",".join(members) + b"}", media_type="application/json")


@lru_cache(maxsize=64)  # nearly all ask for the same
def _asked_for(statuses: str | None) -> tuple[frozenset[str], frozenset[ClusterState]]:
    """Return the status names that a query asks for, and the states under which such clusters may be recorded."""
    asked = frozenset(v1.parse_statuses(statuses))
    states = frozenset[ClusterState]().union(*(v1.STATUSES[name] for name in asked))
    if "STOPPING" in asked:
        # One that is wanted away but not on its way yet is recorded under another state.
        states |= {state for state in ClusterState if not state.ended}
    return asked, states


def _member(cluster: Cluster, labels: ChoiceLabels) -> bytes:
    """Return a cluster as it stands in a list: its name and its report."""
    return json.dumps(cluster.name).encode() + b":" + _report(cluster, labels, None)


def _report(cluster: Cluster, labels: ChoiceLabels, credentials: tuple[str, str] | None) -> bytes:
    return json.dumps(v1.cluster_report(cluster, labels, credentials)).encode()


async def create_cluster(request: Request) -> JSONResponse:
    """Create a cluster."""
    options = (await read_object(request)).get("cluster_options") or {}
    if not isinstance(options, dict):
        raise Invalid("cannot create a cluster: cluster_options must be a JSON object", field="cluster_options")
    cluster = await services_of(request).clusters.create(caller(request), options, whole=True)
    facts_of(request).cluster = cluster.name
    return JSONResponse({"name": cluster.name}, status_code=201)


async def show_cluster(request: Request, name: str) -> Response:
    """Report one cluster; with ``?wait`` as soon as it runs, or has failed, or the time is up.

    The report of one that runs carries the key that opens it, and this client cannot do with one that does not. So it
    takes the right to connect, which an administrator has on behalf of the owner only; v2 keeps report and key apart.
    """
    clusters = services_of(request).clusters
    waits = v1.parse_wait(request.query_params.get("wait"))
    if waits:
        await clusters.wait(caller(request), name, WAIT_SECONDS, Action.CONNECT)
    entry = await clusters.entry(caller(request), name, Action.CONNECT)
    if waits:
        _raise_if_failed(entry.cluster)
    running = entry.cluster.state is ClusterState.RUNNING
    credentials = await clusters.client_credentials(caller(request), name) if running else None
    facts_of(request).happened = credentials is not None
    return Response(entry.made(_report, clusters.choice_labels, credentials), media_type="application/json")


def _raise_if_failed(cluster: Cluster) -> None:
    reason = cluster.reason
    if reason is None or cluster.target is not Target.STOPPED:
        return
    what = "failed to start" if cluster.started_at is None else "has failed"
    if reason.code in reasons.WANTED:
        what = "was stopped"
    log = f"\n\nThe end of its log:\n{reason.log_tail}" if reason.log_tail else ""
    raise Conflict(f"Cluster {cluster.name} {what}: {reason.message}{log}")


async def stop_cluster(request: Request, name: str) -> Response:
    """Stop a cluster; 204 as well where there is none, or it has ended, or it is not the caller's."""
    try:
        await services_of(request).clusters.stop(caller(request), name)
    except NotVisible as error:
        facts_of(request).error = error
    return Response(status_code=204)


async def scale_cluster(request: Request, name: str) -> JSONResponse:
    """Set the number of workers by hand."""
    count = (await read_object(request)).get("count")
    facts_of(request).detail = tell_size(count)
    _, note = await services_of(request).clusters.scale(caller(request), name, count)
    return _answer(note)


async def adapt_cluster(request: Request, name: str) -> JSONResponse:
    """Let the load set the number of workers, within bounds; or no longer, when ``active`` is false."""
    body = await read_object(request)
    active = body.get("active", True)
    if not isinstance(active, bool):
        raise Invalid("cannot adapt: active must be true or false", field="active")
    minimum, maximum = body.get("minimum"), body.get("maximum")
    facts_of(request).detail = tell_bounds(minimum, maximum, active=active)
    _, note = await services_of(request).clusters.adapt(caller(request), name, minimum, maximum, active=active)
    return _answer(note)


def _answer(note: str | None) -> JSONResponse:
    # The client shows ``msg`` as a warning when ``ok`` is false; what fits the limit was done all the same.
    body: dict[str, Any] = {"ok": note is None, "msg": note}
    return JSONResponse(body)
