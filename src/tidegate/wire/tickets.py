"""Dashboard tickets: who may look at which cluster's dashboard until when, signed.

Control makes them, the proxies check them without asking anyone: the key is derived from the cluster's dashboard
secret, which both hold, so a ticket ends with its cluster. It is ``<payload>.<signature>``, both base64url without
padding; the payload is compact JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass

OPEN_SECONDS = 60.0
"""Lifetime of the one-time ticket in a URL: the time of one redirect on a slow line."""

COOKIE_SECONDS = 12 * 3600.0
"""Lifetime of the cookie that it is exchanged for: a working day; then the browser goes through the console again."""


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
    """

    cluster: str
    user: str
    expires_at: float
    once: str = ""


def sign(ticket: Ticket, dashboard_secret: str) -> str:
    """Return the text form of ``ticket``."""
    payload = json.dumps([ticket.cluster, ticket.user, ticket.expires_at, ticket.once], separators=(",", ":"))
    body = _encode(payload.encode())
    return f"{body}.{_encode(_mac(body, dashboard_secret))}"


def verify(text: str, cluster: str, dashboard_secret: str, now: float) -> Ticket | None:
    """Return the ticket if it is genuine, for this cluster and not expired, else None."""
    body, _, signature = text.partition(".")
    try:
        given = _decode(signature)
        if not hmac.compare_digest(given, _mac(body, dashboard_secret)):
            return None
        name, user, expires_at, once = json.loads(_decode(body))
    except (ValueError, TypeError):
        return None
    if name != cluster or not isinstance(expires_at, int | float) or expires_at <= now:
        return None
    return Ticket(name, str(user), float(expires_at), str(once))


def _mac(body: str, dashboard_secret: str) -> bytes:
    key = hmac.digest(dashboard_secret.encode(), b"tidegate dashboard ticket", hashlib.sha256)
    return hmac.digest(key, body.encode("ascii", "replace"), hashlib.sha256)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.encode("ascii", "strict") + b"=" * (-len(text) % 4))
