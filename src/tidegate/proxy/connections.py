"""Which open connections there are: per cluster, so that they can be counted and cut; per client, so that none has all;
and those that have nothing to say yet, so that they do not keep out those who have.

All of it is plain bookkeeping, without a socket in it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from tidegate.proxy.settings import is_loopback
from tidegate.wire.addresses import network_of

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

    def count(self, cluster: str) -> int:
        """Return how many connections this cluster has."""
        return len(self._cuts.get(cluster, ()))

    def counts(self) -> dict[str, int]:
        """Return how many connections each cluster has; clusters without any are not in it."""
        return {cluster: len(cuts) for cluster, cuts in self._cuts.items()}

    def __bool__(self) -> bool:
        return bool(self._cuts)


class Waiting:
    """Connections that wait for a whole head of their client's, in the order in which they began to.

    To be silent costs a client nothing, and it may come from any number of addresses. So it is not refused, it makes
    room: who has something to say says it at once, and waits for less time than those who do not.

    Parameters
    ----------
    most : int
        So many wait at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._cuts: dict[object, Cut] = {}

    def __len__(self) -> int:
        return len(self._cuts)

    def add(self, cut: Cut) -> Callable[[], None]:
        """Record one connection; returns what is to be called when it waits no more."""
        if len(self._cuts) >= self._most:
            self.make_room()
        key = object()
        self._cuts[key] = cut

        def discard() -> None:
            self._cuts.pop(key, None)

        return discard

    def make_room(self) -> bool:
        """End the one that has waited longest; False when none waits."""
        oldest = next(iter(self._cuts), None)
        if oldest is None:
            return False
        self._cuts.pop(oldest)()
        return True


class Admission:
    """Says whether one more connection from an address may be served.

    Parameters
    ----------
    total : int
        Connections in all.
    per_address : int or None
        Connections from one address; None where all users may have the same one. An IPv6 client owns a whole /64, so
        that counts as one.
    make_room : callable
        Ends a connection that can be spared, when there are as many as there may be; False when there is none.
    shared : callable
        Whether many people may come from an address, so that it has no limit of its own.
    """

    def __init__(
        self,
        total: int,
        per_address: int | None = None,
        make_room: Callable[[], bool] = lambda: False,
        shared: Callable[[str], bool] = is_loopback,
    ) -> None:
        self._total = total
        self._per_address = per_address
        self._make_room = make_room
        self._shared = shared
        self._open: Counter[str] = Counter()
        self.count = 0

    def admit(self, address: str) -> Callable[[], None] | None:
        """Count one connection in; returns what is to be called when it has ended, None if it is one too many."""
        if self._has_enough(address) or (self.count >= self._total and not self._make_room()):
            return None
        return self.count_in(address)

    def count_in(self, address: str) -> Callable[[], None]:
        """Count one connection in that is here already, whatever the limits; returns the same."""
        key = network_of(address)
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

    def _has_enough(self, address: str) -> bool:
        key = network_of(address)
        if self._per_address is None or self._shared(address) or self._shared(key):
            return False
        return self._open.get(key, 0) >= self._per_address
