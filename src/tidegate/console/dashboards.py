"""The way from a link in the console to a cluster's dashboard.

A dashboard runs code of its cluster's owner, so its pages must not share an origin with the console. Each has a host of
its own; the browser is sent there with a one-time ticket, which the proxy exchanges for a cookie of that host alone.

Whoever is not the owner gets a ticket of the cluster's share epoch, which ends when anything that is shared is
withdrawn; and a link, which needs no login, leads to the same host, with a ticket that ends with the link.

Where there are no such hosts, the ticket is a cookie for the cluster's own path, and only the owner is let in: the page
can then do what the owner could do anyway. So that it is the owner's browser indeed, that ticket is good only beside
the session in which it was given.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller, session_of
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of
from tidegate.api.internal import check_dashboard, epoch_of
from tidegate.api.services import services_of
from tidegate.console.render import page
from tidegate.console.session import login_link, session_cookie
from tidegate.console.views import view_cluster
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import Conflict
from tidegate.model.permissions import Action
from tidegate.model.principal import Principal
from tidegate.wire.names import TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import (
    COOKIE_SECONDS,
    LINK_USER,
    OPEN_SECONDS,
    Ticket,
    cookie_name,
    session_mark,
    sign,
    verify,
)


async def open_dashboard(request: Request, name: str, where: str) -> Response:
    """Send the browser on to the page ``where`` of the cluster's dashboard, with a ticket."""
    services = services_of(request)
    principal = caller(request)
    cluster = await services.clusters.get(principal, name, Action.DASHBOARD)
    credentials = await services.store.credentials(name)
    view = view_cluster(cluster, services.clock(), principal)
    if credentials is None or not view.has_dashboard:
        return page(request, "no_dashboard.html", status=409, cluster=view)
    check_dashboard(principal, cluster, own_host=services.dashboard_host is not None)
    path = "/" + quote(where, safe="/:@!$&'()*+,;=-._~")
    if request.url.query:
        path += f"?{request.url.query}"
    if services.dashboard_host is None:
        return _open_by_path(request, name, path, principal, credentials.ticket_key)
    until, by = _vouched(request, principal)
    ticket = _ticket(request, cluster, principal.name, epoch_of(principal, cluster), until)
    return _send_on(request, services.dashboard_host, path, replace(ticket, by=by), credentials.ticket_key)


async def open_link(request: Request, link: str) -> Response:
    """Send the browser on to the dashboard that a link leads to."""
    services = services_of(request)
    opened = await services.shares.open_link(link)
    facts = facts_of(request)
    facts.cluster, facts.detail = opened.cluster.name, f"{LINK_USER}{opened.link.id}"
    if services.dashboard_host is None or not _has_dashboard(opened.cluster):
        raise Conflict("cannot show this dashboard now: its cluster is starting or ending. Open the link again later")
    user = LINK_USER + opened.link.id
    ticket = _ticket(request, opened.cluster, user, opened.cluster.share_epoch, opened.link.expires_at)
    response = _send_on(request, services.dashboard_host, "/status", ticket, opened.ticket_key)
    # The address of this page is a secret.
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _has_dashboard(cluster: Cluster) -> bool:
    facts = cluster.scheduler
    running = cluster.state is ClusterState.RUNNING and cluster.target is Target.RUNNING
    return running and facts is not None and facts.dashboard_port is not None


def _ticket(request: Request, cluster: Cluster, user: str, epoch: int | None, until: float | None) -> Ticket:
    now = services_of(request).clock()
    ends = now + OPEN_SECONDS if until is None else min(now + OPEN_SECONDS, until)
    return Ticket(cluster.name, user, ends, secrets.token_urlsafe(16), epoch=epoch, until=until)


def _vouched(request: Request, principal: Principal) -> tuple[float | None, tuple[str, ...]]:
    """Return until when a dashboard may be open that is opened now, and what ends it before (``Ticket.by``)."""
    ends, session = [principal.until], session_of(request)
    by = [principal.token, services_of(request).entries.of(principal)]
    if principal.method == "session" and session is not None:
        name = session_cookie(request)
        ends.append(session.until)
        by.append(session_mark(name, request.cookies[name]))
    known = [end for end in ends if end is not None]
    return min(known) if known else None, tuple(filter(None, by))


def _send_on(request: Request, pattern: str, path: str, ticket: Ticket, key: str) -> Response:
    """Send the browser to the dashboard's own host."""
    address = address_of(request)
    query = urlencode({"ticket": sign(ticket, key), "next": path})
    host = pattern.replace("{name}", ticket.cluster) + address.port
    return RedirectResponse(f"{address.scheme}://{host}{TICKET_PATH}?{query}", 302)


def _open_by_path(request: Request, name: str, path: str, principal: Principal, key: str) -> Response:
    services = services_of(request)
    address = address_of(request)
    if session_of(request) is None:
        return RedirectResponse(login_link(request), 303)
    session = session_cookie(request)
    mark = session_mark(session, request.cookies[session])
    cookie = cookie_name(f"{TICKET_COOKIE}-{name}", address.scheme, path=True)
    now = services.clock()
    before = verify(request.cookies.get(cookie, ""), name, key, now)
    if before is not None and before.session == mark:
        # The proxy would have served this ticket if it could; sending the browser back would go round for ever.
        return page(request, "dashboard_unreachable.html", status=503)
    response = RedirectResponse(f"{address.prefix}/clusters/{name}{path}", 302)
    until, by = _vouched(request, principal)
    response.set_cookie(
        cookie,
        sign(Ticket(name, principal.name, now + COOKIE_SECONDS, session=mark, until=until, by=by), key),
        max_age=int(COOKIE_SECONDS),
        path=f"{address.prefix}/clusters/{name}/",
        secure=address.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response
