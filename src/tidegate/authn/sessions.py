"""Browser sessions: a signed cookie that says who logged in, and until when that holds.

Nothing is kept on the server: any control process that has the key can read a session, also after a restart. The price
is that a session is hard to call back before it expires, so it lives for a working day and no longer. Whoever logs out
ends theirs: the process remembers that, as long as it lives, for the case that somebody has a copy of the cookie.

A session that was begun with a personal token is worth what the token is: it has its scope and ends with it, also when
it is revoked (``PersonalTokens.still_vouches_for``). What is sealed is what the authenticator said. Groups and roles
that the configuration gives are added whenever a session is read (``roster.py``), so who loses them loses them at once.

A browser sends cookies by itself, also when a foreign page makes it send a request. So a session alone is never enough
to change something: ``api/access.py`` demands that the request comes from a page of this gateway.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable

from tidegate.model.principal import Principal, Scope

SESSION_SECONDS = 12 * 3600.0
"""A working day: whoever logs in in the morning is not asked again before the evening."""


class Sessions:
    """Makes and reads session cookies.

    Parameters
    ----------
    key : callable
        Returns a secret that all control processes of this gateway share, at least 32 bytes. When it is another one,
        all sessions have ended.
    clock : callable
        Returns the time in seconds since the epoch.
    """

    def __init__(self, key: Callable[[], bytes], clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self._clock = clock
        self._ended: dict[str, float] = {}

    def cookie_name(self, scheme: str, prefix: str) -> str:
        """Return the cookie's name; its first part makes browsers enforce what we ask (RFC 6265bis, 4.1.3).

        ``__Host-`` binds it to this host and demands ``Path=/``. Under a path prefix other services live on the same
        host, and must not be sent our cookie: there it is ``__Secure-`` with the prefix as its path.
        """
        start = "" if scheme != "https" else "__Secure-" if prefix else "__Host-"
        # Cookies do not know ports: two gateways on one host must not overwrite each other's.
        return f"{start}tidegate-{self._mac(b'name').hex()[:8]}"

    def seal(self, principal: Principal) -> str:
        """Return the cookie's value for a session of ``principal`` that begins now."""
        until = self._clock() + SESSION_SECONDS
        who = [principal.name, sorted(principal.groups), principal.admin]
        by = [principal.scope.value, principal.token, principal.until]
        body = base64.urlsafe_b64encode(json.dumps([until, *who, *by], separators=(",", ":")).encode()).decode()
        return f"{body}.{self._sign(body)}"

    def read(self, value: str | None) -> Principal | None:
        """Return whose session this is, or None when it is forged, expired or no session at all."""
        body, _, signature = (value or "").partition(".")
        if not hmac.compare_digest(self._sign(body).encode(), signature.encode("utf-8", "replace")):
            return None
        until, name, groups, admin, scope, token, token_until = json.loads(base64.urlsafe_b64decode(body))
        if min(until, token_until or until) <= self._clock() or signature in self._ended:
            return None
        return Principal(name, frozenset(groups), admin, "session", Scope(scope), token, token_until)

    def end(self, value: str | None) -> None:
        """End a session now."""
        until, now = self.end_of(value), self._clock()
        if until is not None:
            self._ended = {known: at for known, at in self._ended.items() if at > now}
            self._ended[(value or "").partition(".")[2]] = until

    def end_of(self, value: str | None) -> float | None:
        """Return when a session ends, in seconds since the epoch; None where there is none."""
        if self.read(value) is None:
            return None
        until, *_, token_until = json.loads(base64.urlsafe_b64decode((value or "").partition(".")[0]))
        return float(min(until, token_until or until))

    def _sign(self, body: str) -> str:
        return self._mac(body.encode("utf-8", "replace")).hex()

    def _mac(self, text: bytes) -> bytes:
        key = hmac.digest(self._key(), b"tidegate console session 3", hashlib.sha256)
        return hmac.digest(key, text, hashlib.sha256)
