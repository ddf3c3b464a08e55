"""Which open connections there are: per cluster, so that they can be counted and cut; per client, so that none has all.

Both classes are plain bookkeeping, without a socket in them.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, defaultdict
from collections.abc import Callable

Cut = Callable[[], None]
"""Ends one connection at once; calling it twice does nothing more."""


class ClusterConnections:
    """The open connections of each cluster.

    Parameters
    ----------
    changed : callable, optional
        Called after every change of a count.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._cuts: defaultdict[str, set[Cut]] = defaultdict(set)
        self._changed = changed

    def add(self, cluster: str, cut: Cut) -> Callable[[], None]:
        """Record one connection; returns what is to be called when it has ended."""
        self._cuts[cluster].add(cut)
        self._changed()

        def discard() -> None:
            cuts = self._cuts.get(cluster)
            if cuts is None or cut not in cuts:
                return
            cuts.discard(cut)
            if not cuts:
                del self._cuts[cluster]
            self._changed()

        return discard

    def cut(self, cluster: str) -> None:
        """End every connection of this cluster."""
        for cut in tuple(self._cuts.get(cluster, ())):
            cut()

    def cut_all(self) -> None:
        """End every connection."""
        for cluster in tuple(self._cuts):
            self.cut(cluster)

    def counts(self) -> dict[str, int]:
        """Return how many connections each cluster has; clusters without any are not in it."""
        return {cluster: len(cuts) for cluster, cuts in self._cuts.items()}

    def __bool__(self) -> bool:
        return bool(self._cuts)


class Admission:
    """Says whether one more connection from an address may be served.

    Parameters
    ----------
    total : int
        Connections in all.
    per_address : int
        Connections from one address. An IPv6 client owns a whole /64, so that counts as one.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self.count = 0

    def admit(self, address: str) -> Callable[[], None] | None:
        """Count one connection in; returns what is to be called when it has ended, None if it is one too many."""
        key = _network(address)
        if self.count >= self._total or self._open[key] >= self._per_address:
            if not self._open[key]:
                del self._open[key]
            return None
        self._open[key] += 1
        self.count += 1
        released = False

        def release() -> None:
            nonlocal released
            if released:
                return
            released = True
            self.count -= 1
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

        return release


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))
