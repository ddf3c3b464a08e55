"""Dashboard tickets: who may look at which cluster's dashboard until when, signed.

Control makes them, the proxies check them without asking anyone: both hold the cluster's ticket key, so a ticket ends
with its cluster. The cluster itself does not hold it: what its own processes could sign would let their owner's pages
into anyone's browser. A ticket is ``<payload>.<signature>``, both base64url without padding; the payload is compact
JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

OPEN_SECONDS = 60.0
"""Lifetime of the one-time ticket in a URL: the time of one redirect on a slow line."""

COOKIE_SECONDS = 12 * 3600.0
"""Lifetime of the cookie that it is exchanged for: a working day; then the browser goes through the console again."""

CLOCK_SECONDS = 60.0
"""How far the clock of who checks may be behind that of who signed."""

_COOKIE_PREFIXES = ("", "__Secure-", "__Host-")
"""Browsers demand more of cookies with these (RFC 6265bis, 4.1.3); the name behind them is the same."""


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
    """

    cluster: str
    user: str
    expires_at: float
    once: str = ""
    session: str = ""


def sign(ticket: Ticket, ticket_key: str) -> str:
    """Return the text form of ``ticket``."""
    content = [ticket.cluster, ticket.user, ticket.expires_at, ticket.once, ticket.session]
    body = _encode(json.dumps(content, separators=(",", ":")).encode())
    return f"{body}.{_encode(_mac(body, ticket_key))}"


def verify(text: str, cluster: str, ticket_key: str, now: float) -> Ticket | None:
    """Return the ticket if it is genuine, for this cluster, not expired and not for longer than any is, else None."""
    body, _, signature = text.partition(".")
    try:
        given = _decode(signature)
        if not hmac.compare_digest(given, _mac(body, ticket_key)):
            return None
        name, user, expires_at, once, session = json.loads(_decode(body))
    except (ValueError, TypeError):
        return None
    longest = (OPEN_SECONDS if once else COOKIE_SECONDS) + CLOCK_SECONDS
    # JSON of Python's knows NaN and Infinity: neither is between two numbers.
    if name != cluster or not isinstance(expires_at, int | float) or not now < expires_at <= now + longest:
        return None
    return Ticket(name, str(user), float(expires_at), str(once), str(session))


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
    values = [value for prefix in _COOKIE_PREFIXES for value in cookies(prefix + name)]
    return bool(values) and all(hmac.compare_digest(session_mark(name, value), mark) for value in values)


def _mac(body: str, ticket_key: str) -> bytes:
    key = hmac.digest(ticket_key.encode(), b"tidegate dashboard ticket", hashlib.sha256)
    return hmac.digest(key, body.encode("ascii", "replace"), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii", "strict") + b"=" * (-len(text) % 4))
