"""What the templates show of a cluster: nouns of the model turned into words and small numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from tidegate.authn.tokens import DAY
from tidegate.model.cluster import Cluster, ClusterState, Reason, Target
from tidegate.model.durations import describe_duration
from tidegate.model.ends import foreseen
from tidegate.model.event import RecordedEvent
from tidegate.model.line import shortage
from tidegate.model.permissions import VIEWERS, Action, Rights, shared_rights, usable_rights
from tidegate.model.principal import Principal, Scope, Token
from tidegate.model.share import ShareLink
from tidegate.model.workers import worker_counts

GIB = 2**30

JUST_NOW_SECONDS = 5.0
"""Below this an age is not worth a number that is wrong a moment later."""

_TONES = {
    ClusterState.REQUESTED: "busy",
    ClusterState.STARTING: "busy",
    ClusterState.RUNNING: "good",
    ClusterState.STOPPING: "busy",
    ClusterState.STOPPED: "idle",
    ClusterState.FAILED: "bad",
}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time, for people: how long ago, and when exactly."""

    ago: str
    exact: str


@dataclass(frozen=True, slots=True)
class EndingView:
    """The end of a cluster that comes by itself: in words, whether it is near, and whether to keep it helps."""

    words: str
    near: bool
    can_be_kept: bool


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A cluster as the pages show it.

    Parameters
    ----------
    state, tone : str
        The word for its state, and which colour it has.
    shape : str
        What one worker is, such as ``2 cores · 4 GiB``.
    wanted, running, starting : int
        Workers.
    bounds : str
        The adaptive bounds, such as ``2-10``; empty where the size is set by hand.
    title : str
        What it is called: its alias, else its name.
    labels : sequence of pairs
        What its owner notes of it.
    reason, trouble : Reason or None
        Why it ended; why its workers do not stay.
    shortage : sequence of str
        What limits left it without, in sentences.
    has_dashboard : bool
        Whether there is a dashboard to go to.
    owner : str
        Whose it is.
    is_mine : bool
        Whether it is the viewer's.
    rights : frozenset of str
        What the viewer may do with it now: an ended cluster cannot be stopped, whoever asks.
    standing : str
        By what somebody else than the owner sees it, as a sentence.
    ending : EndingView or None
        When it ends by itself, if that is in sight.
    """

    name: str
    title: str
    labels: Sequence[tuple[str, str]]
    state: str
    tone: str
    shape: str
    wanted: int
    running: int
    starting: int
    bounds: str
    created: Moment
    ended: Moment | None
    reason: Reason | None
    trouble: Reason | None
    shortage: Sequence[str]
    has_dashboard: bool
    owner: str
    is_mine: bool
    rights: frozenset[str]
    standing: str
    ending: EndingView | None = None


def view_cluster(cluster: Cluster, now: float, viewer: Principal) -> ClusterView:
    """Return what the pages show ``viewer`` of ``cluster``."""
    leaving = cluster.target is Target.STOPPED and not cluster.state.ended
    state = ClusterState.STOPPING if leaving else cluster.state
    running = state is ClusterState.RUNNING
    facts = cluster.scheduler if cluster.reported else None
    group = cluster.groups[0]
    counts = worker_counts(cluster)
    rights = usable_rights(viewer, cluster)
    if leaving or state.ended:
        rights &= VIEWERS
    return ClusterView(
        name=cluster.name,
        title=cluster.alias or cluster.name,
        labels=tuple(sorted(cluster.labels.items())),
        state=state.value.capitalize(),
        tone=_TONES[state],
        shape=f"{_count(cluster.spec.worker_cores, 'core')} · {cluster.spec.worker_memory / GIB:.3g} GiB",
        wanted=counts["wanted"],
        running=counts["running"],
        starting=counts["starting"],
        bounds=f"{group.adaptive.minimum}\N{EN DASH}{group.adaptive.maximum}" if group.adaptive else "",
        created=view_moment(cluster.created_at, now),
        ended=view_moment(cluster.stopped_at, now) if cluster.stopped_at is not None else None,
        reason=cluster.reason,
        trouble=next((g.trouble for g in cluster.groups if g.trouble and g.failures), None) if not leaving else None,
        shortage=shortage(cluster),
        has_dashboard=running and facts is not None and facts.dashboard_port is not None,
        owner=cluster.owner,
        is_mine=cluster.owner == viewer.name,
        rights=frozenset(action.value for action in rights),
        standing=_standing(cluster, viewer, rights),
        ending=_view_ending(cluster, now),
    )


def _view_ending(cluster: Cluster, now: float) -> EndingView | None:
    ending = foreseen(cluster)
    if ending is None:
        return None
    words = f"Ends in {describe_duration(ending.at - now)}: {ending.why}"
    return EndingView(words, ending.code in cluster.activity.warned, ending.can_be_kept)


def _standing(cluster: Cluster, viewer: Principal, rights: Rights) -> str:
    if cluster.owner == viewer.name:
        return ""
    whose = f"This cluster belongs to {cluster.owner}."
    if viewer.admin:
        changes = " What you change here is on record." if rights > VIEWERS else ""
        return f"{whose} You see it as an administrator.{changes}"
    if Action.CONNECT in shared_rights(viewer, cluster):
        return f"{whose} It is shared with you to use: you may connect to it, and see its dashboard and logs."
    return f"{whose} It is shared with you to view: you may see its dashboard and logs."


@dataclass(frozen=True, slots=True)
class EventView:
    """One line of a cluster's history."""

    at: Moment
    message: str
    tone: str


def view_events(events: Sequence[RecordedEvent], now: float) -> list[EventView]:
    """Return the lines of a history, the newest first. What is said twice in a row (why it ends, that it ended) stands
    there once."""
    told: list[RecordedEvent] = []
    for event in events:
        if told and told[-1].event.message == event.event.message:
            told.pop()
        told.append(event)
    return [
        EventView(view_moment(e.at, now), e.event.message, "bad" if "log_tail" in e.event.data else "idle")
        for e in reversed(told)
    ]


@dataclass(frozen=True, slots=True)
class TokenView:
    """A personal token as the page shows it.

    Parameters
    ----------
    state, tone : str
        What it is good for, and which colour that has.
    used_words : str
        When it was last used.
    ends_words : str
        In how long it expires, or since when it has; empty where it does not.
    is_this : bool
        Whether the viewer logged in with it.
    """

    id: str
    label: str
    state: str
    tone: str
    created: Moment
    used_words: str
    ends: Moment | None
    ends_words: str
    is_this: bool


_SCOPES = {Scope.FULL: "Full", Scope.READ_ONLY: "Read only", Scope.METRICS: "Metrics"}


def view_token(token: Token, viewer: Principal, now: float) -> TokenView:
    """Return what the page shows of ``token``."""
    over = token.expires_at is not None and token.expires_at <= now
    ends = None if token.expires_at is None else view_moment(token.expires_at, now)
    words = ""
    if ends is not None and token.expires_at is not None:
        words = f"expired {ends.ago}" if over else f"expires in {describe_duration(token.expires_at - now)}"
    return TokenView(
        id=token.id,
        label=token.label,
        state="Expired" if over else _SCOPES[token.scope],
        tone="idle" if over else "good" if token.scope is Scope.FULL else "busy",
        created=view_moment(token.created_at, now),
        used_words=_describe_use(token.used_at, now),
        ends=ends,
        ends_words=words,
        is_this=token.id == viewer.token,
    )


def _describe_use(used_at: float | None, now: float) -> str:
    """Return when a token was last used, as exactly as it is known."""
    if used_at is None:
        return "never used"
    days = int(now // DAY - used_at // DAY)
    return "used today" if days < 1 else "used yesterday" if days == 1 else f"used {days} days ago"


@dataclass(frozen=True, slots=True)
class LinkView:
    """A link to a dashboard as the page shows it."""

    id: str
    label: str
    created_by: str
    ends: Moment
    ends_words: str


def view_links(links: Sequence[ShareLink], now: float) -> list[LinkView]:
    """Return what the page shows of the links that are still good, the newest first."""
    newest_first = sorted(links, key=lambda link: link.created_at, reverse=True)
    return [
        LinkView(
            id=link.id,
            label=link.label,
            created_by=link.created_by,
            ends=view_moment(link.expires_at, now),
            ends_words=f"expires in {describe_duration(link.expires_at - now)}",
        )
        for link in newest_first
        if link.expires_at > now
    ]


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A link that was made this moment, with its address, which is not shown again."""

    url: str
    ends: Moment


def view_moment(at: float, now: float) -> Moment:
    """Return the words for the time ``at``."""
    exact = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Moment(f"{describe_duration(now - at)} ago" if now - at >= JUST_NOW_SECONDS else "just now", exact)


def _count(number: float, noun: str) -> str:
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"
