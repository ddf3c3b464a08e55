"""The protocols of authenticators, read first.

Every authenticator turns the ``Authorization`` header of a request into a ``Principal``, or says that it does not know.
It never tells *what* was wrong (the caller answers every failure in the same words), compares secrets in constant time,
and keeps no secret in memory longer than the call.

Some can also log a person in: by a name and a password in a form of ours (``PasswordLogin``), or by sending the browser
to a page of theirs, from which it comes back (``BrowserLogin``), or by a code that a terminal shows (``DeviceLogin``).
The console offers what an authenticator can do.

One that keeps the people itself can say at any time whether somebody is still among them (``KeepsUsers``): then their
sessions and personal tokens end when they are not.

Which groups and which administrators the *configuration* names is not theirs to know: see ``roster.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from tidegate.model.errors import NotAllowed
from tidegate.model.principal import Principal


@dataclass(frozen=True, slots=True)
class Presented:
    """What a caller presented: the scheme in lower case (``basic``, ``bearer``, ...), what follows, undecoded, and from
    which address; empty where that is not known."""

    scheme: str
    value: str
    client: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"Presented(scheme={self.scheme!r})"


def parse_authorization(header: str | None, client: str = "") -> Presented | None:
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
    return Presented(scheme.lower(), value.strip(), client)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A credential that was found right.

    Parameters
    ----------
    principal : Principal
        Whose it is.
    reply : str or None
        What the answer to the request must carry in ``WWW-Authenticate``, whether it succeeds or not: the proof by
        which the caller knows *us* (mutual authentication, RFC 4559).
    """

    principal: Principal
    reply: str | None = field(default=None, repr=False)


class NotAdmitted(NotAllowed):
    """Somebody is known, but may not use this gateway. The answer carries the same ``reply`` as a good one."""

    def __init__(self, message: str, *, reply: str | None = None) -> None:
        super().__init__(message)
        self.reply = reply


class Authenticator(Protocol):
    """One way to prove who one is.

    A class declares its settings as ``Settings``, a pydantic model, and is made from the data folder and these
    settings: ``Kind(data, settings=...)``.
    """

    scheme: str
    """The scheme that ``WWW-Authenticate`` names, such as ``Basic``."""

    async def start(self) -> None:
        """Get ready; raise a ``TidegateError`` that says what to do when it cannot work."""

    async def close(self) -> None:
        """Let go of what it holds."""

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return who presents this, or None when it is not theirs to judge or not right.

        Raises
        ------
        Busy
            When whoever has to be asked does not answer: nobody may take that for a wrong credential.
        NotAdmitted
            When it is right and known, but not for this gateway; the words say what to do.
        """


@runtime_checkable
class PasswordLogin(Protocol):
    """Knows people by a name and a password."""

    async def check_password(self, username: str, password: str, client: str = "") -> Principal | None:
        """Return who that is, or None. Among those who ask from different addresses nobody waits for all others."""


@runtime_checkable
class KeepsUsers(Protocol):
    """Keeps the people itself whom it knows, so that it need ask nobody whether somebody is still among them."""

    def entries(self) -> Mapping[str, str]:
        """Return who they are: to each name a text, which no other has, and which is another one as soon as password or
        groups are. It is asked with each request; from a text nothing can be guessed.

        Raises
        ------
        TidegateError
            When nobody knows at the moment.
        """


@dataclass(frozen=True, slots=True)
class Begun:
    """A login by another page that has begun.

    Parameters
    ----------
    url : str
        Where the browser is sent.
    secret : str
        What ``complete`` needs besides what the browser brings back; kept in a sealed cookie of that browser.
    """

    url: str
    secret: str = field(repr=False)


@runtime_checkable
class BrowserLogin(Protocol):
    """Knows people by a page of theirs, to which their browser is sent (OAuth, OpenID Connect)."""

    label: str
    """Who is behind it, as the login page says: "Log in with <label>"."""

    async def begin(self, redirect_uri: str) -> Begun:
        """Return where to send a browser that is to come back to ``redirect_uri``."""

    async def complete(self, redirect_uri: str, secret: str, query: Mapping[str, str]) -> Principal:
        """Return who came back.

        Raises
        ------
        LoginFailed
            With a sentence for the person.
        """


@dataclass(frozen=True, slots=True)
class BegunDevice:
    """A login in a terminal that has begun: what it shows, and what is needed to complete it.

    Parameters
    ----------
    user_code : str
        What the person types ...
    page : str
        ... into this page, in any browser.
    whole_page : str or None
        The same page with the code in it, where there is one.
    seconds : float
        How long that is possible.
    interval : float
        Seconds between two questions whether they have.
    secret : str
        What ``complete_device`` needs.
    """

    user_code: str
    page: str
    whole_page: str | None
    seconds: float
    interval: float
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody has typed the code yet; ``slower`` if the question came too soon."""

    slower: bool = False


@runtime_checkable
class DeviceLogin(Protocol):
    """Knows people by a page of theirs, into which they type a code that a terminal shows (RFC 8628)."""

    async def begin_device(self) -> BegunDevice | None:
        """Begin a login; None where that is not possible."""

    async def complete_device(self, secret: str) -> Principal | Waiting:
        """Return who has typed the code, or that nobody has yet.

        Raises
        ------
        LoginFailed
            When nobody will; the sentence is for the person.
        """
