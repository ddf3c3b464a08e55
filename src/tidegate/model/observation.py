"""What a backend saw when it looked: facts about processes, jobs or pods, with the time at which the look began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class ProcessState(str, Enum):
    """The state of one scheduler or worker, as its backend sees it."""

    QUEUED = "queued"
    """Accepted, not running yet (a pending job or pod); ``why`` quotes the queue."""
    RUNNING = "running"
    EXITED = "exited"
    """It ran, or could not be started, and is gone; ``why`` says how in a sentence for the user."""


@dataclass(frozen=True, slots=True)
class ProcessSeen:
    """One scheduler or worker.

    Parameters
    ----------
    state : ProcessState
    why : str
        Why it waits or how it ended: a sentence for the user.
    code : str
        For EXITED, the code of the reason (``model/reasons.py``): ``exited``, ``killed``, ``out-of-memory``,
        ``cannot-start``, ...
    host : str
        Where it listens, as the backend knows it; the proxies dial no other.
    log_tail : str
        For EXITED, the last lines of its log.
    expected : bool
        For EXITED, whether it ended because it was told to.
    """

    state: ProcessState
    why: str = ""
    code: str = ""
    host: str = ""
    log_tail: str = ""
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One cluster, as its backend sees it.

    Parameters
    ----------
    at : float
        When the look *began*. What changed later is not in it.
    scheduler : ProcessSeen or None
        None: the backend has no trace of it, neither running nor exited.
    workers : mapping of str to ProcessSeen
        By worker name; an absent name left no trace.
    remains : bool
        Whether anything of the cluster still runs: even a grandchild that nobody knows by name.
    """

    at: float
    scheduler: ProcessSeen | None = None
    workers: Mapping[str, ProcessSeen] = field(default_factory=dict)
    remains: bool = False
