"""The door of a dashboard: tickets are checked, one-time tickets exchanged, and strange callers turned away.

Whoever is let in is a ``Viewer``, which says what ends what they have open.

The ticket sits in a cookie, and cookies are sent by browsers whoever asks them to. So besides the ticket it matters
where a request comes from: a WebSocket, or anything that may change something, must come from the dashboard's own page;
other sites may link to a dashboard or frame it where that is allowed, but not load pieces of it as scripts or pictures.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from aiohttp import web

from tidegate.proxy import answers
from tidegate.proxy.access import Admitted
from tidegate.proxy.headers import cookies_of, is_websocket
from tidegate.proxy.hosts import same_origin
from tidegate.proxy.tickets import UsedTickets
from tidegate.wire.names import TICKET_COOKIE
from tidegate.wire.tickets import (
    COOKIE_SECONDS,
    LINK_COOKIE_SECONDS,
    LINK_USER,
    Ticket,
    bears_session,
    cookie_name,
    cookie_names,
    cookie_seconds,
    sign,
    verify,
)

_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")
"""A path on the same host: ``//host`` and ``/\\host`` would lead elsewhere."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who is let in.

    Parameters
    ----------
    shared : bool
        Whether they see the dashboard because it is shared with them, or as an administrator: what they have open ends
        when anything of it is withdrawn.
    seconds : float or None
        After how long what they have open ends; None for never.
    by : tuple of str
        What vouched for them, as in the ticket: what they have open ends with it.
    """

    shared: bool = False
    seconds: float | None = None
    by: tuple[str, ...] = ()

    @classmethod
    def of(cls, ticket: Ticket, now: float) -> Viewer:
        """Return who shows this ticket."""
        return cls(shared=ticket.epoch is not None, seconds=ticket.ends_at - now, by=ticket.by)


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
        self._ended: dict[str, float] = {}

    def end(self, by: str) -> None:
        """Take no ticket any more that this session or token vouched for; the console gives no other."""
        now = self._clock()
        self._ended = {known: until for known, until in self._ended.items() if until > now}
        self._ended[by] = now + LINK_COOKIE_SECONDS

    def has_ended(self, by: tuple[str, ...]) -> bool:
        """Whether something has ended that vouched for somebody."""
        return not self._ended.keys().isdisjoint(by)

    def admit(self, admitted: Admitted) -> Viewer | None:
        """Return who has shown a credential that control knows; None when it has ended since control was asked.

        What they have open lasts no longer than a ticket's cookie: of a password, or a token of another service, nobody
        tells us when it ends. A program that wants to see more shows its credential again.
        """
        left = math.inf if admitted.until is None else admitted.until - self._clock()
        if left <= 0 or self.has_ended(admitted.by):
            return None
        return Viewer(shared=admitted.epoch is not None, seconds=min(left, COOKIE_SECONDS), by=admitted.by)

    def viewer(self, request: web.BaseRequest, cluster: str, key: str, epoch: int) -> Viewer | None:
        """Return who shows a valid ticket for this cluster, to its own host; None when nobody does.

        Parameters
        ----------
        epoch : int
            The cluster's share epoch.
        """
        now = self._clock()
        found = [t for t in self._tickets(request, cluster, key, TICKET_COOKIE) if not t.is_over(epoch)]
        # An owner who has opened a link to their own dashboard is still its owner.
        ticket = next((t for t in found if t.epoch is None), found[0] if found else None)
        return None if ticket is None else Viewer.of(ticket, now)

    def viewer_below(self, request: web.BaseRequest, cluster: str, key: str) -> Viewer | None:
        """Return who shows a valid ticket for this cluster, below the gateway's own host; None when nobody does.

        There its page can do what the browser's session can, or its remembered password: both must be those of the
        owner, whom alone the ticket is given to, and passwords get none.
        """
        if "Authorization" in request.headers:
            return None
        for ticket in self._tickets(request, cluster, key, f"{TICKET_COOKIE}-{cluster}"):
            if ticket.epoch is None and bears_session(ticket.session, partial(cookies_of, request.headers)):
                return Viewer.of(ticket, self._clock())
        return None

    def came_by_link(self, request: web.BaseRequest, cluster: str, key: str) -> bool:
        """Whether the request bears a ticket that a link gave, perhaps of an earlier share epoch."""
        return any(t.user.startswith(LINK_USER) for t in self._tickets(request, cluster, key, TICKET_COOKIE))

    def _tickets(self, request: web.BaseRequest, cluster: str, key: str, cookie: str) -> Iterator[Ticket]:
        """Yield the lasting tickets in a cookie: another host of the same domain may have planted a second one."""
        now = self._clock()
        for text in [text for name in cookie_names(cookie) for text in cookies_of(request.headers, name)]:
            ticket = verify(text, cluster, key, now)
            if ticket is not None and not ticket.once and not self.has_ended(ticket.by):
                yield ticket

    def exchange(
        self, request: web.BaseRequest, cluster: str, key: str, epoch: int, scheme: str
    ) -> web.Response | None:
        """Exchange the one-time ticket in the query for a cookie; None when it is not worth one."""
        now = self._clock()
        ticket = verify(request.query.get("ticket", ""), cluster, key, now)
        following = next_path(request)
        good = ticket is not None and ticket.once and not ticket.is_over(epoch)
        good = ticket is not None and good and not self.has_ended(ticket.by)
        if ticket is None or not good or not self._used.claim(ticket.once, ticket.expires_at):
            # Someone goes back in the browser's history: the link is used, the cookie is there.
            return answers.redirect(following) if self.viewer(request, cluster, key, epoch) else None
        seconds = cookie_seconds(ticket.user)
        if ticket.until is not None:
            seconds = min(seconds, ticket.until - now)
        lasting = sign(replace(ticket, expires_at=now + seconds, once=""), key)
        secure = "; Secure" if scheme == "https" else ""
        attributes = f"Max-Age={seconds:.0f}; Path=/; HttpOnly; SameSite=Lax{secure}"
        return answers.redirect(following, cookie=f"{cookie_name(TICKET_COOKIE, scheme)}={lasting}; {attributes}")


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
