"""Dashboard tickets: who may look at which cluster's dashboard until when, signed; and links, which are good for one.

Control makes them, the proxies check them without asking anyone: both hold the cluster's ticket key, so a ticket ends
with its cluster. The cluster itself does not hold it: what its own processes could sign would let their owner's pages
into anyone's browser. A ticket is ``<payload>.<signature>``, both base64url without padding; the payload is compact
JSON.

What is shared can be withdrawn, and then at once: the ticket of anybody but the owner bears the cluster's share epoch
of the moment in which it was signed, and is worth nothing when that is over. A link's text has the form of a ticket;
it is signed with the same key for another purpose, so that neither can be taken for the other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

OPEN_SECONDS = 60.0
"""Lifetime of the one-time ticket in a URL: the time of one redirect on a slow line."""

COOKIE_SECONDS = 15 * 60.0
"""Lifetime of the cookie that it is exchanged for. Then the browser goes through the console again, which asks nobody
who is logged in: so soon is a new page refused to whoever may no longer see it. What is open goes on."""

LINK_COOKIE_SECONDS = 12 * 3600.0
"""The same for who came by a link, and has no console to go through: a working day. A link is withdrawn at once."""

CLOCK_SECONDS = 60.0
"""How far the clock of who checks may be behind that of who signed."""

LINK_USER = "link "
"""How the user of a ticket begins that a link gave; its id follows."""

_TICKET = b"tidegate dashboard ticket"
_LINK = b"tidegate dashboard link"
"""What keys are derived for: what is signed for one purpose is not genuine for the other."""

_COOKIE_PREFIXES = ("", "__Secure-", "__Host-")
"""Browsers demand more of cookies with these (RFC 6265bis, 4.1.3); the name behind them is the same."""


def cookie_name(name: str, scheme: str, *, path: bool = False) -> str:
    """Return the name under which a cookie is set that no other host of the same domain shall replace.

    ``__Host-`` demands ``Path=/``; a cookie for one path has to make do with ``__Secure-``.
    """
    return f"{_COOKIE_PREFIXES[1 if path else 2]}{name}" if scheme == "https" else name


def cookie_names(name: str) -> list[str]:
    """Return the names under which it may come, whatever the scheme."""
    return [prefix + name for prefix in _COOKIE_PREFIXES]


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says.

    Parameters
    ----------
    cluster : str
        The only cluster that it opens.
    user : str
        Whom it was given to.
    expires_at : float
        Seconds since the epoch.
    once : str
        For a ticket in a URL: a random word that a proxy accepts once; empty for a cookie.
    session : str
        For a ticket on the gateway's own host: the only session that it is good beside, from ``session_mark``.
    epoch : int or None
        The cluster's share epoch in which it is good; None for the owner, of whom nothing can be withdrawn.
    until : float or None
        When what is opened with it ends at the latest, in seconds since the epoch: with the session, the token or the
        link by which it was given. None for when it expires itself.
    by : tuple of str
        What vouched for its bearer: their session (as ``session_mark``), the token by which that began, their entry
        among the users (``authn/entries.py``). When one of them is ended, so is what is open.
    """

    cluster: str
    user: str
    expires_at: float
    once: str = ""
    session: str = ""
    epoch: int | None = None
    until: float | None = None
    by: tuple[str, ...] = ()

    @property
    def ends_at(self) -> float:
        """When what is opened with it ends."""
        return self.expires_at if self.until is None else self.until

    def is_over(self, share_epoch: int) -> bool:
        """Whether something was withdrawn since it was signed."""
        return self.epoch is not None and self.epoch < share_epoch


def sign(ticket: Ticket, ticket_key: str) -> str:
    """Return the text form of ``ticket``."""
    named = [ticket.cluster, ticket.user, ticket.expires_at, ticket.once, ticket.session]
    return _signed([*named, ticket.epoch, ticket.until, ticket.by], ticket_key, _TICKET)


def verify(text: str, cluster: str, ticket_key: str, now: float) -> Ticket | None:
    """Return the ticket if it is genuine, for this cluster, not expired and not for longer than any is, else None."""
    try:
        name, user, expires_at, once, session, epoch, until, by = _genuine(text, ticket_key, _TICKET)
    except (ValueError, TypeError):
        return None
    longest = OPEN_SECONDS if once else cookie_seconds(str(user))
    longest += CLOCK_SECONDS
    # JSON of Python's knows NaN and Infinity: neither is between two numbers.
    if name != cluster or not isinstance(expires_at, int | float) or not now < expires_at <= now + longest:
        return None
    if until is not None and not now < until:
        return None
    return Ticket(name, str(user), float(expires_at), str(once), str(session), epoch, until, tuple(by))


def cookie_seconds(user: str) -> float:
    """Return the lifetime of the cookie of a user."""
    return LINK_COOKIE_SECONDS if user.startswith(LINK_USER) else COOKIE_SECONDS


def sign_link(cluster: str, link: str, expires_at: float, ticket_key: str) -> str:
    """Return the text of a link to a cluster's dashboard: a secret, as good as a ticket until then."""
    return _signed([cluster, link, expires_at], ticket_key, _LINK)


def cluster_of_link(text: str) -> str | None:
    """Return which cluster a link says that it leads to, whether or not that is true."""
    try:
        cluster, _, _ = json.loads(_decode(text.partition(".")[0]))
    except (ValueError, TypeError, RecursionError):
        return None
    return cluster if isinstance(cluster, str) and cluster.isascii() and cluster.isprintable() else None


def verify_link(text: str, cluster: str, ticket_key: str, now: float) -> tuple[str, float] | None:
    """Return a link's id and when it expires, if it is genuine, for this cluster and not expired, else None."""
    try:
        name, link, expires_at = _genuine(text, ticket_key, _LINK)
    except (ValueError, TypeError):
        return None
    if name != cluster or not isinstance(expires_at, int | float) or not now < expires_at:
        return None
    return str(link), float(expires_at)


def session_mark(cookie: str, value: str) -> str:
    """Return what binds a ticket to a browser's session: the name of the session's cookie and a digest of its value."""
    for prefix in _COOKIE_PREFIXES[1:]:
        cookie = cookie.removeprefix(prefix)
    # Quotes around a cookie's value are its sender's affair (RFC 6265, 4.1.1).
    digest = hashlib.sha256(value.strip('"').encode("utf-8", "surrogateescape"))
    return f"{cookie}={digest.hexdigest()}"


def bears_session(mark: str, cookies: Callable[[str], Iterable[str]]) -> bool:
    """Whether a request bears the session that was marked, and no other.

    Another process on any port of this host can plant cookies in a browser. So one fitting session is not enough: the
    page would be shown beside the viewer's own.

    Parameters
    ----------
    mark : str
        From ``session_mark``; nothing fits an empty one.
    cookies : callable
        Returns all values of the request's cookies of a name.
    """
    name = mark.partition("=")[0]
    values = [value for known in cookie_names(name) for value in cookies(known)]
    return bool(values) and all(hmac.compare_digest(session_mark(name, value), mark) for value in values)


def _signed(content: list[Any], ticket_key: str, purpose: bytes) -> str:
    body = _encode(json.dumps(content, separators=(",", ":")).encode())
    return f"{body}.{_encode(_mac(body, ticket_key, purpose))}"


def _genuine(text: str, ticket_key: str, purpose: bytes) -> list[Any]:
    """Return what was signed; ValueError or TypeError when it was not signed with this key for this purpose."""
    body, _, signature = text.partition(".")
    if not hmac.compare_digest(_decode(signature), _mac(body, ticket_key, purpose)):
        raise ValueError("not genuine")
    content: list[Any] = json.loads(_decode(body))
    return content


def _mac(body: str, ticket_key: str, purpose: bytes) -> bytes:
    key = hmac.digest(ticket_key.encode(), purpose, hashlib.sha256)
    return hmac.digest(key, body.encode("ascii", "replace"), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii", "strict") + b"=" * (-len(text) % 4))
