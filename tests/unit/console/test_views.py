"""Words and numbers of the pages."""

from __future__ import annotations

import doctest

import pytest

from tests.in_process import NOW
from tidegate.console import views
from tidegate.console.views import view_cluster, view_events, view_links
from tidegate.model import event as events
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Target
from tidegate.model.event import Event, RecordedEvent
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import Grantee, GranteeKind, Right, Share, ShareLink


@pytest.mark.parametrize("state", list(ClusterState))
@pytest.mark.parametrize("target", list(Target))
def test_every_state_has_a_word_and_a_colour(state: ClusterState, target: Target) -> None:
    """What is wanted away is stopping and has no buttons."""
    cluster = Cluster("x", "alice", "local", ClusterSpec(), NOW, state=state, target=target)

    view = view_cluster(cluster, NOW, Principal("alice"))

    leaving = target is Target.STOPPED and not state.ended
    assert view.state == ("Stopping" if leaving else state.value.capitalize())
    assert view.tone in {"good", "busy", "bad", "idle"}
    assert ("stop" in view.rights) is (not leaving and not state.ended)


@pytest.mark.parametrize(
    ("cores", "memory", "shape"), [(1, 2 * 2**30, "1 core · 2 GiB"), (0.5, 512 * 2**20, "0.5 cores · 0.5 GiB")]
)
def test_a_worker_is_described(cores: float, memory: int, shape: str) -> None:
    """As people say it."""
    cluster = Cluster("x", "alice", "local", ClusterSpec(worker_cores=cores, worker_memory=memory), NOW)

    assert view_cluster(cluster, NOW, Principal("alice")).shape == shape


@pytest.mark.parametrize(
    ("viewer", "may", "words"),
    [
        (Principal("alice"), {"connect", "scale", "stop", "share"}, ""),
        (Principal("bob"), {"connect"}, "belongs to alice. It is shared with you to use"),
        (Principal("carol", groups=frozenset({"physics"})), set(), "belongs to alice. It is shared with you to view"),
        (Principal("root", admin=True), {"scale", "stop", "share", "limit"}, "What you change here is on record"),
        (Principal("root", admin=True, scope=Scope.READ_ONLY), set(), "You see it as an administrator."),
        (Principal("alice", scope=Scope.READ_ONLY), set(), ""),
    ],
)
def test_whoever_looks_is_offered_what_they_may(viewer: Principal, may: set[str], words: str) -> None:
    """And is told by what they see a cluster that is not theirs; everybody here sees dashboard and logs."""
    shares = (
        Share(Grantee(GranteeKind.USER, "bob"), Right.USE, NOW, "alice"),
        Share(Grantee(GranteeKind.GROUP, "physics"), Right.VIEW, NOW, "alice"),
    )
    cluster = Cluster("x", "alice", "local", ClusterSpec(), NOW, state=ClusterState.RUNNING, shares=shares)

    view = view_cluster(cluster, NOW, viewer)

    assert view.rights == {"see", "dashboard", "logs"} | may
    assert words in view.standing
    assert bool(view.standing) is not view.is_mine


def test_links_that_have_expired_are_not_shown() -> None:
    """The others tell how long they are good; the newest first."""
    links = [ShareLink(str(n), NOW + n * 60, NOW + n, "alice") for n in (-1, 0, 5, 90)]

    assert [(link.id, link.ends_words) for link in view_links(links, NOW)] == [
        ("90", "expires in 1 h 30 min"),
        ("5", "expires in 5 min"),
    ]


def test_what_is_said_twice_in_a_row_stands_there_once() -> None:
    """A failed cluster ends for the reason for which it failed; the later line, which has the log, stays."""
    words = ["The cluster was requested", "Exit code 1", "Exit code 1"]
    told = [Event(events.STOPPING, text) for text in words[:2]] + [Event(events.FAILED, words[2], {"log_tail": "x"})]

    shown = view_events([RecordedEvent(n, NOW, "x", "alice", event) for n, event in enumerate(told)], NOW)

    assert [(line.message, line.tone) for line in shown] == [("Exit code 1", "bad"), (words[0], "idle")]


def test_examples_run() -> None:
    """Those in the docstrings."""
    assert doctest.testmod(views).failed == 0
