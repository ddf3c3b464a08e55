"""What the buttons do. Without scripts the answer leads back to a page; htmx is told that there is nothing to swap."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.services import services_of
from tidegate.console.forms import read_count, read_options
from tidegate.console.pages import home, show_cluster_page
from tidegate.model.errors import Conflict, Invalid, TidegateError


async def create_cluster(request: Request) -> Response:
    """Create a cluster with the options of the form; a mistake is shown in the form."""
    clusters = services_of(request).clusters
    form = await request.form()
    try:
        cluster = await clusters.create(caller(request), read_options(form, clusters.options()))
    except TidegateError as error:
        return await home(request, error=error, given={k: str(v) for k, v in form.items()})
    return _go_to(request, f"/clusters/{cluster.name}")


async def resize_cluster(request: Request, name: str) -> Response:
    """Set the size, by hand or by the load."""
    clusters = services_of(request).clusters
    form = {key: str(value).strip() for key, value in (await request.form()).items()}
    try:
        if "workers" in form:
            _, note = await clusters.scale(caller(request), name, read_count(form["workers"]))
        else:
            bounds = {key: read_count(form[key]) if form.get(key) else None for key in ("minimum", "maximum")}
            _, note = await clusters.adapt(caller(request), name, bounds["minimum"], bounds["maximum"])
    except (Invalid, Conflict) as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    if note is not None:
        return await show_cluster_page(request, name, words=note)
    return _go_to(request, f"/clusters/{name}")


async def stop_cluster(request: Request, name: str) -> Response:
    """Stop a cluster."""
    await services_of(request).clusters.stop(caller(request), name)
    if "hx-request" in request.headers:
        return Response(status_code=204)
    return _go_to(request, "/")


def _go_to(request: Request, path: str) -> Response:
    return RedirectResponse(address_of(request).prefix + path, 303)
