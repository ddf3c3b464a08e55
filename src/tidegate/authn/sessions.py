"""Browser sessions: a signed cookie that says who logged in, and until when that holds.

Nothing is kept on the server: any control process that has the key can read a session, also after a restart. The price
is that a session is hard to call back before it expires, so it lives for a working day and no longer. Whoever logs out
ends theirs: the process remembers that, as long as it lives, for the case that somebody has a copy of the cookie.

A session that was begun with a personal token is worth what the token is: it has its scope and ends with it, also when
it is revoked (``PersonalTokens.still_vouches_for``). One begun with a password ends with that (``entries.py``). What
is sealed is what the authenticator said. Groups and roles that the configuration gives are added whenever a
session is read (``roster.py``), so who loses them loses them at once.

Whoever administers the gateway may act on behalf of a user for a while. That, too, is sealed in the session, so nobody
can put it there but us, and it ends with the session at the latest. Each time the session becomes another one
(``change``), and the one before is worth nothing any more.

A browser sends cookies by itself, also when a foreign page makes it send a request. So a session alone is never enough
to change something: ``api/access.py`` demands that the request comes from a page of this gateway.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tidegate.model.principal import Principal, Scope

SESSION_SECONDS = 12 * 3600.0
"""A working day: whoever logs in in the morning is not asked again before the evening."""


@dataclass(frozen=True, slots=True)
class Session:
    """What a session says.

    Parameters
    ----------
    principal : Principal
        Who has logged in.
    until : float
        When it ends, in seconds since the epoch.
    entry : str
        What their authenticator had of them then (``entries.py``); empty where it keeps nothing.
    behalf : str
        The user on whose behalf they act now, if they may; empty where they act themselves.
    """

    principal: Principal
    until: float
    entry: str = ""
    behalf: str = ""


class Sessions:
    """Makes and reads session cookies.

    Parameters
    ----------
    key : callable
        Returns a secret that all control processes of this gateway share, at least 32 bytes. When it is another one,
        all sessions have ended.
    clock : callable
        Returns the time in seconds since the epoch.
    seconds : float
        How long a session lasts.
    """

    def __init__(
        self, key: Callable[[], bytes], clock: Callable[[], float] = time.time, seconds: float = SESSION_SECONDS
    ) -> None:
        self._key = key
        self._clock = clock
        self.seconds = seconds
        self._ended: dict[str, float] = {}

    def cookie_name(self, scheme: str, prefix: str) -> str:
        """Return the cookie's name; its first part makes browsers enforce what we ask (RFC 6265bis, 4.1.3).

        ``__Host-`` binds it to this host and demands ``Path=/``. Under a path prefix other services live on the same
        host, and must not be sent our cookie: there it is ``__Secure-`` with the prefix as its path.
        """
        start = "" if scheme != "https" else "__Secure-" if prefix else "__Host-"
        # Cookies do not know ports: two gateways on one host must not overwrite each other's.
        return f"{start}tidegate-{self._mac(b'name').hex()[:8]}"

    def seal(self, principal: Principal, entry: str = "") -> str:
        """Return the cookie's value for a session of ``principal`` that begins now."""
        return self._seal(Session(principal, self._clock() + self.seconds, entry))

    def change(self, value: str, behalf: str) -> str:
        """Return the value of the same session in which its bearer acts on behalf of somebody, or themselves again.

        The one before has ended.
        """
        session = self.read(value)
        if session is None:
            raise ValueError("there is no such session")
        self.end(value)
        return self._seal(replace(session, behalf=behalf))

    def read(self, value: str | None) -> Session | None:
        """Return what a session says, or None when it is forged, expired, ended or no session at all."""
        body, _, signature = (value or "").partition(".")
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode("utf-8", "replace")):
            return None
        _, until, who, by, entry, behalf = json.loads(base64.urlsafe_b64decode(body))
        (name, groups, admin), (origin, scope, token, token_until) = who, by
        until = min(until, token_until or until)
        if until <= self._clock() or signature in self._ended:
            return None
        principal = Principal(
            name, frozenset(groups), admin, "session", Scope(scope), token, token_until, origin=origin
        )
        return Session(principal, until, entry, behalf)

    def end(self, value: str | None) -> None:
        """End a session now."""
        session, now = self.read(value), self._clock()
        if session is not None:
            self._ended = {known: at for known, at in self._ended.items() if at > now}
            self._ended[(value or "").partition(".")[2]] = session.until

    def _seal(self, session: Session) -> str:
        # No two are the same: one that was ended stays so, whatever is sealed anew.
        nonce, principal = secrets.token_urlsafe(12), session.principal
        who = [principal.name, sorted(principal.groups), principal.admin]
        by = [principal.first_method, principal.scope.value, principal.token, principal.until]
        content = [nonce, session.until, who, by, session.entry, session.behalf]
        body = base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()
        return f"{body}.{self._sign(body)}"

    def _sign(self, body: str) -> str:
        return self._mac(body.encode("utf-8", "replace")).hex()

    def _mac(self, text: bytes) -> bytes:
        key = hmac.digest(self._key(), b"tidegate console session 4", hashlib.sha256)
        return hmac.digest(key, text, hashlib.sha256)
