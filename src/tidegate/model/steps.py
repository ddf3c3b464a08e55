"""What a plan can ask for: effects on the world, and marks in the record.

Every effect may be repeated. ``control/execute.py`` does them, in order, and stops at the first that fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tidegate.model.cluster import Cluster
from tidegate.model.event import Event


@dataclass(frozen=True, slots=True)
class Launch:
    """Start the scheduler of the current attempt. The second time it finds the first."""


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Start the workers of these names. Those that exist are left as they are."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """Take these workers away. Those that are gone already are no error."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopCluster:
    """Take away everything of the cluster that runs."""


@dataclass(frozen=True, slots=True)
class Publish:
    """Open the way to the scheduler in every proxy, and return when it is open."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Close the way in every proxy."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Record this value, if the record is still at the revision that the plan was made from.

    ``stamp`` says that an effect came before: ``changed_at`` becomes the time *after* it. ``stamp_workers`` does the
    same for single workers.
    """

    cluster: Cluster
    events: tuple[Event, ...] = ()
    stamp: bool = False
    stamp_workers: tuple[str, ...] = ()

    def stamped(self, now: float) -> Cluster:
        """Return the value to record at the time ``now``."""
        cluster = replace(self.cluster, changed_at=now) if self.stamp else self.cluster
        if not self.stamp_workers:
            return cluster
        names = set(self.stamp_workers)
        return cluster.with_workers(*(replace(w, changed_at=now) for w in cluster.workers if w.name in names))


Step = Launch | StartWorkers | StopWorkers | StopCluster | Publish | Withdraw | Mark
