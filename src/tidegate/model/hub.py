"""What follows for a cluster from what a JupyterHub says of its owner: two ends besides those of ``model/ends.py``.

A notebook server bears a token of its own, and the Hub says of that token which server it is for. So a cluster knows
from which server it was made (``ClusterSpec.hub_server``), and ends when that server has been stopped, by its user or
for being unused: nobody is left who would end it. One that was made anywhere else ends with no server.

Nothing of what the Hub says is remembered. It is asked, and its answer of this moment ends a cluster or does not: a Hub
that is away says nothing, and what it said an hour ago holds no longer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from tidegate.model import reasons
from tidegate.model.cluster import Cluster, Reason, Target
from tidegate.model.ends import EndRules


@dataclass(frozen=True, slots=True)
class HubUser:
    """A user of a JupyterHub.

    Parameters
    ----------
    name : str
        As the Hub writes it: the owner of their clusters.
    servers : frozenset of str or None
        The names of their notebook servers that run, or are being started or stopped; the default one's is empty. None
        if the Hub does not tell.
    """

    name: str
    servers: frozenset[str] | None

    def has(self, server: str) -> bool:
        """Whether this server of theirs, written as ``alice/gpu``, is not stopped; true if nobody knows."""
        return self.servers is None or server.partition("/")[2] in self.servers


def read_server(user: str, scopes: Collection[str]) -> str:
    """Return of which notebook server of ``user`` a token is, by its scopes; empty if it is of none, or does not tell.

    A server's token is good for what concerns this one server; a token of a person's is good for all of theirs.

    >>> read_server("alice", ["access:services", "access:servers!server=alice/gpu", "access:servers!server=bob/"])
    'alice/gpu'
    """
    named = {scope.partition("!server=")[2] for scope in scopes}
    mine = [server for server in named if server.partition("/")[:2] == (user, "/")]
    return mine[0] if len(mine) == 1 else ""


def concerns(cluster: Cluster, rules: EndRules) -> bool:
    """Whether the Hub has to be asked about the owner of a cluster."""
    is_bound = rules.hub_server_stopped and cluster.spec.hub_server != ""
    return cluster.target is Target.RUNNING and not cluster.state.ended and (is_bound or rules.hub_user_removed)


def over_at_hub(cluster: Cluster, user: HubUser | None, rules: EndRules, now: float) -> Reason | None:
    """Return why a cluster has to end by what the Hub says now of its owner (None: no such user), if it has."""
    if not concerns(cluster, rules):
        return None
    if user is None and rules.hub_user_removed and cluster.activity.at_hub:
        return reasons.reason(reasons.HUB_USER_REMOVED, user=cluster.owner)
    server = cluster.spec.hub_server
    is_stopped = rules.hub_server_stopped and server != "" and (user is None or not user.has(server))
    if is_stopped and now >= (cluster.activity.kept_until or 0.0):
        return reasons.reason(reasons.HUB_SERVER_STOPPED, server=server)
    return None


def note_user(cluster: Cluster, user: HubUser | None, rules: EndRules) -> Cluster:
    """Return the record after its owner was looked for among the users of the Hub: later they can have been removed."""
    if user is None or cluster.activity.at_hub or not (rules.hub_user_removed and concerns(cluster, rules)):
        return cluster
    return replace(cluster, activity=replace(cluster.activity, at_hub=True))


def doubtful(clusters: Collection[Cluster], active: Collection[HubUser], rules: EndRules, now: float) -> Iterator[str]:
    """Yield the owners about whom the Hub has to be asked one by one, after all with a server were listed.

    A list comes in pages, between which people come and go, and who has no server is not in it. It saves questions, and
    ends nothing.
    """
    by_name = {user.name: user for user in active}
    asked = set()
    for cluster in clusters:
        user = by_name.get(cluster.owner)
        if cluster.owner not in asked and (user is None or over_at_hub(cluster, user, rules, now) is not None):
            asked.add(cluster.owner)
            yield cluster.owner
