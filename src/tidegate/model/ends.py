"""When a cluster ends by itself, so that nobody has to remember to end it.

How to think about it
---------------------
There are four such ends here, and two in ``model/hub.py``. *Idle*: nothing has run on it for a while. *No client*: all
its clients are gone for a while, and nothing runs. *Lifetime*: it has run for as long as a cluster may. *Budget*: what
its owner or a group of theirs may use is spent (``model/budgets.py``), and a time of grace is over. Whoever ends one
wrongly destroys days of computation, whoever does not wastes a few cores for an hour; so **when in doubt, it goes on**:

* Unknown is not idle: not an agent that is silent, nor one that cannot tell. A proxy that is away is not one without
  connections. While workers are on their way, or stand in line, somebody waits for them.
* The record says when an end may be due, and never that it *is*: what it says may be old. When an end is due that
  hangs on nothing running, the agent is asked (``Activity.question``, which travels in what it is told), and only an
  answer to the last question, given a moment ago, ends the cluster. How long nothing ran, the agent measures with a
  clock that nobody sets; how long there was no client, control does.
* What a person could still avert is announced before, and the announcement stands for its time: after a night in which
  the gateway was away, or when the clock jumps, it is announced first.
* Whoever sizes or keeps a cluster shows that it is wanted: the time counts anew.

While the gateway is away the agent ends an idle cluster by itself, later; its last words say so (``FAREWELL``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.activity import Activity
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Reason, Target, WorkerState
from tidegate.model.durations import LONGEST, describe_duration
from tidegate.model.errors import Conflict, Invalid
from tidegate.model.event import Event
from tidegate.model.line import is_person_waiting
from tidegate.model.principal import Principal
from tidegate.model.sizing import Sized, stranger

DRIFT = 5.0
"""Seconds by which what an agent says may differ from the record before the record is changed: two clocks, and the way
between them, are not worth a write at each report."""

ASK_AGAIN = 60.0
"""Seconds after which a question that nobody answered is asked again: each is a write."""

ANSWER_COUNTS = 30.0
"""Seconds for which an answer to a question counts. Agents answer at once; what takes longer was held up, and says
nothing of now."""

TELL_AT_MOST = 30.0
"""Seconds for which nothing must run before an agent tells it: whoever works in a notebook pauses all the time."""

FAREWELL = "tidegate: the gateway is away, and nothing has run here for"
"""What the agent writes into its log when it ends an idle cluster by itself; ``agent/tidegate_agent.py`` has it too."""


@dataclass(frozen=True, slots=True)
class EndRules:
    """When the clusters of a gateway end, where their options say nothing else; in seconds, infinite for never.

    Parameters
    ----------
    idle, no_client, lifetime : float
        See above.
    warn : float
        How long before an end it is announced.
    longest_keep : float
        For how long somebody may keep an unused cluster at a time.
    hub_server_stopped, hub_user_removed : bool
        Whether clusters end with the notebook server from which they were made, and with their owner's removal from
        the JupyterHub (see ``model/hub.py``).
    """

    idle: float = math.inf
    no_client: float = math.inf
    lifetime: float = math.inf
    warn: float = 300.0
    longest_keep: float = 86400.0
    hub_server_stopped: bool = False
    hub_user_removed: bool = False

    def applied_to(self, spec: ClusterSpec, shutdown_on_close: bool | None, server: str = "") -> ClusterSpec:
        """Return the spec of a new cluster with its ends.

        What its options say of idleness goes before; no option gives a longer life than the gateway does.
        ``shutdown_on_close`` says whether it is to end with its clients, None that nobody said; ``server`` from which
        notebook server it is made.
        """
        idle = self.idle if spec.idle_timeout is None else spec.idle_timeout
        lifetime = self.lifetime if spec.lifetime is None else min(spec.lifetime, self.lifetime)
        return replace(
            spec,
            idle_timeout=_or_never(idle),
            no_client_timeout=_or_never(self.no_client) if shutdown_on_close else None,
            lifetime=_or_never(lifetime),
            end_warning=self.warn,
            # Who says that it shall outlive its clients means their notebook too.
            hub_server=server if self.hub_server_stopped and shutdown_on_close is not False else "",
        )


NO_ENDS = EndRules()

_IN_ANY_CASE = frozenset({reasons.LIFETIME, reasons.BUDGET})
"""The ends that come whatever runs on a cluster, and that nobody can keep it from."""


def _or_never(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds


@dataclass(frozen=True, slots=True)
class Ending:
    """An end that comes if nothing changes.

    Parameters
    ----------
    code : str
        Of its reason.
    at : float
        When, in seconds since the epoch.
    span : float
        The seconds that are over then.
    detail : str
        What it hangs on besides, in words.
    """

    code: str
    at: float
    span: float
    detail: str = ""

    @property
    def can_be_kept(self) -> bool:
        """Whether work, or somebody who keeps the cluster, calls it off."""
        return self.code not in _IN_ANY_CASE

    @property
    def why(self) -> str:
        """Why the cluster ends then, as the end of a sentence."""
        if self.code == reasons.IDLE:
            return "nothing runs on it"
        if self.code == reasons.NO_CLIENT:
            return "all its clients are gone, and nothing runs on it"
        if self.code == reasons.BUDGET:
            return f"a budget is spent ({self.detail})"
        return f"its maximum lifetime of {describe_duration(self.span)} is over then"

    @property
    def reason(self) -> Reason:
        """Why the cluster ends then."""
        return reasons.reason(self.code, time=describe_duration(self.span), why=self.detail)


def foreseen(cluster: Cluster) -> Ending | None:
    """Return the end that comes first if nothing changes, as far as the record tells; None if none is in sight."""
    return min(_endings(cluster), key=lambda ending: ending.at, default=None)


def _endings(cluster: Cluster) -> Iterator[Ending]:
    if cluster.state is not ClusterState.RUNNING or cluster.target is not Target.RUNNING:
        return
    spec, activity = cluster.spec, cluster.activity
    if spec.lifetime is not None and cluster.started_at is not None:
        yield Ending(reasons.LIFETIME, cluster.started_at + spec.lifetime, spec.lifetime)
    if activity.spent_since is not None:
        grace = activity.spent_grace
        yield Ending(reasons.BUDGET, activity.spent_since + grace, grace, activity.spent_why)
    if activity.idle_since is None:
        return
    if spec.idle_timeout is not None and not _waits_for_workers(cluster):
        yield _unless_kept(activity, Ending(reasons.IDLE, activity.idle_since + spec.idle_timeout, spec.idle_timeout))
    if spec.no_client_timeout is not None and activity.clientless_since is not None:
        span = spec.no_client_timeout
        yield _unless_kept(activity, Ending(reasons.NO_CLIENT, activity.clientless_since + span, span))


def _unless_kept(activity: Activity, ending: Ending) -> Ending:
    return replace(ending, at=max(ending.at, activity.active_at + ending.span, activity.kept_until or 0.0))


def _waits_for_workers(cluster: Cluster) -> bool:
    """Whether somebody may wait for workers: in line, or on their way; not for those that only ever fail."""
    if is_person_waiting(cluster):
        return True
    failing = {group.name for group in cluster.groups if group.failures}
    return any(w.state is not WorkerState.RUNNING and w.group not in failing for w in cluster.active_workers())


def _lead(cluster: Cluster, ending: Ending) -> float:
    """Return how many seconds before an end it is announced. Where no client is left, there is nobody to tell."""
    if ending.code == reasons.NO_CLIENT:
        return 0.0
    # All of a time of grace is for finishing what one is at.
    return ending.span if ending.code == reasons.BUDGET else min(cluster.spec.end_warning, ending.span / 2)


def _earliest(cluster: Cluster, ending: Ending) -> float:
    """Return when an end may come: not before it has been announced for as long as it is to be."""
    lead = _lead(cluster, ending)
    return max(ending.at, cluster.activity.warned.get(ending.code, math.inf) + lead) if lead > 0 else ending.at


def due_moments(cluster: Cluster) -> Iterator[float]:
    """Yield the times at which ``over`` or ``advance`` may say something else than before."""
    for ending in _endings(cluster):
        yield ending.at - _lead(cluster, ending)
        yield _earliest(cluster, ending)
    if cluster.activity.asked_at is not None:
        yield cluster.activity.asked_at + ASK_AGAIN


def over(cluster: Cluster, now: float) -> Reason | None:
    """Return why a cluster has to end now, whatever runs on it; None if it has not."""
    for ending in _endings(cluster):
        if ending.code in _IN_ANY_CASE and now >= _earliest(cluster, ending):
            return ending.reason
    return None


def advance(cluster: Cluster, now: float) -> tuple[Cluster, tuple[Event, ...]]:
    """Return the record, and the events, after ends were announced that come near, and the agent was asked if one is
    due.
    """
    coming = {ending.code: ending for ending in _endings(cluster)}
    near = {code: e for code, e in coming.items() if _lead(cluster, e) > 0 and now >= e.at - _lead(cluster, e)}
    # Not taken back for what clocks differ by.
    off = [c for c in cluster.activity.warned if c not in coming or now < coming[c].at - _lead(cluster, coming[c]) - 10]
    new = [code for code in near if code not in cluster.activity.warned]
    happened = [_announce(cluster, near[code], now) for code in new]
    if off and not new:
        happened.append(Event(events.KEPT, "The cluster goes on", {"until": None}))
    warned = {code: at for code, at in cluster.activity.warned.items() if code not in off} | dict.fromkeys(new, now)
    cluster = replace(cluster, activity=replace(cluster.activity, warned=warned))
    return _ask_if_due(cluster, now), tuple(happened)


def _announce(cluster: Cluster, ending: Ending, now: float) -> Event:
    # After the gateway was away, or the clock was set, an end may be overdue: it waits for its announcement.
    at = max(ending.at, now + _lead(cluster, ending))
    left = describe_duration(at - now)
    if ending.code == reasons.IDLE:
        idle = describe_duration(now - (cluster.activity.idle_since or now))
        words = f"The cluster ends in {left}: nothing has run on it for {idle}. Work keeps it, or cluster.keep()"
    else:
        words = f"The cluster ends in {left}: {ending.why}"
    return Event(events.ENDING, words, {"code": ending.code, "at": at})


def _ask_if_due(cluster: Cluster, now: float) -> Cluster:
    endings = (ending for ending in _endings(cluster) if ending.code not in _IN_ANY_CASE)
    is_due = any(now >= _earliest(cluster, ending) for ending in endings)
    asked_at = cluster.activity.asked_at
    if not is_due or (asked_at is not None and 0 <= now - asked_at < ASK_AGAIN):
        return cluster
    activity = replace(cluster.activity, question=cluster.activity.question + 1, asked_at=now)
    return replace(cluster, activity=activity)


def hear(cluster: Cluster, idle: float | None, answer: int, now: float, clientless: float | None) -> Cluster:
    """Return the record after its agent reported; if that answers whether it has to end, it is to end.

    Parameters
    ----------
    cluster : Cluster
    idle : float or None
        Seconds for which nothing has run, as the agent says; None if something runs, or it does not tell.
    answer : int
        Number of the last question that the agent knew when it looked.
    now : float
        The time, in seconds since the epoch.
    clientless : float or None
        Seconds for which no client has been connected, as of now; None if one is, or nobody knows.
    """
    activity = cluster.activity
    if idle is None:
        return replace(cluster, activity=replace(activity, idle_since=None, asked_at=None))
    since = now - idle
    if activity.idle_since is None or abs(activity.idle_since - since) > DRIFT:
        cluster = replace(cluster, activity=replace(activity, idle_since=since))
    is_answer = activity.asked_at is not None and answer == activity.question
    if not is_answer or not 0 <= now - (activity.asked_at or 0.0) <= ANSWER_COUNTS:
        return cluster
    for ending in sorted(_endings(cluster), key=lambda e: e.at):
        is_true = ending.code == reasons.IDLE or (clientless is not None and clientless >= ending.span)
        if ending.code not in _IN_ANY_CASE and is_true and now >= _earliest(cluster, ending):
            return replace(cluster, target=Target.STOPPED, reason=ending.reason)
    return cluster


def see_clients(cluster: Cluster, clientless: float | None, now: float, *, known: bool) -> Cluster:
    """Return the record after it was counted how many clients are connected.

    Parameters
    ----------
    cluster : Cluster
    clientless : float or None
        Seconds for which there has been none; None if there is one, or nobody knows.
    now : float
        The time, in seconds since the epoch.
    known : bool
        Whether anybody knows.
    """
    activity = cluster.activity
    if not known:
        return replace(cluster, activity=replace(activity, clientless_since=None))
    if clientless is None:
        return replace(cluster, activity=replace(activity, had_client=True, clientless_since=None))
    if not activity.had_client:
        return cluster
    since = now - clientless
    if activity.clientless_since is not None and abs(activity.clientless_since - since) <= DRIFT:
        return cluster
    return replace(cluster, activity=replace(activity, clientless_since=since))


def touch(cluster: Cluster, now: float) -> Cluster:
    """Return the record after somebody showed that the cluster is wanted."""
    return replace(cluster, activity=replace(cluster.activity, active_at=now))


def keep(cluster: Cluster, seconds: float | None, longest: float, by: Principal, now: float) -> Sized:
    """Keep an unused cluster: for so many seconds, at most ``longest``; or, with None, for its usual time anew.

    Raises
    ------
    Conflict
        It is not running.
    """
    if cluster.state is not ClusterState.RUNNING or cluster.target is not Target.RUNNING:
        why = f": {cluster.reason.message}" if cluster.reason is not None else ""
        raise Conflict(f"cannot keep cluster {cluster.name}: it is not running{why}")
    until, notes, words = None, [], "The cluster is kept: the time for which it is unused counts anew"
    if seconds is not None:
        allowed = min(seconds, longest)
        until, words = now + allowed, f"The cluster is kept for {describe_duration(allowed)}, even if nobody uses it"
        if allowed < seconds:
            notes.append(f"A cluster may be kept for {describe_duration(longest)} at a time, so that it is.")
    warned = {code: at for code, at in cluster.activity.warned.items() if code in _IN_ANY_CASE}
    activity = replace(cluster.activity, active_at=now, kept_until=until, warned=warned, asked_at=None)
    kept = replace(cluster, activity=activity)
    for ending in _endings(kept):
        if ending.code == reasons.BUDGET:
            notes.append(f"It ends in {describe_duration(ending.at - now)} all the same: {ending.why}.")
        if ending.code == reasons.LIFETIME and ending.at <= max(until or now, now + cluster.spec.end_warning):
            left = describe_duration(ending.at - now)
            notes.append(f"It ends in {left} all the same: its maximum lifetime is over then, which nothing extends.")
    who = stranger(by, cluster)
    data = {"until": until, "by": by.who} if who else {"until": until}
    return Sized(kept, (Event(events.KEPT, f"{words} ({who})" if who else words, data),), " ".join(notes) or None)


def check_keep(seconds: object) -> float | None:
    """Return for how many seconds to keep a cluster, if it can be that, else raise ``Invalid``. None: no time named."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise Invalid("cannot keep the cluster: seconds must be a number above 0", field="seconds")
    return float(min(seconds, LONGEST))  # a whole number may be larger than any float


def tell_after(spec: ClusterSpec) -> float | None:
    """Return for how many seconds nothing must run before an agent tells it; None where nobody wants to know."""
    spans = [span for span in (spec.idle_timeout, spec.no_client_timeout) if span is not None]
    return min(TELL_AT_MOST, min(spans) / 10) if spans else None


def rewound(activity: Activity, now: float) -> Activity:
    """Return what holds after the clock was set back to ``now``: nothing was heard in the future."""
    return replace(
        activity,
        idle_since=None if activity.idle_since is None else min(activity.idle_since, now),
        clientless_since=None if activity.clientless_since is None else min(activity.clientless_since, now),
        active_at=min(activity.active_at, now),
        spent_since=None if activity.spent_since is None else min(activity.spent_since, now),
        warned={code: min(at, now) for code, at in activity.warned.items()},
        asked_at=None,
    )


def latest_moment(activity: Activity) -> float:
    """Return the latest time at which something was heard."""
    heard = (activity.idle_since, activity.clientless_since, activity.active_at, activity.asked_at)
    return max((at for at in (*heard, *activity.warned.values()) if at is not None), default=0.0)
