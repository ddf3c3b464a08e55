"""The way from a link in the console to a cluster's dashboard.

A dashboard runs code of its cluster's owner, so its pages must not share an origin with the console. Each has a host of
its own; the browser is sent there with a one-time ticket, which the proxy exchanges for a cookie of that host alone.

Where there are no such hosts, the ticket is a cookie for the cluster's own path, and only the owner is let in: the page
can then do what the owner could do anyway. So that it is the owner's browser indeed, that ticket is good only beside
the session in which it was given.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller, read_session
from tidegate.api.address import address_of
from tidegate.api.services import services_of
from tidegate.console.render import page
from tidegate.console.session import login_link
from tidegate.console.views import view_cluster
from tidegate.model.errors import NotVisible
from tidegate.model.permissions import Action
from tidegate.model.principal import Principal
from tidegate.wire.names import TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import COOKIE_SECONDS, OPEN_SECONDS, Ticket, session_mark, sign, verify


async def open_dashboard(request: Request, name: str, where: str) -> Response:
    """Send the browser on to the page ``where`` of the cluster's dashboard, with a ticket."""
    services = services_of(request)
    principal = caller(request)
    cluster = await services.clusters.get(principal, name, Action.DASHBOARD)
    credentials = await services.store.credentials(name)
    view = view_cluster(cluster, services.clock())
    if credentials is None or not view.has_dashboard:
        return page(request, "no_dashboard.html", status=409, cluster=view)
    path = "/" + quote(where, safe="/:@!$&'()*+,;=-._~")
    if request.url.query:
        path += f"?{request.url.query}"
    if services.dashboard_host is None:
        if cluster.owner != principal.name:
            raise NotVisible("This dashboard is shown to its owner alone")
        return _open_by_path(request, name, path, principal, credentials.ticket_key)
    address = address_of(request)
    once = Ticket(name, principal.name, services.clock() + OPEN_SECONDS, secrets.token_urlsafe(16))
    query = urlencode({"ticket": sign(once, credentials.ticket_key), "next": path})
    host = services.dashboard_host.replace("{name}", name) + address.port
    return RedirectResponse(f"{address.scheme}://{host}{TICKET_PATH}?{query}", 302)


def _open_by_path(request: Request, name: str, path: str, principal: Principal, key: str) -> Response:
    services = services_of(request)
    address = address_of(request)
    if read_session(request) is None:
        return RedirectResponse(login_link(request), 303)
    session = services.sessions.cookie_name(address.scheme, address.prefix)
    mark = session_mark(session, request.cookies[session])
    cookie = f"{TICKET_COOKIE}-{name}"
    now = services.clock()
    before = verify(request.cookies.get(cookie, ""), name, key, now)
    if before is not None and before.session == mark:
        # The proxy would have served this ticket if it could; sending the browser back would go round for ever.
        return page(request, "dashboard_unreachable.html", status=503)
    response = RedirectResponse(f"{address.prefix}/clusters/{name}{path}", 302)
    response.set_cookie(
        cookie,
        sign(Ticket(name, principal.name, now + COOKIE_SECONDS, session=mark), key),
        max_age=int(COOKIE_SECONDS),
        path=f"{address.prefix}/clusters/{name}/",
        secure=address.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response
