"""What is known of the life in a running cluster: the facts that its ends by themselves hang on (``model/ends.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Activity:
    """What was last heard of who uses a cluster, and of what runs on it. Unknown is not idle, and not without clients.

    Times are seconds since the epoch.

    Parameters
    ----------
    idle_since : float or None
        Since when nothing has run on it, as its agent said last; None while something runs, or nobody knows.
    had_client : bool
        Whether a client was ever connected through the proxies.
    clientless_since : float or None
        Since when none has been; None while there is one, or nobody knows.
    active_at : float
        When somebody last did something that shows that it is wanted, or a worker came: what counts as unused counts
        from here on.
    kept_until : float or None
        Until when it is not ended for being unused, because somebody asked for that.
    warned : mapping of str to float
        For each end that was announced, by the code of its reason: when.
    question : int
        Number of the last time that the agent was asked whether nothing runs.
    asked_at : float or None
        When that was, while an answer still counts.
    spent_since : float or None
        Since when a budget has been spent for which it counts; None while none is.
    spent_grace : float
        For how many seconds it may go on then.
    spent_why : str
        Which budget that is, in words.
    at_hub : bool
        Whether its owner was seen among the users of the JupyterHub: only who was there can have been removed.
    """

    idle_since: float | None = None
    had_client: bool = False
    clientless_since: float | None = None
    active_at: float = 0.0
    kept_until: float | None = None
    warned: Mapping[str, float] = field(default_factory=dict)
    question: int = 0
    asked_at: float | None = None
    spent_since: float | None = None
    spent_grace: float = 0.0
    spent_why: str = ""
    at_hub: bool = False


NO_ACTIVITY = Activity()
