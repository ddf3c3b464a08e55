"""The protocol of an authenticator, read first.

An authenticator turns the ``Authorization`` header of a request into a ``Principal``, or says that it does not know.
It never tells *what* was wrong (the caller answers every failure in the same words), compares secrets in constant time,
and keeps no secret in memory longer than the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tidegate.model.principal import Principal


@dataclass(frozen=True, slots=True)
class Presented:
    """What a caller presented: the scheme in lower case (``basic``, ``bearer``, ...) and what follows, undecoded."""

    scheme: str
    value: str

    def __repr__(self) -> str:
        return f"Presented(scheme={self.scheme!r})"


def parse_authorization(header: str | None) -> Presented | None:
    """Split an ``Authorization`` header; None for an absent or malformed one.

    >>> parse_authorization("Bearer abc")
    Presented(scheme='bearer')
    >>> parse_authorization("nonsense") is None
    True
    """
    if not header:
        return None
    scheme, _, value = header.strip().partition(" ")
    if not value or not scheme.isascii():
        return None
    return Presented(scheme.lower(), value.strip())


class Authenticator(Protocol):
    """One way to prove who one is."""

    scheme: str
    """The scheme that ``WWW-Authenticate`` names, such as ``Basic``."""

    async def authenticate(self, presented: Presented) -> Principal | None:
        """Return who presents this, or None when it is not theirs to judge or not right."""
