"""Personal tokens: a random secret that the store keeps as a hash.

A caller presents one as ``Authorization: Bearer <secret>``, or as the password of ``Basic`` beside the name that it
belongs to (that is how the official dask-gateway client sends it).

A look into the store costs half a millisecond and every request makes one, so an answer is remembered for
``CACHE_SECONDS``, under the hash of the secret. Only right answers are: wrong secrets can be made up without end and
must not push right ones out, and a token that was minted this moment must work in this moment. A token that is revoked
here (``TokenAuthenticator.revoke``) is forgotten at once; one that another process revokes works until its answer is
forgotten, hence the few seconds.

When a token was last used is written down once a day, so that requests cost no write and a token that nobody uses is
found out. Nobody waits for that: where a database cannot be written, requests that only read go on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from tidegate.authn.base import Accepted, Presented
from tidegate.model.errors import TidegateError
from tidegate.model.principal import Principal, Scope, Token

log = logging.getLogger(__name__)

SECRET_PREFIX = "tdg_"  # noqa: S105 - what scanners for leaked secrets look for, not a secret
"""How every secret begins, so that a scanner finds one that was committed by mistake (GitHub's have ``ghp_``)."""

SECRET = re.compile(SECRET_PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)
"""43 characters of base64url are 256 random bits. What has another form is refused without asking the store."""

CACHE_SECONDS = 3.0
"""For how long an answer is remembered. A revoked token must be refused within 5 s."""

DAY = 86400.0
"""How exactly the last use of a token is known, in seconds: enough to tell whether anybody still needs it."""

RETRY_SECONDS = 60.0
"""After how long a use may be written down again that could not be."""

CACHE_SIZE = 10_000
"""How many answers are remembered at the most: about 5 MB."""


class TokenStore(Protocol):
    """What is asked of the store here."""

    async def add_token(self, token: Token, secret: str) -> None:
        """Record a token under the hash of its secret."""

    async def find_token(self, secret: str) -> Token | None:
        """Return the token that this secret belongs to, expired or not, or None."""

    async def list_tokens(self, principal: str) -> list[Token]:
        """Return the tokens of one principal, newest first."""

    async def note_use(self, token_id: str, at: float) -> None:
        """Record when a token was last used; nothing happens if it is gone, or a later use is on record."""

    async def remove_token(self, token_id: str) -> bool:
        """Delete a token; return whether it was there."""


class TokenAuthenticator:
    """Knows callers by their personal tokens.

    Parameters
    ----------
    store : TokenStore
        Where the tokens are.
    clock : callable
        Returns the time in seconds since the epoch.
    """

    scheme = "Basic"

    def __init__(self, store: TokenStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Token, Accepted, float]] = OrderedDict()
        self._revocations = 0
        self._noted: dict[str, float] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Nothing is to be made ready."""

    async def close(self) -> None:
        """Write no more. A use that is not on record is one of today: there will be another."""
        noting = list(self._noting)
        for task in noting:
            task.cancel()
        await asyncio.gather(*noting, return_exceptions=True)

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return whose token is presented, or None."""
        if presented.scheme == "bearer":
            username, secret = None, presented.value.encode("utf-8", "replace")
        elif presented.scheme == "basic":
            username, secret = _split_basic(presented.value)
        else:
            return None
        found = await self._find(secret)
        if found is None:
            return None
        token, accepted = found
        if username is not None and not _is_name_of(token.principal, username):
            return None
        self._note_use(token)
        return accepted

    async def _find(self, secret: bytes) -> tuple[Token, Accepted] | None:
        text = secret.decode("ascii", "replace")
        if not SECRET.fullmatch(text):
            return None
        digest = hashlib.sha256(secret).digest()
        now = self._clock()
        known = self._known.get(digest)
        if known is not None and known[2] > now:
            token, accepted, _ = known
        else:
            self._known.pop(digest, None)
            revocations = self._revocations
            stored = await self._store.find_token(text)
            if stored is None:
                return None
            token, accepted = stored, Accepted(stored.bearer)
            # What was read while a token was revoked may be that token: it is not remembered.
            if revocations == self._revocations:
                self._remember(digest, token, accepted, now)
        if token.expires_at is not None and token.expires_at <= now:
            return None
        return token, accepted

    def _note_use(self, token: Token) -> None:
        now = self._clock()
        if now // DAY <= max(token.used_at or 0.0, self._noted.get(token.id, 0.0)) // DAY:
            return
        if len(self._noted) >= CACHE_SIZE:
            self._noted.clear()
        self._noted[token.id] = now
        task = asyncio.create_task(self._write_use(token.id, now))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _write_use(self, token_id: str, now: float) -> None:
        try:
            await self._store.note_use(token_id, now)
        except TidegateError as error:
            log.info("cannot note that token %s is in use: %s", token_id, error.message)
            await asyncio.sleep(RETRY_SECONDS)
            self._noted.pop(token_id, None)

    def _remember(self, digest: bytes, token: Token, accepted: Accepted, now: float) -> None:
        self._known[digest] = (token, accepted, now + CACHE_SECONDS)
        if len(self._known) > CACHE_SIZE:
            self._known.popitem(last=False)

    async def revoke(self, token_id: str) -> bool:
        """Remove a token; when this returns, it is refused here. Return whether it was there."""
        self._revocations += 1
        try:
            return await self._store.remove_token(token_id)
        finally:
            self._revocations += 1
            self._known = OrderedDict((k, known) for k, known in self._known.items() if known[0].id != token_id)


def _split_basic(value: str) -> tuple[bytes, bytes]:
    """Return user name and password of a ``Basic`` credential, as bytes: clients do not agree on their encoding."""
    try:
        decoded = base64.b64decode(value.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        return b"", b""
    # From the right: a secret has no colon, while a name that came from elsewhere may have one.
    username, _, secret = decoded.rpartition(b":")
    return username, secret


def _is_name_of(principal: Principal, username: bytes) -> bool:
    """Compare in both encodings that clients send: UTF-8 (RFC 7617) and Latin-1 (the official dask-gateway client)."""
    names = [principal.name.encode("utf-8"), principal.name.encode("latin-1", "replace")]
    return any(hmac.compare_digest(name, username) for name in names)


async def mint_token(
    store: TokenStore,
    principal: Principal,
    label: str,
    *,
    now: float,
    expires_at: float | None = None,
    scope: Scope = Scope.FULL,
) -> tuple[Token, str]:
    """Make a token for ``principal``, record it, and return it with its secret, which nobody can read again.

    Parameters
    ----------
    label : str
        What it is for, to be recognised by in a list.
    now, expires_at : float
        Seconds since the epoch; without ``expires_at`` it stays good until it is removed.
    scope : Scope
        What it is good for.
    """
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    token = Token(secrets.token_hex(8), principal, label, now, expires_at, scope)
    await store.add_token(token, secret)
    return token, secret
