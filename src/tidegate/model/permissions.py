"""Who may do what to which cluster: one table, asked by every layer that shows or changes one.

What a principal may not *see* does not exist for them (``NotVisible``, 404); what they may see but not do is
``NotAllowed`` (403). Today a cluster has one owner who may do everything, and nobody else sees it.
"""

from __future__ import annotations

from enum import Enum

from tidegate.model.cluster import Cluster
from tidegate.model.principal import Principal


class Action(str, Enum):
    """What can be done to a cluster."""

    SEE = "see"
    CONNECT = "connect"
    SCALE = "scale"
    STOP = "stop"
    LOGS = "logs"
    DASHBOARD = "dashboard"


def may(principal: Principal, action: Action, cluster: Cluster) -> bool:
    """Return whether ``principal`` may do ``action`` to ``cluster``."""
    return cluster.owner == principal.name
