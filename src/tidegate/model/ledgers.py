"""The ledgers of all clusters at a moment, counted in memory from their records.

What a cluster may come to hold is decided in a transaction, on the ledger that the store reads for it. For everybody in
a line that would be a transaction each, nearly all of them to find that nothing is free. Here all are counted once;
from that each one's ledger follows, and who need not be tried.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.model.amounts import NOTHING, Amounts
from tidegate.model.cluster import Cluster
from tidegate.model.limits import Ledger, Limit, Rules, Scope, holding_of, scopes_of


class Ledgers:
    """What all clusters hold, by scope and by cluster.

    Parameters
    ----------
    active : iterable of Cluster
        All that have not ended.
    rules : Rules
        Of the configuration and of the run time.
    """

    def __init__(self, active: Iterable[Cluster], rules: Rules) -> None:
        self._rules = rules
        self._limits: dict[tuple[str, tuple[str, ...]], tuple[Limit, ...]] = {}
        self._by_cluster: dict[str, Amounts] = {}
        self._by_scope: dict[Scope, Amounts] = {}
        for cluster in active:
            self.put(cluster)

    def put(self, cluster: Cluster) -> None:
        """Count what a cluster holds now, in place of what it held before."""
        before, held = self._by_cluster.get(cluster.name, NOTHING), holding_of(cluster)
        if held == before:
            return
        self._by_cluster[cluster.name] = held
        for scope in scopes_of(cluster.owner, cluster.owner_groups):
            self._by_scope[scope] = self._by_scope.get(scope, NOTHING) + held - before

    def ledger(self, cluster: Cluster, at: float) -> Ledger:
        """Return the limits that hold for a cluster, and what all others hold; not who waits before it."""
        whose = cluster.owner, cluster.owner_groups
        limits = self._limits.get(whose)
        if limits is None:
            limits = self._limits[whose] = self._rules.limits_of(*whose)
        mine = self._by_cluster.get(cluster.name, NOTHING)
        others = {limit.scope: self._by_scope.get(limit.scope, NOTHING) - mine for limit in limits}
        return Ledger(limits, others, line=0 if self._rules.waits else None, at=at)
