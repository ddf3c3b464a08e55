"""The door of a dashboard: tickets are checked, one-time tickets exchanged, and strange callers turned away.

The ticket sits in a cookie, and cookies are sent by browsers whoever asks them to. So besides the ticket it matters
where a request comes from: a WebSocket, or anything that may change something, must come from the dashboard's own page;
other sites may link to a dashboard or frame it where that is allowed, but not load pieces of it as scripts or pictures.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial

from aiohttp import web

from tidegate.proxy import answers
from tidegate.proxy.headers import cookies_of, is_websocket
from tidegate.proxy.hosts import same_origin
from tidegate.proxy.tickets import UsedTickets
from tidegate.wire.names import TICKET_COOKIE
from tidegate.wire.tickets import COOKIE_SECONDS, Ticket, bears_session, sign, verify

_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
"""A path on the same host: ``//host`` and ``/\\host`` would lead elsewhere."""


class Door:
    """Checks tickets.

    Parameters
    ----------
    used : UsedTickets
    clock : callable
        Seconds since the epoch.
    """

    def __init__(self, used: UsedTickets, clock: Callable[[], float] = time.time) -> None:
        self._used = used
        self._clock = clock

    def is_open(self, request: web.BaseRequest, cluster: str, key: str) -> bool:
        """Whether the request bears a valid ticket for this cluster, to its own host."""
        return any(self._tickets(request, cluster, key, TICKET_COOKIE))

    def is_open_below(self, request: web.BaseRequest, cluster: str, key: str) -> bool:
        """Whether the request bears a valid ticket for this cluster, below the gateway's own host.

        There its page can do what the browser's session can, or its remembered password: both must be those of the
        person whom the ticket was given to, and passwords get none.
        """
        if "Authorization" in request.headers:
            return False
        tickets = self._tickets(request, cluster, key, f"{TICKET_COOKIE}-{cluster}")
        return any(bears_session(ticket.session, partial(cookies_of, request.headers)) for ticket in tickets)

    def _tickets(self, request: web.BaseRequest, cluster: str, key: str, cookie: str) -> Iterator[Ticket]:
        """Yield the lasting tickets in a cookie: another host of the same domain may have planted a second one."""
        now = self._clock()
        for text in cookies_of(request.headers, cookie):
            ticket = verify(text, cluster, key, now)
            if ticket is not None and not ticket.once:
                yield ticket

    def exchange(self, request: web.BaseRequest, cluster: str, key: str, scheme: str) -> web.Response | None:
        """Exchange the one-time ticket in the query for a cookie; None when it is not worth one."""
        now = self._clock()
        ticket = verify(request.query.get("ticket", ""), cluster, key, now)
        following = next_path(request)
        if ticket is None or not ticket.once or not self._used.claim(ticket.once, ticket.expires_at):
            # Someone goes back in the browser's history: the link is used, the cookie is there.
            return answers.redirect(following) if self.is_open(request, cluster, key) else None
        lasting = sign(Ticket(cluster, ticket.user, now + COOKIE_SECONDS), key)
        secure = "; Secure" if scheme == "https" else ""
        attributes = f"Max-Age={COOKIE_SECONDS:.0f}; Path=/; HttpOnly; SameSite=Lax{secure}"
        return answers.redirect(following, cookie=f"{TICKET_COOKIE}={lasting}; {attributes}")


def next_path(request: web.BaseRequest) -> str:
    """Return where a ticket's link leads, which is always a path on the same host."""
    following = request.query.get("next", "/")
    return following if _LOCAL_PATH.fullmatch(following) else "/"


def refuse_stranger(request: web.BaseRequest) -> web.Response | None:
    """Refuse a request that a page of another origin makes with the viewer's ticket."""
    headers = request.headers
    if "Service-Worker" in headers:
        # A service worker would see and answer every later request of this host, long after its cluster is gone.
        return answers.error(403, "cannot serve a service worker's script: dashboards must not leave anything behind")
    origin, host = headers.get("Origin"), headers.get("Host", "")
    if is_websocket(headers) or request.method not in ("GET", "HEAD", "OPTIONS"):
        if origin is None or not same_origin(origin, host):
            return answers.error(403, "cannot serve this request: it does not come from this dashboard's own page")
        return None
    if headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and headers.get("Sec-Fetch-Mode") != "navigate":
        return answers.error(403, "cannot serve this request: it comes from a page of another host")
    return None
