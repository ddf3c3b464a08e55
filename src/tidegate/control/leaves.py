"""What those connect with who use a cluster by a share: a certificate each, made when it is asked for first.

The record says whose leaves there are and on which shares they stand, so that a share and the leaves that stand on it
are withdrawn in one step (``model/share.py``); certificate and key lie sealed beside it. They are written first: a
crash between the two leaves a certificate that nobody was given.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.control.credentials import mint_client, new_serial
from tidegate.control.records import Records
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Conflict, NotAllowed
from tidegate.model.permissions import Action, may, refusal
from tidegate.model.principal import Principal
from tidegate.model.share import ClientLeaf, Grantee, users_of
from tidegate.store.base import ClientPair, Credentials

LEAVES_LIMIT = 5000
"""Leaves of one cluster, with those that were withdrawn: a scheduler holds their list, some 50 bytes for each. The
honest owner, who shares with a large group, does not come near it."""


class Leaves:
    """Hands out certificates by shares.

    Parameters
    ----------
    records : Records
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    async def pair(self, principal: Principal, cluster: Cluster) -> ClientPair | None:
        """Return what ``principal`` connects to ``cluster`` with, by a share; None once the cluster has ended.

        Raises
        ------
        NotAllowed
            They have no such share any more.
        Conflict
            The cluster cannot tell one client from another.
        """
        leaf = _leaf_of(principal, cluster)
        if leaf is None or leaf.grantees != _standing(principal, cluster):
            leaf = await self._renew(principal, cluster.name)
        return None if leaf is None else await self._records.store.client_pair(cluster.name, leaf.serial)

    async def _renew(self, principal: Principal, name: str) -> ClientLeaf | None:
        """Return a leaf that stands on the shares of now: the one that there is, or another."""
        credentials = await self._records.store.credentials(name)
        if credentials is None:
            return None
        check_telling(name, credentials)
        serial = new_serial()
        added = False

        def settle(cluster: Cluster) -> tuple[Cluster, tuple[()]]:
            return _settled(cluster, principal, f"{serial:x}" if added else None), ()

        changed = await self._records.change(name, settle)
        leaf = changed and _leaf_of(principal, changed)
        if changed is None or leaf is not None or changed.state.ended:
            return leaf or None
        await self._records.store.add_client_pair(name, f"{serial:x}", mint_client(name, credentials, serial))
        added = True
        changed = await self._records.change(name, settle)
        return None if changed is None else _leaf_of(principal, changed)


def check_telling(name: str, credentials: Credentials) -> None:
    """Make sure that the scheduler of a cluster can tell one client from another.

    Raises
    ------
    Conflict
        It was made before there were shares.
    """
    if not credentials.clients_ca_key:
        raise Conflict(
            f"cannot share cluster {name} for use: it was started by an older version of this gateway. Share it to "
            "view, or start a new cluster"
        )


def _settled(cluster: Cluster, principal: Principal, serial: str | None) -> Cluster:
    """Return the record in which the leaf of ``principal`` stands on their shares of now; ``serial`` is a new one's."""
    if not may(principal, Action.CONNECT, cluster):
        raise NotAllowed(refusal(principal, Action.CONNECT, cluster))
    standing = _standing(principal, cluster)
    leaf = _leaf_of(principal, cluster)
    if leaf is not None:
        leaves = [replace(one, grantees=standing) if one is leaf else one for one in cluster.leaves]
        return replace(cluster, leaves=tuple(leaves))
    if serial is None or cluster.state.ended:
        return cluster
    if len(cluster.leaves) >= LEAVES_LIMIT:
        raise Conflict(
            f"cannot connect to cluster {cluster.name}: {LEAVES_LIMIT} certificates were made for those whom it is "
            "shared with, as many as there may be. Its owner has to start a new one"
        )
    return replace(cluster, leaves=(*cluster.leaves, ClientLeaf(serial, principal.name, standing)))


def _leaf_of(principal: Principal, cluster: Cluster) -> ClientLeaf | None:
    return next((leaf for leaf in cluster.leaves if leaf.user == principal.name and not leaf.withdrawn), None)


def _standing(principal: Principal, cluster: Cluster) -> tuple[Grantee, ...]:
    """Return by which of its grantees ``principal`` uses a cluster."""
    return tuple(sorted((g for g in users_of(cluster.shares) if g.includes(principal)), key=str))
