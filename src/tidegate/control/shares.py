"""What an owner can ask about sharing: give and withdraw shares, make and withdraw links, and what a link opens.

Shares and links stand in the cluster's record; a change of them is one save, with its event. What was withdrawn counts
from then on in everything that control is asked. What is open already is ended besides: pages and WebSockets of the
dashboard by the share epoch, which every proxy has when the answer goes out; connections to the scheduler by its agent,
which hears of withdrawn leaves as it does of sizes, within a moment.

Every request may be repeated: to give what was given and to withdraw what is not there changes nothing.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from tidegate.control.clusters import Clusters
from tidegate.control.leaves import check_telling
from tidegate.control.records import Alter, Records
from tidegate.control.routing import RouteTable
from tidegate.model import event as events
from tidegate.model.cluster import Cluster, Target
from tidegate.model.errors import Conflict, Invalid, NotAllowed, NotVisible
from tidegate.model.event import Event
from tidegate.model.labels import check_label
from tidegate.model.permissions import Action
from tidegate.model.principal import Principal
from tidegate.model.share import Grantee, GranteeKind, Right, Share, ShareLink, withdraw_leaves
from tidegate.wire.tickets import cluster_of_link, sign_link, verify_link

log = logging.getLogger(__name__)

SHARES_LIMIT = 200
"""Grantees of one cluster. Whoever means more people than that means a group; each list and each look at who may do
what goes through all of them."""
LINKS_LIMIT = 100
"""Links to one dashboard that have not expired."""
LINK_ID_BYTES = 6
"""48 random bits: unique within one cluster. It opens nothing."""

DAY = 86400.0
_RIGHT_WORDS = {Right.VIEW: "view", Right.USE: "use"}
_NO_LINK = (
    "This link leads nowhere: it has expired, or was withdrawn, or its cluster has ended. Ask for a new one where you "
    "have it from"
)


@dataclass(frozen=True, slots=True)
class SharingRules:
    """What the administrator allows.

    Parameters
    ----------
    enabled : bool
        Whether anything can be shared.
    groups : collection of str or None
        Whose members may share; None for everyone.
    links : bool
        Whether there are links.
    longest_link : float
        Seconds for which a link is good at the most.
    own_hosts : bool
        Whether dashboards have host names of their own; without, nobody but the owner sees one.
    """

    enabled: bool = True
    groups: Collection[str] | None = None
    links: bool = True
    longest_link: float = 7 * DAY
    own_hosts: bool = True

    def check(self, principal: Principal) -> None:
        """Make sure that ``principal`` may share at all.

        Raises
        ------
        NotAllowed
            They may not.
        """
        if not self.enabled:
            raise NotAllowed("cannot share clusters: the administrator of this gateway does not allow it")
        if self.groups is not None and not principal.admin and principal.groups.isdisjoint(self.groups):
            named = ", ".join(sorted(self.groups)) or "no group"
            raise NotAllowed(f"cannot share clusters: on this gateway members of {named} may, and you are not one")

    def check_link(self, seconds: float) -> None:
        """Make sure that there may be a link for so long.

        Raises
        ------
        NotAllowed
            There may be none here.
        Invalid
            Not for so long.
        """
        if not self.links:
            raise NotAllowed("cannot make a link: the administrator of this gateway does not allow links")
        if not self.own_hosts:
            raise NotAllowed(
                "cannot make a link: on this gateway dashboards have no host names of their own, so nobody but a "
                "cluster's owner sees its dashboard. The administrator can set dashboards.host"
            )
        if not 0 < seconds <= self.longest_link:
            raise Invalid(
                f"cannot make a link for {_span(seconds)}: on this gateway one is good for more than 0 s and at most "
                f"{_span(self.longest_link)}",
                field="seconds",
            )


@dataclass(frozen=True, slots=True)
class OpenedLink:
    """What a link opens: the dashboard of ``cluster``, by ``link``; tickets are signed with ``ticket_key``."""

    cluster: Cluster
    link: ShareLink
    ticket_key: str

    def __repr__(self) -> str:
        return f"OpenedLink({self.cluster.name!r}, {self.link.id!r})"


class Shares:
    """The shares of clusters and the links to their dashboards.

    Parameters
    ----------
    clusters : Clusters
        Who may see what.
    records : Records
    routes : RouteTable
    clock : callable
        Returns the time, in seconds since the epoch.
    rules : SharingRules
    """

    def __init__(
        self,
        clusters: Clusters,
        records: Records,
        routes: RouteTable,
        clock: Callable[[], float],
        rules: SharingRules,
    ) -> None:
        self._clusters = clusters
        self._records = records
        self._routes = routes
        self._clock = clock
        self.rules = rules

    # -- shares --------------------------------------------------------------------------------------------------------

    async def find(self, principal: Principal, name: str) -> tuple[Share, ...]:
        """Return the shares of a cluster, in the order in which they were given."""
        return (await self._clusters.get(principal, name, Action.SHARE)).shares

    async def give(self, principal: Principal, name: str, whom: str, right: Right) -> Share:
        """Let a grantee (``user:NAME`` or ``group:NAME``) do with a cluster what ``right`` says.

        Raises
        ------
        Invalid
            That is nobody whom one could share with.
        NotAllowed
            The administrator's rules forbid it, or the cluster is not theirs to share.
        Conflict
            The cluster has ended, or has as many shares as it may have, or cannot tell clients from each other.
        """
        cluster = await self._clusters.get(principal, name, Action.SHARE)
        grantee = Grantee.parse(whom)
        self.rules.check(principal)
        if grantee == Grantee(GranteeKind.USER, cluster.owner):
            raise Invalid(f"cannot share cluster {name} with {cluster.owner}: it is theirs", field="grantee")
        if right is Right.USE and (credentials := await self._records.store.credentials(name)) is not None:
            check_telling(name, credentials)
        given = Share(grantee, right, self._clock(), principal.who)
        changed = await self._change(name, lambda cluster: _with_share(cluster, given))
        return next((share for share in changed.shares if share.grantee == grantee), given)

    async def withdraw(self, principal: Principal, name: str, whom: str) -> None:
        """Withdraw what a grantee was given; what they have open ends."""
        await self._clusters.get(principal, name, Action.SHARE)
        grantee = Grantee.parse(whom)

        def alter(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            left = tuple(share for share in cluster.shares if share.grantee != grantee)
            if len(left) == len(cluster.shares):
                return cluster, ()
            leaves = withdraw_leaves(cluster.leaves, left)
            after = replace(cluster, shares=left, leaves=leaves, share_epoch=cluster.share_epoch + 1)
            words = f"The cluster is no longer shared with {_words(grantee)}"
            return after, (_event(events.UNSHARED, words, cluster, principal.who, grantee=str(grantee)),)

        await self._end_what_is_open(await self._change(name, alter))

    # -- links ---------------------------------------------------------------------------------------------------------

    async def find_links(self, principal: Principal, name: str) -> list[ShareLink]:
        """Return the links to a cluster's dashboard that have not expired, newest first."""
        cluster = await self._clusters.get(principal, name, Action.SHARE)
        return list(_good_links(cluster, self._clock()))[::-1]

    async def make_link(self, principal: Principal, name: str, seconds: float, label: str) -> tuple[ShareLink, str]:
        """Make a link that is good for so long; return it with its text, which nobody can read again.

        Raises
        ------
        Invalid
            It cannot be good for so long, or there is no such label.
        NotAllowed
            The administrator's rules forbid it, or the cluster is not theirs to share.
        Conflict
            The cluster has ended, or has as many links as it may have.
        """
        await self._clusters.get(principal, name, Action.SHARE)
        self.rules.check(principal)
        self.rules.check_link(seconds)
        label = check_label(label, "make a link")
        now = self._clock()
        link = ShareLink(secrets.token_hex(LINK_ID_BYTES), now + seconds, now, principal.who, label)

        def alter(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            _check_alive(cluster)
            links = _good_links(cluster, now)
            if len(links) >= LINKS_LIMIT:
                raise Conflict(
                    f"cannot make a link to cluster {name}: there are {LINKS_LIMIT}, as many as there may be. Withdraw "
                    "one first"
                )
            words = "A link to the dashboard was made" + (f": {label}" if label else "")
            data = {"link": link.id, "label": label, "expires_at": link.expires_at}
            made = _event(events.LINKED, words, cluster, link.created_by, **data)
            return replace(cluster, links=(*links, link)), (made,)

        await self._change(name, alter)
        credentials = await self._records.store.credentials(name)
        if credentials is None:
            raise _ended(name)
        return link, sign_link(name, link.id, link.expires_at, credentials.ticket_key)

    async def withdraw_link(self, principal: Principal, name: str, link_id: str) -> None:
        """Withdraw a link; the pages that it opened end."""
        await self._clusters.get(principal, name, Action.SHARE)

        def alter(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            gone = next((link for link in cluster.links if link.id == link_id), None)
            if gone is None:
                return cluster, ()
            left = tuple(link for link in cluster.links if link is not gone)
            words = "A link to the dashboard was withdrawn" + (f": {gone.label}" if gone.label else "")
            told = _event(events.UNLINKED, words, cluster, principal.who, link=gone.id, label=gone.label)
            return replace(cluster, links=left, share_epoch=cluster.share_epoch + 1), (told,)

        await self._end_what_is_open(await self._change(name, alter))

    async def open_link(self, text: str) -> OpenedLink:
        """Return what a link opens.

        Raises
        ------
        NotVisible
            Nothing, whatever the reason.
        """
        name = cluster_of_link(text) or ""
        cluster = await self._records.load(name)
        credentials = await self._records.store.credentials(name)
        if cluster is None or credentials is None:
            raise NotVisible(_NO_LINK)
        verified = verify_link(text, name, credentials.ticket_key, self._clock())
        link = next((link for link in cluster.links if verified == (link.id, link.expires_at)), None)
        if link is None or not self.rules.own_hosts:
            raise NotVisible(_NO_LINK)
        return OpenedLink(cluster, link, credentials.ticket_key)

    # -- both ----------------------------------------------------------------------------------------------------------

    async def _change(self, name: str, alter: Alter) -> Cluster:
        changed = await self._records.change(name, alter)
        if changed is None:
            raise NotVisible("there is no such cluster any more")
        return changed

    async def _end_what_is_open(self, cluster: Cluster) -> None:
        # Also when nothing was changed: who withdraws again may do so because the first try failed half way.
        if not cluster.state.ended:
            await self._routes.raise_epoch(cluster.name, cluster.share_epoch)


def _with_share(cluster: Cluster, given: Share) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record with a share more, or with another right of one, and what happened."""
    _check_alive(cluster)
    before = next((share for share in cluster.shares if share.grantee == given.grantee), None)
    if before is not None and before.right is given.right:
        return cluster, ()
    if before is None and len(cluster.shares) >= SHARES_LIMIT:
        raise Conflict(
            f"cannot share cluster {cluster.name} with {_words(given.grantee)}: it is shared with {SHARES_LIMIT}, as "
            "many as there may be. Share it with a group"
        )
    shares = tuple(given if share is before else share for share in cluster.shares)
    if before is None:
        shares = (*shares, given)
    after = replace(cluster, shares=shares, leaves=withdraw_leaves(cluster.leaves, shares))
    words = f"{given.grantee.kind.value.capitalize()} {given.grantee.name} may {_RIGHT_WORDS[given.right]} this cluster"
    data = {"grantee": str(given.grantee), "right": given.right.value}
    return after, (_event(events.SHARED, words, cluster, given.created_by, **data),)


def _check_alive(cluster: Cluster) -> None:
    if cluster.target is Target.STOPPED:
        raise _ended(cluster.name)


def _ended(name: str) -> Conflict:
    return Conflict(f"cannot share cluster {name}: it has ended, or is about to")


def _good_links(cluster: Cluster, now: float) -> tuple[ShareLink, ...]:
    return tuple(link for link in cluster.links if link.expires_at > now)


def _event(kind: str, words: str, cluster: Cluster, by: str, **data: Any) -> Event:
    """Return an event that names whoever does not share their own cluster: only administrators can."""
    told = words if by == cluster.owner else f"{words} (administrator {by})"
    return Event(kind, told, {**data, "by": by})


def _span(seconds: float) -> str:
    """Return a duration as one says it; what is no round number of days or hours stays in seconds."""
    for unit, words in ((DAY, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= unit and seconds % unit == 0:
            count = int(seconds // unit)
            return f"{count} {words}" if count == 1 else f"{count} {words}s"
    return f"{seconds:.15g} s"


def _words(grantee: Grantee) -> str:
    return f"{grantee.kind.value} {grantee.name}"
