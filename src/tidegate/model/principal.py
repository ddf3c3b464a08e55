"""Who is asking."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """

    name: str
    groups: frozenset[str] = field(default_factory=frozenset)
    admin: bool = False
    method: str = "token"


@dataclass(frozen=True, slots=True)
class Token:
    """A personal credential, as it is kept: of the secret itself only a hash is stored."""

    id: str
    principal: Principal
    label: str
    created_at: float
    expires_at: float | None = None
