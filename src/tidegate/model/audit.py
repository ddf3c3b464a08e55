"""The audit log: who did what to which cluster, from where, and what came of it.

An entry tells of one *deed*, by one of the words below; what the deed was about besides (a size, a grantee, the id of a
token) stands in ``detail``, in words. It is never told with what secret, and what a caller has written is cleaned
before it becomes part of an entry: one line, not long.

What only looks and is asked for again and again (lists, one cluster, events) is not told. That somebody was *refused*
always is, under ``READ`` where nothing else fits. Refusals can be made by the million, so equal ones of a minute are
one entry that says how many (``times``), and beyond a bound they are no longer told apart (``VARIOUS``); see
``control/audit.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

LONGEST = 200
"""Characters of a text in an entry: more than any name has that the gateway gives, and no room to write novels in."""


class Deed(str, Enum):
    """What somebody did, or tried to do. The words are promises; the docs list them from here."""

    CLUSTER_CREATE = "cluster.create"
    CLUSTER_SCALE = "cluster.scale"
    """By hand, or to let the load decide."""
    CLUSTER_KEEP = "cluster.keep"
    CLUSTER_STOP = "cluster.stop"
    LIMIT_SET = "limit.set"
    """Of one cluster, or of whom it is for."""
    LIMIT_UNSET = "limit.unset"
    SHARE_GIVE = "share.give"
    SHARE_WITHDRAW = "share.withdraw"
    LINK_MAKE = "link.make"
    LINK_WITHDRAW = "link.withdraw"
    CREDENTIALS_READ = "credentials.read"
    """What one connects to a cluster with was handed out."""
    DASHBOARD_OPEN = "dashboard.open"
    """A browser was given a ticket, or a program was let in."""
    LOGS_READ = "logs.read"
    TOKEN_CREATE = "token.create"  # noqa: S105 - a word
    TOKEN_REVOKE = "token.revoke"  # noqa: S105
    LOGIN = "login"
    LOGOUT = "logout"
    BEHALF_BEGIN = "behalf.begin"
    """An administrator goes on, in the console, on behalf of a user."""
    BEHALF_END = "behalf.end"
    READ = "read"
    """Anything that only shows; told when it was refused."""
    REPORT = "agent.report"
    """What the agent of a cluster says and asks; told when it was refused."""
    VARIOUS = "various"
    """So many things in one minute that they were only counted."""

    @property
    def quiet(self) -> bool:
        """Whether it is only told when it was refused."""
        return self in (Deed.READ, Deed.REPORT)

    @property
    def changes(self) -> bool:
        """Whether it changes something, or lets somebody in or out."""
        return not self.quiet and self not in (Deed.CREDENTIALS_READ, Deed.DASHBOARD_OPEN, Deed.LOGS_READ)


class Outcome(str, Enum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"
    """The caller was not known, not entitled, or too eager; what they may not see counts too."""
    FAILED = "failed"
    """The caller was entitled; it could not be done, or what was asked makes no sense."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the audit log.

    Parameters
    ----------
    at : float
        Seconds since the epoch.
    deed : Deed
    outcome : Outcome
    code : str
        Of the error, where it was not done.
    principal : str
        Who it was. Where ``method`` is empty, nobody has proved it: it is the name that was given at a login.
    actor : str
        The administrator who acted on behalf of ``principal``.
    method : str
        How they proved it: by which authenticator, ``token``, ``session``, ...
    token : str
        The personal token that it goes back to, by its id.
    cluster : str
        The name of the cluster that it was done to.
    detail : str
        What it was about besides, in words.
    address : str
        The client's address.
    times : int
        How often, within a minute.
    """

    at: float
    deed: Deed
    outcome: Outcome
    code: str = ""
    principal: str = ""
    actor: str = ""
    method: str = ""
    token: str = ""
    cluster: str = ""
    detail: str = ""
    address: str = ""
    times: int = 1


@dataclass(frozen=True, slots=True)
class RecordedEntry:
    """An entry as the store keeps it: numbered, ascending, never reused."""

    id: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries somebody wants to read; what is None or empty does not matter.

    Parameters
    ----------
    user : str
        Who did it, themselves or on behalf of somebody, or on whose behalf it was done.
    cluster : str
    deed : Deed or None
    outcome : Outcome or None
    since : float or None
        Not older than that, in seconds since the epoch.
    """

    user: str = ""
    cluster: str = ""
    deed: Deed | None = None
    outcome: Outcome | None = None
    since: float | None = None


def clean(text: str) -> str:
    """Return a text from outside as it may stand in the log.

    >>> clean("alice\\r\\nroot logged in")
    'alice??root logged in'
    """
    shown = "".join(c if c.isprintable() else "?" for c in text[:LONGEST])
    return shown + "..." if len(text) > LONGEST else shown
