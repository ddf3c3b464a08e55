"""Who may do what."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.unit.model.samples import make_cluster
from tidegate.model.permissions import Action, may, refusal, rights_of, usable_rights
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import Grantee, Right, Share

ALICE = Principal("alice")
BOB = Principal("bob", frozenset({"physics"}))
ROOT = Principal("root", admin=True)

TABLE = {
    # action: owner, admin, a share to look at, a share to use
    Action.SEE: (True, True, True, True),
    Action.CONNECT: (True, False, False, True),
    Action.SCALE: (True, True, False, False),
    Action.STOP: (True, True, False, False),
    Action.LOGS: (True, True, True, True),
    Action.DASHBOARD: (True, True, True, True),
    Action.SHARE: (True, True, False, False),
    Action.LIMIT: (False, True, False, False),
}


def shared(*shares: str):
    """Return a cluster of alice's with shares such as ``user:bob view``."""
    parts = (text.rpartition(" ") for text in shares)
    return make_cluster(shares=tuple(Share(Grantee.parse(g), Right(right), 0.0, "alice") for g, _, right in parts))


@pytest.mark.parametrize("action", Action)
def test_the_table_of_rights(action):
    """Each action, for the owner, an administrator, and each kind of share."""
    owner, admin, view, use = TABLE[action]
    assert may(ALICE, action, make_cluster()) is owner
    assert may(ROOT, action, make_cluster()) is admin
    for grantee in ("user:bob", "group:physics"):
        assert may(BOB, action, shared(f"{grantee} view")) is view
        assert may(BOB, action, shared(f"{grantee} use")) is use


@pytest.mark.parametrize("action", Action)
def test_what_is_somebody_elses_is_nobody_elses(action):
    """Neither a name that differs in case, nor a group of the owner's name, nor a user of a group's name, nor who is in
    another group.
    """
    cluster = shared("user:bob use", "group:physics use")
    for name, *groups in (["Alice"], ["Bob"], ["mallory", "alice", "bob", "Physics"], ["physics"], [""]):
        assert not may(Principal(name, frozenset(groups)), action, cluster)


def test_rights_add_up():
    """Who is meant by several shares, or owns and administers, has what each of them gives."""
    both = shared("user:bob view", "group:physics use")
    assert rights_of(BOB, both) == rights_of(BOB, shared("user:bob use"))
    assert rights_of(Principal("alice", admin=True), make_cluster()) == frozenset(Action)
    admin = Principal("bob", admin=True)
    assert rights_of(admin, shared("user:bob use")) == frozenset(Action)


def test_a_read_only_credential_looks():
    """What is offered with it is what only shows, whoever bears it, and never more than they have."""
    for principal in (ALICE, BOB, ROOT, Principal("mallory")):
        reading = Principal(principal.name, principal.groups, principal.admin, scope=Scope.READ_ONLY)
        for cluster in (make_cluster(), shared("user:bob use")):
            usable = usable_rights(reading, cluster)
            assert usable <= {Action.SEE, Action.LOGS, Action.DASHBOARD}
            assert usable <= rights_of(principal, cluster) == usable_rights(principal, cluster)


def test_a_refusal_says_whose_it_is_and_what_would_help():
    """For everyone in other words; no two of them are taken for each other."""
    words = [
        refusal(BOB, Action.CONNECT, shared("user:bob view")),
        refusal(BOB, Action.STOP, shared("user:bob use")),
        refusal(ROOT, Action.CONNECT, make_cluster()),
        refusal(ALICE, Action.LIMIT, make_cluster()),
    ]
    assert words == [
        "cannot connect to cluster c1: it belongs to alice, who shares it with you to view only",
        "cannot stop cluster c1: it belongs to alice, who shares it with you to use only",
        "cannot connect to cluster c1: it belongs to alice. An administrator does that on behalf of alice",
        "cannot limit cluster c1: only an administrator of this gateway may",
    ]
    assert all(a != b for a, b in combinations(words, 2))
