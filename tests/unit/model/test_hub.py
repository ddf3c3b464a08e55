"""What follows for clusters from what a JupyterHub says of their owners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.model.samples import NOW, make_running
from tidegate.model import reasons
from tidegate.model.activity import Activity
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Target
from tidegate.model.ends import EndRules
from tidegate.model.hub import HubUser, concerns, doubtful, note_user, over_at_hub, read_server

RULES = EndRules(hub_server_stopped=True, hub_user_removed=True)


def made_from(server: str, **activity: Any) -> Cluster:
    """Return a running cluster of alice's that was made from this notebook server."""
    cluster = make_running()
    spec = RULES.applied_to(cluster.spec, True, server)
    return replace(cluster, owner="alice", spec=spec, activity=Activity(**activity))


def alice(*servers: str) -> HubUser:
    """Return alice with these servers."""
    return HubUser("alice", frozenset(servers))


def ended_for(cluster: Cluster, user: HubUser | None, rules: EndRules = RULES) -> str | None:
    """Return the code of the reason for which it has to end."""
    reason = over_at_hub(cluster, user, rules, NOW)
    return reason.code if reason else None


@pytest.mark.parametrize(
    ("server", "user", "code"),
    [
        ("alice/", alice(""), None),
        ("alice/", alice("", "gpu"), None),
        ("alice/", alice("gpu"), reasons.HUB_SERVER_STOPPED),
        ("alice/gpu", alice("gpu"), None),
        ("alice/gpu", alice(""), reasons.HUB_SERVER_STOPPED),
        ("alice/gpu", alice(), reasons.HUB_SERVER_STOPPED),
        ("alice/gpu", None, reasons.HUB_SERVER_STOPPED),
        ("alice/gpu", HubUser("alice", None), None),
        ("", alice(), None),
        ("", None, None),
    ],
)
def test_a_cluster_ends_with_its_own_server(server: str, user: HubUser | None, code: str | None):
    """Not with another one of the same user; and what was made from none ends with none."""
    assert ended_for(made_from(server), user) == code


def test_whoever_was_there_can_have_been_removed():
    """A user of whom the Hub never knew has other ways to log in here."""
    local = made_from("")
    assert ended_for(local, None) is None
    seen = note_user(local, alice(), RULES)
    assert ended_for(seen, None) == reasons.HUB_USER_REMOVED
    assert ended_for(seen, alice()) is None
    assert note_user(seen, None, RULES) == seen


def test_a_kept_cluster_outlives_its_server_but_not_its_owner():
    """Who says for how long has said it knowing that the notebook goes."""
    kept = made_from("alice/", kept_until=NOW + 3600, at_hub=True)
    assert ended_for(kept, alice()) is None
    assert ended_for(replace(kept, activity=replace(kept.activity, kept_until=NOW)), alice()) is not None
    assert ended_for(kept, None) == reasons.HUB_USER_REMOVED


@pytest.mark.parametrize(
    ("stopped", "removed", "codes"),
    [
        (False, False, (None, None)),
        (True, False, (reasons.HUB_SERVER_STOPPED, reasons.HUB_SERVER_STOPPED)),
        (False, True, (None, reasons.HUB_USER_REMOVED)),
    ],
)
def test_each_is_a_setting_of_its_own(stopped: bool, removed: bool, codes: tuple[str | None, str | None]):
    """Both are off by default."""
    rules = EndRules(hub_server_stopped=stopped, hub_user_removed=removed)
    cluster = made_from("alice/", at_hub=True)
    assert (ended_for(cluster, alice(), rules), ended_for(cluster, None, rules)) == codes
    assert concerns(cluster, rules) is (stopped or removed)
    assert EndRules() == replace(RULES, hub_server_stopped=False, hub_user_removed=False)


def test_those_that_outlive_their_clients_outlive_the_server():
    """Who could not say (the official client) did not say that it shall."""
    bound = {said: RULES.applied_to(ClusterSpec(), said, "alice/").hub_server for said in (True, None, False)}
    assert bound == {True: "alice/", None: "alice/", False: ""}
    assert EndRules().applied_to(ClusterSpec(), True, "alice/").hub_server == ""


def test_what_ends_already_is_left_alone():
    """Its first reason is the true one."""
    for values in ({"target": Target.STOPPED}, {"state": ClusterState.STOPPED}):
        assert ended_for(replace(made_from("alice/"), **values), alice()) is None


def test_only_those_are_asked_about_of_whom_the_list_leaves_a_doubt():
    """Who has the server is not; who has none, or another one, is, and once."""
    theirs = [replace(made_from(f"{owner}/"), owner=owner) for owner in ("alice", "bob", "carol", "bob")]
    listed = [HubUser("alice", frozenset({""})), HubUser("bob", frozenset({"gpu"})), HubUser("dave", frozenset({""}))]
    assert list(doubtful(theirs, listed, RULES, NOW)) == ["bob", "carol"]


@pytest.mark.parametrize(
    ("scopes", "server"),
    [
        (["access:servers!server=alice/", "users:activity!user=alice"], "alice/"),
        (["access:servers!server=alice/gpu", "read:servers!server=alice/gpu"], "alice/gpu"),
        (["access:servers!server=alice/"] * 2 + ["access:servers!server=bob/"], "alice/"),
        (["access:servers!server=bob/", "access:servers!user=alice"], ""),
        (["access:servers!server=alice/", "access:servers!server=alice/gpu"], ""),
        (["access:servers!server=alice"], ""),
        (["access:servers"], ""),
    ],
)
def test_a_servers_token_says_whose_it_is(scopes: list[str], server: str):
    """One that is good for several, or for somebody else's, is a person's."""
    assert read_server("alice", scopes) == server
