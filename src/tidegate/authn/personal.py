"""What users can ask about their personal tokens: make, list, revoke.

A token never passes on more than its maker has at the time: one that was made with a token is neither wider nor longer
lived than that. Where another service vouches for a program (a token of JupyterHub, a ticket of Kerberos), nobody tells
us for how long: what is made with that has a bound of its own. What is stored with a token is the user's name and the
groups that an authenticator vouched for, never a role (see ``roster.py``).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from tidegate.authn.entries import ends_nothing
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import TokenAuthenticator, TokenStore, mint_token
from tidegate.model.errors import Invalid, LimitReached, NotAllowed, NotVisible
from tidegate.model.labels import check_label
from tidegate.model.principal import Principal, Scope, Token

DAY = 86400.0

BY_SERVICE = ("jupyterhub", "kerberos")
"""Methods by which a program shows a credential that has an end, and does not say when."""

MOST = 100
"""Tokens of one user. A program that makes one whenever it runs is told so before the list is of no use."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long tokens are good, in seconds: when nothing is said, at the most, and at the most if they are made with a
    credential of another service, whose end is not known."""

    default: float = 90 * DAY
    longest: float = 366 * DAY
    by_service: float = 30 * DAY


class PersonalTokens:
    """The personal tokens, as their owners see them.

    Parameters
    ----------
    store : TokenStore
    authenticator : TokenAuthenticator
        Forgets what is revoked.
    roster : Roster
        Knows what of a user is not to be stored.
    lifetimes : Lifetimes
    clock : callable
        Returns the time in seconds since the epoch.
    revoked : callable
        Ends what is open because of a token (its id) that is no more.
    """

    def __init__(
        self,
        store: TokenStore,
        authenticator: TokenAuthenticator,
        roster: Roster,
        lifetimes: Lifetimes,
        clock: Callable[[], float] = time.time,
        revoked: Callable[[str], Awaitable[None]] = ends_nothing,
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._roster = roster
        self._clock = clock
        self._revoked = revoked
        self.lifetimes = lifetimes

    async def create(
        self, principal: Principal, label: str, *, days: float | None = None, scope: Scope = Scope.FULL
    ) -> tuple[Token, str]:
        """Make a token for ``principal`` and return it with its secret, which nobody can read again.

        Parameters
        ----------
        label : str
            What it is for (``model.labels``).
        days : float, optional
            How long it is good.
        scope : Scope
            What it is good for.

        Raises
        ------
        Invalid
            When there is no such label, or none is good for so long.
        NotAllowed
            When it would be wider or live longer than the token that it is asked for with.
        """
        now = self._clock()
        if principal.scope is not Scope.FULL:
            raise NotAllowed("cannot make a token with a read-only one")
        if principal.actor:
            # It would go on acting as them, without a trace.
            raise NotAllowed(f"cannot make a token on behalf of {principal.name}: only {principal.name} can")
        label = check_label(label, "make a token")
        expires_at = self._end(principal, days, now)
        await self._make_room(principal.name, now)
        stored = self._roster.to_store(principal)
        return await mint_token(self._store, stored, label, now=now, expires_at=expires_at, scope=scope)

    def _end(self, principal: Principal, days: float | None, now: float) -> float:
        longest = self.lifetimes.longest / DAY
        if days is not None and not 0 < days <= longest:
            raise Invalid(
                f"cannot make a token for {days:g} days: here one is good for at most {longest:g} days", field="days"
            )
        expires_at = now + (self.lifetimes.default if days is None else days * DAY)
        until = principal.until
        if until is None and principal.method in BY_SERVICE:
            until = now + self.lifetimes.by_service
            if days is not None and expires_at > until:
                raise NotAllowed(
                    f"cannot make a token for {days:g} days with a credential of {principal.method}: at most "
                    f"{self.lifetimes.by_service / DAY:g} days. Log in by the console to make one for longer"
                )
        if until is None or expires_at <= until:
            return expires_at
        if days is None:
            return until
        left = (until - now) / DAY
        raise NotAllowed(
            f"cannot make a token for {days:g} days: the one that it is asked for with expires in {left:.3g} days. "
            "Log in another way to make one that is good for longer"
        )

    async def _make_room(self, user: str, now: float) -> None:
        """Remove what has expired, and see that there are not too many."""
        tokens = await self._store.list_tokens(user)
        expired = [token for token in tokens if token.expires_at is not None and token.expires_at <= now]
        if len(tokens) - len(expired) >= MOST:
            raise LimitReached(f"cannot make another token: {user} has {MOST}, the most there may be. Revoke some")
        for token in expired:
            await self._store.remove_token(token.id)

    async def list(self, principal: Principal, user: str | None = None) -> list[Token]:
        """Return the tokens of ``principal``, or for an administrator those of ``user``, newest first."""
        tokens, now = await self._store.list_tokens(self._whose(principal, user)), self._clock()
        # The one that it is asked with is in use, whether or not that is written down yet.
        return [replace(token, used_at=now) if token.id == principal.token else token for token in tokens]

    async def revoke(self, principal: Principal, token_id: str, user: str | None = None) -> None:
        """Remove a token of ``principal``, or for an administrator one of ``user``; it is refused from now on.

        Raises
        ------
        NotVisible
            When they have none of this id.
        """
        known = await self.list(principal, user)
        if not any(token.id == token_id for token in known) or not await self._authenticator.revoke(token_id):
            raise NotVisible("cannot find this token: there is none of this id, or it is not yours")
        await self._revoked(token_id)

    async def still_vouches_for(self, principal: Principal) -> bool:
        """Return whether the token that a session was begun with is still there; True where there was none."""
        if not principal.token:
            return True
        return any(token.id == principal.token for token in await self._store.list_tokens(principal.name))

    def _whose(self, principal: Principal, user: str | None) -> str:
        if user is None or user == principal.name:
            return principal.name
        if not principal.admin:
            raise NotAllowed("cannot look after the tokens of other users: that is for administrators")
        return user
