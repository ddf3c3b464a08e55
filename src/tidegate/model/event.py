"""Something that happened to a cluster, in the past tense, for its owner to follow and to read later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REQUESTED = "cluster-requested"
"""``data`` has ``options``, and ``note`` where it begins otherwise than it was asked for."""
WAITING = "cluster-waiting"
"""It waits in line for room under a limit; ``data`` has ``reason``. Where one follows the cluster, it
comes for each change of the place too, with ``place``; then it is on no record, and bears the number of the event
before it."""
STARTING = "cluster-starting"
RUNNING = "cluster-running"
STOPPING = "cluster-stopping"
STOPPED = "cluster-stopped"
FAILED = "cluster-failed"
SCALED = "cluster-scaled"
"""The wanted size or the adaptive bounds changed; ``data`` has ``group``, ``wanted``, ``minimum``, ``maximum``."""
LIMITED = "cluster-limited"
"""An administrator set the most workers that it may have; ``data`` has ``max_workers``, ``by``."""
WORKERS = "workers-changed"
"""How many workers a cluster has changed; ``data`` has ``wanted``, ``running``, ``starting``."""
WORKER_ENDED = "worker-ended"
"""A worker ended that nobody asked to end; ``data`` has ``worker``, ``code``, ``log_tail``."""
WORKER_TROUBLE = "worker-trouble"
"""Something went wrong at a worker that goes on, such as a restart; ``data`` has ``worker``, ``code``."""
ENDING = "cluster-ending"
"""It is going to end by itself, if nothing changes; ``data`` has ``code`` (of the reason) and ``at``."""
KEPT = "cluster-kept"
"""An end that was announced is off, or somebody asked to keep it; ``data`` has ``until`` (null: no time was named)."""
LOOK = "look"
"""Nothing happened, but what the cluster shows is no longer true, such as when it ends: read it again. It is on no
record, and bears the number of the event before it."""

SHARED = "share-given"
"""Somebody was given a share, or another right; ``data`` has ``grantee``, ``right``, ``by``."""
UNSHARED = "share-withdrawn"
"""A share was withdrawn; ``data`` has ``grantee``, ``by``."""
LINKED = "link-made"
"""A link to the dashboard was made; ``data`` has ``link``, ``label``, ``expires_at``, ``by``."""
UNLINKED = "link-withdrawn"
"""A link to the dashboard was withdrawn; ``data`` has ``link``, ``label``, ``by``."""
OF_SHARING = frozenset({SHARED, UNSHARED, LINKED, UNLINKED})
"""Kinds that tell whom the owner trusts: for those who may share the cluster, and of a share for whom it is given."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a cluster's history.

    Parameters
    ----------
    kind : str
        One of the kinds above.
    message : str
        A sentence for the user.
    data : mapping
        What programs read.
    """

    kind: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event as the store keeps it: numbered over all clusters, ascending, never reused."""

    id: int
    at: float
    cluster: str
    owner: str
    event: Event
