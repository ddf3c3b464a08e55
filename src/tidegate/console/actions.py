"""What the buttons do. Without scripts the answer leads back to a page; htmx is told that there is nothing to swap."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of, tell_bounds, tell_keep, tell_size
from tidegate.api.services import services_of
from tidegate.console.forms import read_count, read_labels, read_options
from tidegate.console.pages import home, show_cluster_page
from tidegate.model.errors import Conflict, Invalid, TidegateError


async def create_cluster(request: Request) -> Response:
    """Create a cluster with the options of the form; a mistake is shown in the form."""
    clusters = services_of(request).clusters
    form = await request.form()
    try:
        cluster = await clusters.create(
            caller(request),
            read_options(form, clusters.options(caller(request))),
            whole=True,
            alias=str(form.get("alias", "")).strip(),
            labels=read_labels(str(form.get("labels", ""))),
        )
    except TidegateError as error:
        facts_of(request).error = error
        return await home(request, error=error, given={k: str(v) for k, v in form.items()})
    facts_of(request).cluster = cluster.name
    return go_to(request, f"/clusters/{cluster.name}")


async def resize_cluster(request: Request, name: str) -> Response:
    """Set the size, by hand or by the load."""
    clusters = services_of(request).clusters
    form = {key: str(value).strip() for key, value in (await request.form()).items()}
    try:
        if "workers" in form:
            facts_of(request).detail = tell_size(read_count(form["workers"]))
            _, note = await clusters.scale(caller(request), name, read_count(form["workers"]))
        else:
            bounds = {key: read_count(form[key]) if form.get(key) else None for key in ("minimum", "maximum")}
            facts_of(request).detail = tell_bounds(bounds["minimum"], bounds["maximum"])
            _, note = await clusters.adapt(caller(request), name, bounds["minimum"], bounds["maximum"])
    except (Invalid, Conflict) as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    if note is not None:
        return await show_cluster_page(request, name, words=note)
    return go_to(request, f"/clusters/{name}")


async def limit_cluster(request: Request, name: str) -> Response:
    """Set how many workers somebody's cluster may have; for administrators."""
    asked = str((await request.form()).get("limit", "")).strip()
    facts_of(request).detail = f"at most {tell_size(read_count(asked))}"
    try:
        await services_of(request).clusters.limit(caller(request), name, read_count(asked))
    except (Invalid, Conflict) as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    return go_to(request, f"/clusters/{name}")


async def keep_cluster(request: Request, name: str) -> Response:
    """Keep a cluster for its usual time, counted anew."""
    facts_of(request).detail = tell_keep(None)
    try:
        _, note = await services_of(request).clusters.keep(caller(request), name)
    except Conflict as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    if note is not None:
        return await show_cluster_page(request, name, words=note)
    return go_to(request, f"/clusters/{name}")


async def stop_cluster(request: Request, name: str) -> Response:
    """Stop a cluster."""
    await services_of(request).clusters.stop(caller(request), name)
    if "hx-request" in request.headers:
        return Response(status_code=204)
    return go_to(request, "/")


def go_to(request: Request, path: str) -> Response:
    """Lead the browser on to a page."""
    return RedirectResponse(address_of(request).prefix + path, 303)
