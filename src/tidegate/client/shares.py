"""Sharing a cluster: who else may see or use it, and links to its dashboard.

One need not be connected to a cluster to share it, so this asks a ``Gateway`` about a cluster's name; ``Sharing`` makes
methods of a cluster object of it. A request that is sent twice, because its answer was lost on the way, gives a share
once; but it may leave a link whose address nobody knows: it stands in the list until it expires or is withdrawn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dask.utils import parse_timedelta

from tidegate.client.errors import GatewayValueError
from tidegate.model.share import GranteeKind, Right

if TYPE_CHECKING:
    from tidegate.client.gateway import Gateway

LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What can be a link's id at all; anything else would be another path."""


@dataclass(frozen=True)
class ClusterShare:
    """What a user or a group may do with a cluster: ``view`` its dashboard and logs, or ``use`` it besides."""

    kind: str
    name: str
    right: str
    created: datetime
    created_by: str

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> ClusterShare:
        """Return the share that the gateway tells of."""
        created = datetime.fromtimestamp(body["created_at"])
        return cls(body["kind"], body["name"], body["right"], created, body["created_by"])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.right}"


@dataclass(frozen=True)
class DashboardLink:
    """A link that opens a cluster's dashboard to whoever has it.

    Its ``url`` is a secret, and known in the moment of its making only.
    """

    id: str
    label: str
    created: datetime
    created_by: str
    expires: datetime
    url: str | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], public_address: str) -> DashboardLink:
        """Return the link that the gateway tells of."""
        url = body.get("url")
        return cls(
            id=body["id"],
            label=body["label"],
            created=datetime.fromtimestamp(body["created_at"]),
            created_by=body["created_by"],
            expires=datetime.fromtimestamp(body["expires_at"]),
            url=f"{public_address}{url}" if url and url.startswith("/") else url,
        )


class Sharing:
    """The methods of a cluster object by which its owner shares it. ``gateway`` and ``name`` say which."""

    gateway: Gateway
    name: Any

    def share(self, user: str | None = None, group: str | None = None, right: str = "view") -> Any:
        """Let a user or a group see this cluster, or use it.

        Parameters
        ----------
        user, group : str, optional
            Who. Give one of the two.
        right : {"view", "use"}, optional
            ``view``: see the cluster, its dashboard and its logs. ``use``: connect to it besides, and so run code in
            your name. Giving another right replaces the one before.

        Returns
        -------
        ClusterShare

        Examples
        --------
        >>> cluster.share(user="bob")  # doctest: +SKIP
        >>> cluster.share(group="physics", right="use")  # doctest: +SKIP
        """
        return self.gateway.sync(give_share, self.gateway, self.name, user, group, right)

    def unshare(self, user: str | None = None, group: str | None = None) -> Any:
        """Withdraw what a user or a group was given; dashboards and connections that are open end at once."""
        return self.gateway.sync(withdraw_share, self.gateway, self.name, user, group)

    def shares(self) -> Any:
        """Return who may do what with this cluster, as a list of ``ClusterShare``."""
        return self.gateway.sync(list_shares, self.gateway, self.name)

    def share_link(self, expires: Any = "1h", label: str = "") -> Any:
        """Make a link that opens this cluster's dashboard to whoever has it, without a login.

        Parameters
        ----------
        expires : str, float or timedelta, optional
            How long it is good: ``"30m"``, ``"1h"``, ``"7d"``; a number is seconds. The gateway has a longest.
        label : str, optional
            What it is for, to recognise it by.

        Returns
        -------
        DashboardLink
            With its ``url``, which nobody can read again.
        """
        return self.gateway.sync(make_link, self.gateway, self.name, expires, label)

    def links(self) -> Any:
        """Return the links to this cluster's dashboard that are still good, newest first, without their addresses."""
        return self.gateway.sync(list_links, self.gateway, self.name)

    def withdraw_link(self, link: str | DashboardLink) -> Any:
        """Withdraw a link, given as such or by its id; the pages that it opened end at once."""
        return self.gateway.sync(withdraw_link, self.gateway, self.name, link)


async def give_share(
    gateway: Gateway, cluster: str, user: str | None = None, group: str | None = None, right: str = "view"
) -> ClusterShare:
    """Let a user or a group do with ``cluster`` what ``right`` says."""
    rights = [one.value for one in Right]
    if right not in rights:
        raise GatewayValueError(f"cannot share a cluster with the right {right!r}: choose {' or '.join(rights)}")
    path = f"/shares/{_grantee(user, group)}"
    return ClusterShare.from_json(await gateway._request_of(cluster, "PUT", path, json={"right": str(right)}))


async def withdraw_share(gateway: Gateway, cluster: str, user: str | None = None, group: str | None = None) -> None:
    """Withdraw what a user or a group was given; nothing happens if they have nothing."""
    await gateway._request_of(cluster, "DELETE", f"/shares/{_grantee(user, group)}")


async def list_shares(gateway: Gateway, cluster: str) -> list[ClusterShare]:
    """Return who may do what with ``cluster``."""
    body = await gateway._request_of(cluster, "GET", "/shares")
    return [ClusterShare.from_json(one) for one in body["shares"]]


async def make_link(gateway: Gateway, cluster: str, expires: Any = "1h", label: str = "") -> DashboardLink:
    """Make a link to the dashboard of ``cluster`` that is good for as long as ``expires`` says."""
    try:
        seconds = float(parse_timedelta(expires))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise GatewayValueError(f"cannot make a link that expires in {expires!r}: write 30m, 1h or 7d") from None
    body = await gateway._request_of(cluster, "POST", "/links", json={"seconds": seconds, "label": label})
    return DashboardLink.from_json(body, gateway._settings.public_address)


async def list_links(gateway: Gateway, cluster: str) -> list[DashboardLink]:
    """Return the links to the dashboard of ``cluster`` that are still good."""
    body = await gateway._request_of(cluster, "GET", "/links")
    return [DashboardLink.from_json(one, gateway._settings.public_address) for one in body["links"]]


async def withdraw_link(gateway: Gateway, cluster: str, link: str | DashboardLink) -> None:
    """Withdraw a link; nothing happens if it is not there any more."""
    link_id = link.id if isinstance(link, DashboardLink) else link
    if not LINK_ID.fullmatch(link_id):
        raise GatewayValueError(f"cannot withdraw link {link_id!r}: an id is one word of letters and digits")
    await gateway._request_of(cluster, "DELETE", f"/links/{link_id}")


def _grantee(user: str | None, group: str | None) -> str:
    """Return how the API writes who is meant."""
    if bool(user) == bool(group):
        raise GatewayValueError("cannot tell whom this share is for: give either a user or a group, by name")
    kind, name = (GranteeKind.USER, user) if user else (GranteeKind.GROUP, group)
    return f"{kind.value}:{quote(str(name), safe='')}"
