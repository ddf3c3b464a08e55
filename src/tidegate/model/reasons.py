"""Every reason for which a cluster or a worker ends without its owner asking, with the sentence for the user.

The codes are promises: programs may match on them, and the reference page lists them from here.
"""

from __future__ import annotations

from tidegate.model.cluster import Reason

SCHEDULER_EXITED = "scheduler-exited"
SCHEDULER_LOST = "scheduler-lost"
START_TIMEOUT = "start-timeout"
LAUNCH_FAILED = "launch-failed"
FOREIGN_ADDRESS = "foreign-address"
CANNOT_START = "cannot-start"
EXITED = "exited"
KILLED = "killed"
OUT_OF_MEMORY = "out-of-memory"
LOST = "lost"
STOPPED_BY = "stopped-by"
IDLE = "idle"
NO_CLIENT = "no-client"
LIFETIME = "lifetime"
BUDGET = "budget"
HUB_SERVER_STOPPED = "hub-server-stopped"
HUB_USER_REMOVED = "hub-user-removed"

SENTENCES = {
    SCHEDULER_EXITED: "The scheduler ended by itself: {why}",
    SCHEDULER_LOST: "The scheduler is gone and left no trace; the machine may have been restarted",
    START_TIMEOUT: "The scheduler did not report within {seconds:g} s of its launch",
    LAUNCH_FAILED: "The cluster could not be launched: {why}",
    FOREIGN_ADDRESS: "The scheduler does not listen where its agent says that it does: {address}",
    CANNOT_START: "The worker could not be started: {why}",
    EXITED: "The worker ended by itself: {why}",
    KILLED: "The worker was killed: {why}",
    OUT_OF_MEMORY: "The worker used more memory than its limit: {why}",
    LOST: "The worker is gone and left no trace",
    STOPPED_BY: "Stopped by {who}",
    IDLE: "Stopped, since nothing ran on it for {time}: its idle timeout",
    NO_CLIENT: "Stopped, since all its clients were gone for {time} and nothing ran on it",
    LIFETIME: "Stopped, since it has run for {time}: its maximum lifetime",
    BUDGET: "Stopped, since a budget is spent: {why}",
    HUB_SERVER_STOPPED: "Stopped, since the notebook server from which it was made was stopped: {server}",
    HUB_USER_REMOVED: "Stopped, since JupyterHub no longer has its owner {user}",
}

WANTED = frozenset({STOPPED_BY, IDLE, NO_CLIENT, LIFETIME, BUDGET, HUB_SERVER_STOPPED, HUB_USER_REMOVED})
"""The codes of clusters that end as somebody wanted: they are STOPPED then, and nothing has FAILED."""


WORKER_CODES = frozenset({CANNOT_START, EXITED, KILLED, OUT_OF_MEMORY, LOST})
"""The codes that a backend may give for the end of a worker."""


def reason(code: str, *, detail: str = "", log_tail: str = "", **values: object) -> Reason:
    """Build the reason for ``code``, its sentence filled with ``values``.

    >>> reason(START_TIMEOUT, seconds=60).message
    'The scheduler did not report within 60 s of its launch'
    """
    return Reason(code=code, message=SENTENCES[code].format(**values), detail=detail, log_tail=log_tail)


def to_data(reason: Reason) -> dict[str, str]:
    """Return what programs read of a reason, for the data of an event."""
    return {"code": reason.code, "log_tail": reason.log_tail}
