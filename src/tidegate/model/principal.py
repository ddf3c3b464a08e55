"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class Scope(str, Enum):
    """What a credential is good for."""

    FULL = "full"
    READ_ONLY = "read-only"
    """To see and read: it changes nothing, connects to nothing and makes no other credentials."""
    METRICS = "metrics"
    """To read the figures for monitoring, if its owner is an administrator: nothing else, of nobody."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who has proved who they are.

    Parameters
    ----------
    name : str
        The user's name, as the authenticator knows it.
    groups : frozenset of str
        The groups that the authenticator vouches for.
    admin : bool
        Whether the user administers this gateway.
    method : str
        Which authenticator vouched (for the log): ``token``, ``session``, ...
    scope : Scope
        What the credential is good for by which they proved it.
    token : str
        The personal token that it all goes back to, by its id; also in a session that was begun with one. Empty where
        there is none.
    until : float or None
        When the token expires by which they proved it (a personal one, or a provider's), in seconds since the epoch:
        nothing that is made with it may be good for longer. None for never, and where there is none.
    actor : str
        The administrator who acts on behalf of this principal; empty where they act themselves.
    server : str
        The notebook server of a JupyterHub whose token they proved it by, as the Hub writes it (``alice/``,
        ``alice/gpu``); empty where it was none.
    origin : str
        Where ``method`` is only what came of a login (a session, a personal token): which authenticator vouched then.
        Empty where that is not known, and where ``method`` says it.
    """

    name: str
    groups: frozenset[str] = field(default_factory=frozenset)
    admin: bool = False
    method: str = "token"
    scope: Scope = Scope.FULL
    token: str = ""
    until: float | None = None
    actor: str = ""
    server: str = ""
    origin: str = ""

    @property
    def first_method(self) -> str:
        """Which authenticator it all goes back to.

        >>> Principal("bob", method="session", origin="oidc").first_method
        'oidc'
        """
        return self.origin or self.method

    @property
    def who(self) -> str:
        """Who does what is done, in words.

        >>> Principal("bob", actor="alice").who
        'alice, on behalf of bob'
        """
        return f"{self.actor}, on behalf of {self.name}" if self.actor else self.name


@dataclass(frozen=True, slots=True)
class Token:
    """A personal credential, as it is kept: of the secret itself only a hash is stored.

    ``principal`` is who it was made for, as far as that is stored: name, groups, role, and as ``method`` the one by
    which they had logged in (``token`` where that is not known). ``used_at`` is when it was last presented, to the day
    (of UTC): the first time that day, None for never.
    """

    id: str
    principal: Principal
    label: str
    created_at: float
    expires_at: float | None = None
    scope: Scope = Scope.FULL
    used_at: float | None = None

    @property
    def bearer(self) -> Principal:
        """Who presents it."""
        made = self.principal
        origin = "" if made.method == "token" else made.method
        return replace(made, method="token", origin=origin, scope=self.scope, token=self.id, until=self.expires_at)
