"""What an owner gives others on one cluster: a share for a user or a group, or a link to its dashboard.

Shares are part of the cluster's record, so they change with it, in one transaction with the events that tell of them,
and they go with it. Who may do what by them is decided in ``model/permissions.py``.

Whoever connects by a share has a certificate of their own, a *leaf*. The record knows of each which shares it stands
on; a leaf that has lost the last of them is withdrawn, for good: shared again, its user gets another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from tidegate.model.errors import Invalid
from tidegate.model.principal import Principal

LONGEST_NAME = 255
"""Characters of a user's or a group's name; what directories and OpenID Connect (5.7, 255) allow."""


class Right(str, Enum):
    """What a share allows."""

    VIEW = "view"
    """See the cluster, its dashboard and its logs."""
    USE = "use"
    """Connect to it besides: whoever computes on a cluster runs code in its owner's name."""


class GranteeKind(str, Enum):
    """Whom a share is for."""

    USER = "user"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Grantee:
    """A user or a group; written ``user:NAME`` and ``group:NAME``."""

    kind: GranteeKind
    name: str

    @classmethod
    def parse(cls, text: str) -> Grantee:
        """Read the written form.

        Raises
        ------
        Invalid
            It is not one.
        """
        kind, _, name = text.partition(":")
        kinds = {known.value: known for known in GranteeKind}
        if kind not in kinds:
            raise Invalid("cannot tell whom this is for: write user:NAME or group:NAME", field="grantee")
        if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            rule = f"1 to {LONGEST_NAME} printable characters, without blanks at either end"
            raise Invalid(f"cannot share with a {kind} of this name: a name has {rule}", field="grantee")
        return cls(kinds[kind], name)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}"

    def includes(self, principal: Principal) -> bool:
        """Whether ``principal`` is meant."""
        if self.kind is GranteeKind.GROUP:
            return self.name in principal.groups
        return self.name == principal.name


@dataclass(frozen=True, slots=True)
class Share:
    """What one grantee may do.

    Parameters
    ----------
    grantee : Grantee
    right : Right
    created_at : float
        Seconds since the epoch.
    created_by : str
        Name of the principal who gave it.
    """

    grantee: Grantee
    right: Right
    created_at: float
    created_by: str


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A link that opens one cluster's dashboard to whoever has it, until it expires or is withdrawn.

    Parameters
    ----------
    id : str
        Random, not secret: what it is withdrawn by. The link's secret is a signature that nobody stores.
    expires_at : float
        Seconds since the epoch.
    created_at : float
        Seconds since the epoch.
    created_by : str
        Name of the principal who made it.
    label : str
        What it is for, in its maker's words.
    """

    id: str
    expires_at: float
    created_at: float
    created_by: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class ClientLeaf:
    """A certificate by which somebody connects to a cluster that is not theirs.

    Parameters
    ----------
    serial : str
        Its serial number, hexadecimal; not secret.
    user : str
        Whom it was made for.
    grantees : tuple of Grantee
        Those of the cluster's grantees that included them when it was made: it is good for as long as one of them may
        use the cluster.
    withdrawn : bool
        Whether the scheduler is to refuse it.
    """

    serial: str
    user: str
    grantees: tuple[Grantee, ...]
    withdrawn: bool = False


def grantees_of(principal: Principal) -> list[Grantee]:
    """Return everyone whose share is ``principal``'s too: themselves, and their groups."""
    groups = [Grantee(GranteeKind.GROUP, group) for group in sorted(principal.groups)]
    return [Grantee(GranteeKind.USER, principal.name), *groups]


def users_of(shares: Iterable[Share]) -> frozenset[Grantee]:
    """Return who may use the cluster by these shares."""
    return frozenset(share.grantee for share in shares if share.right is Right.USE)


def withdraw_leaves(leaves: tuple[ClientLeaf, ...], shares: Iterable[Share]) -> tuple[ClientLeaf, ...]:
    """Return the leaves of a cluster as they are when it has these shares."""
    users = users_of(shares)
    return tuple(
        leaf if leaf.withdrawn or not users.isdisjoint(leaf.grantees) else replace(leaf, withdrawn=True)
        for leaf in leaves
    )
