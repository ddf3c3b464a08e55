"""Ledgers that are counted in memory: the same that a transaction reads."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.model.samples import NOW, make_cluster, make_running
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.ledgers import Ledgers
from tidegate.model.limits import GATEWAY, Rule, Rules, Scope, ScopeKind, Subject, holding_of

SAID = [("user", "clusters", 4), ("group:sea", "cores", 9), ("gateway", "memory", 2**40)]
RULES = Rules([Rule(Subject.parse(whose), Resource(what), amount) for whose, what, amount in SAID])
ALICE, SEA = Scope(ScopeKind.USER, "alice"), Scope(ScopeKind.GROUP, "sea")


def runs(name: str, owner: str, workers: int, *groups: str) -> Cluster:
    """Return a cluster that runs."""
    return replace(make_running(wanted=workers), name=name, owner=owner, owner_groups=groups)


def test_a_ledger_has_what_all_others_hold():
    """In each scope in which the cluster counts, and without itself."""
    one, two, three = runs("1", "alice", 2, "sea"), runs("2", "bob", 3, "sea"), runs("3", "alice", 4)

    ledger = Ledgers([one, two, three], RULES).ledger(one, NOW)

    assert ledger.limits == RULES.limits_of("alice", ("sea",))
    assert ledger.others == {
        ALICE: holding_of(three),
        SEA: holding_of(two),
        GATEWAY: holding_of(two) + holding_of(three),
    }
    assert (ledger.at, ledger.line, ledger.blocked) == (NOW, None, frozenset())
    assert Ledgers([], Rules(waits=True)).ledger(one, NOW).line == 0


def test_what_has_changed_counts_in_place_of_what_was():
    """More, less, nothing any more; and one that comes."""
    one, two = runs("1", "alice", 2, "sea"), runs("2", "bob", 3, "sea")
    ledgers = Ledgers([one], RULES)
    new = replace(make_cluster(), name="new", owner="carol", owner_groups=("sea",))
    for now in (two, replace(two, groups=(replace(two.groups[0], wanted=9),)), two):
        ledgers.put(now)
        assert ledgers.ledger(new, NOW).others == {
            Scope(ScopeKind.USER, "carol"): NOTHING,
            SEA: holding_of(one) + holding_of(now),
            GATEWAY: holding_of(one) + holding_of(now),
        }
    ended = replace(two, state=ClusterState.STOPPED, groups=(), workers=())
    ledgers.put(ended)
    assert ledgers.ledger(new, NOW).others[SEA] == holding_of(one) + holding_of(ended)
    assert Amounts(3, 4, 5.0, 6, 7) - Amounts(1, 1, 1.5, 1, 1) == Amounts(2, 3, 3.5, 5, 6)
