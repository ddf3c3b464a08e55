"""Who may do what to which cluster: one table, asked by every layer that shows or changes one.

What a principal may not *see* does not exist for them (``NotVisible``, 404); what they may see but not do is
``NotAllowed`` (403). An owner may do everything. Somebody whom they share it with may do what the share says. An
administrator may see, size, limit and stop every cluster; to connect to one they act on behalf of its owner, which
leaves a trace.
"""

from __future__ import annotations

from enum import Enum

from tidegate.model.cluster import Cluster
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import Right


class Action(str, Enum):
    """What can be done to a cluster."""

    SEE = "see"
    CONNECT = "connect"
    SCALE = "scale"
    STOP = "stop"
    LOGS = "logs"
    DASHBOARD = "dashboard"
    SHARE = "share"
    LIMIT = "limit"


Rights = frozenset[Action]

NOTHING: Rights = frozenset()
OWNERS: Rights = frozenset(Action) - {Action.LIMIT}
ADMINS: Rights = frozenset(Action) - {Action.CONNECT}
VIEWERS: Rights = frozenset({Action.SEE, Action.LOGS, Action.DASHBOARD})
USERS: Rights = VIEWERS | {Action.CONNECT}

_SHARED = {Right.VIEW: VIEWERS, Right.USE: USERS}

_VERBS = {
    Action.SEE: "see",
    Action.CONNECT: "connect to",
    Action.SCALE: "resize",
    Action.STOP: "stop",
    Action.LOGS: "read the logs of",
    Action.DASHBOARD: "open the dashboard of",
    Action.SHARE: "share",
    Action.LIMIT: "limit",
}


def rights_of(principal: Principal, cluster: Cluster) -> Rights:
    """Return all that ``principal`` may do to ``cluster``."""
    rights = OWNERS if cluster.owner == principal.name else shared_rights(principal, cluster)
    return rights | ADMINS if principal.admin else rights


def shared_rights(principal: Principal, cluster: Cluster) -> Rights:
    """Return what the shares of ``cluster`` let ``principal`` do."""
    rights = NOTHING
    for share in cluster.shares:
        if share.grantee.includes(principal):
            rights |= _SHARED[share.right]
    return rights


def usable_rights(principal: Principal, cluster: Cluster) -> Rights:
    """Return the same without what the credential is not good for by which ``principal`` proved who they are."""
    rights = rights_of(principal, cluster)
    if principal.scope is Scope.METRICS:
        return NOTHING
    return rights if principal.scope is Scope.FULL else rights & VIEWERS


def may(principal: Principal, action: Action, cluster: Cluster) -> bool:
    """Return whether ``principal`` may do ``action`` to ``cluster``."""
    return action in rights_of(principal, cluster)


def refusal(principal: Principal, action: Action, cluster: Cluster) -> str:
    """Return why ``principal``, who sees ``cluster``, may not do ``action`` to it, and what would help."""
    words = f"cannot {_VERBS[action]} cluster {cluster.name}: "
    if action is Action.LIMIT:
        return words + "only an administrator of this gateway may"
    if principal.admin:
        return words + f"it belongs to {cluster.owner}. An administrator does that on behalf of {cluster.owner}"
    what = "use" if Action.CONNECT in shared_rights(principal, cluster) else "view"
    return words + f"it belongs to {cluster.owner}, who shares it with you to {what} only"
