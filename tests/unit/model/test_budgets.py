"""Budgets: whose word holds, what is used of them, and what becomes of a cluster when one is spent."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.contract.store_samples import make_cluster
from tidegate.model import reasons
from tidegate.model.admission import admit_new, most_workers, serve
from tidegate.model.budgets import Budget, Budgets, Measure, Standing
from tidegate.model.cluster import Cluster, ClusterState, WorkerGroup
from tidegate.model.ends import advance, foreseen, keep, over
from tidegate.model.errors import LimitReached
from tidegate.model.limits import Ledger, Scope, ScopeKind, Subject
from tidegate.model.line import line_up
from tidegate.model.principal import Principal
from tidegate.model.usage import Use

HOUR = 3600.0
ALICE, ICE, STAFF = Scope(ScopeKind.USER, "alice"), Scope(ScopeKind.GROUP, "ice"), Scope(ScopeKind.GROUP, "staff")


def budgets(*said: tuple[str, float], measure: Measure = Measure.CORE_HOURS) -> Budgets:
    """Return budgets, each as an administrator writes it."""
    return Budgets([Budget(Subject.parse(subject), measure, amount, 30) for subject, amount in said])


def hours(**used: float) -> dict[Scope, Use]:
    """Return what was used within scopes, in core-hours."""
    scopes = {"alice": ALICE, "ice": ICE, "staff": STAFF}
    return {scopes[name]: Use(core_seconds=number * HOUR) for name, number in used.items()}


def test_a_pattern_stands_for_each_group_that_is_like_it() -> None:
    """Each has a budget of its own, under its own name; what is said of one by name goes before."""
    said = budgets(("group:s*", 10), ("group:ice", 100), ("group:*", 50))

    found = said.standings("alice", ("ice", "staff", "x"), hours(ice=20, staff=20))
    assert [(str(one.scope), one.budget.amount, one.used) for one in found] == [
        ("group:ice", 100, 20), ("group:staff", 10, 20), ("group:x", 50, 0),
    ]  # fmt: skip
    spent = said.spent("alice", ("ice", "staff"), hours(ice=20, staff=20))
    assert spent is not None
    assert spent.words == "10 core-hours in 30 days for the group staff together, of which 20.0 are used"


@pytest.mark.parametrize(
    ("said", "amount"),
    [
        ([("user", 10.0)], 10),
        ([("user", 10.0), ("each:ice", 5.0)], 5),
        ([("each:ice", 5.0), ("each:staff", 50.0), ("each:others", 500.0)], 50),
        ([("user", 10.0), ("each:ice", 50.0), ("user:alice", 1.0)], 1),
        ([("user:bob", 1.0)], None),
    ],
    ids=["everyone's", "of the group", "of the most generous group", "her own", "nobody's"],
)
def test_of_a_user_the_nearest_word_holds(said: list[tuple[str, float]], amount: float | None) -> None:
    """As with limits."""
    found = budgets(*said).standings("alice", ("ice", "staff"), hours(alice=3))
    assert [(one.budget.amount, one.used) for one in found] == ([] if amount is None else [(amount, 3)])


def test_what_a_group_has_together_holds_besides() -> None:
    """For each group that the cluster counts for; the one that is overdrawn by the most is told."""
    both = budgets(("user", 10), ("group:ice", 100), ("group:staff", 100))
    assert [str(one.scope) for one in both.standings("alice", ("staff", "ice"), {})] == [
        "user:alice", "group:ice", "group:staff",
    ]  # fmt: skip
    assert both.spent("alice", ("ice", "staff"), hours(alice=9.9, ice=99.9, staff=99)) is None
    assert both.spent("alice", ("staff",), hours(alice=1, ice=300, staff=99)) is None
    spent = both.spent("alice", ("ice", "staff"), hours(alice=10, ice=120, staff=105))
    assert spent.words == "100 core-hours in 30 days for the group ice together, of which 120.0 are used"


@pytest.mark.parametrize("measure", Measure)
def test_each_measure_is_counted_by_itself(measure: Measure) -> None:
    """Hours of cores, memory and GPUs, and what they cost."""
    used = {ALICE: Use(1 * HOUR, 2 * HOUR, 3 * HOUR, 4.0)}
    (standing,) = budgets(("user", 2.5), measure=measure).standings("alice", (), used)
    assert standing.used == list(Measure).index(measure) + 1
    assert standing.is_spent == (standing.used >= 2.5)


def test_a_budget_of_nothing_is_spent_from_the_start() -> None:
    """Whoever gets 0 gets nothing."""
    assert budgets(("user", 0)).spent("alice", (), {}) is not None


# -- what becomes of it ----------------------------------------------------------------------------------------------

SPENT = Ledger(spent="9 core-hours in 30 days for each user, of which 9.5 are used")
NOW = 1_000_000.0


def running(**values: object) -> Cluster:
    """Return a cluster that runs, with two workers wanted and five asked for."""
    group = WorkerGroup(wanted=2, asked=5)
    return make_cluster(state=ClusterState.RUNNING, started_at=NOW, groups=(group,), **values)


def over_budget(grace: float, **values: object) -> Cluster:
    """Return a cluster that counts for a budget which has just been spent."""
    cluster = running(**values)
    activity = replace(cluster.activity, spent_since=NOW, spent_grace=grace, spent_why="9 core-hours for each user")
    return replace(cluster, activity=activity)


def test_nothing_new_is_given() -> None:
    """A new cluster is refused with the budget and what is used; one that runs keeps what it has and gets no more."""
    with pytest.raises(
        LimitReached, match=r"the budget is spent: 9 core-hours in 30 days for each user, of which 9\.5"
    ):
        admit_new(make_cluster(), SPENT)
    cluster = running()
    most = most_workers(cluster, cluster.group(), SPENT)
    assert (most.max_workers, most.reason) == (2, f"the budget is spent: {SPENT.spent}")
    assert most_workers(cluster, cluster.group(), Ledger()).max_workers > 2


def test_who_stands_in_line_waits_on() -> None:
    """Until there is something left again."""
    queued = line_up(make_cluster(queued=True), "clusters gateway", "the limit is 1 cluster", NOW)
    waiting, _ = serve(queued, replace(SPENT, line=0, at=NOW))
    assert waiting.queued
    assert "the budget is spent" in waiting.waiting.reason
    begun, _ = serve(waiting, Ledger(line=0, at=NOW))
    assert not begun.queued


def test_what_runs_is_announced_to_end_and_ends() -> None:
    """At once, and after the time of grace; whatever runs on it, and however it is kept."""
    cluster = over_budget(HOUR)
    warned, (event,) = advance(cluster, NOW + 10)
    assert event.message == "The cluster ends in 1 h: a budget is spent (9 core-hours for each user)"
    assert over(warned, NOW + HOUR) is None, "it was announced 10 s late"
    reason = over(warned, NOW + HOUR + 10)
    assert (reason.code, reason.message) == (
        reasons.BUDGET, "Stopped, since a budget is spent: 9 core-hours for each user",
    )  # fmt: skip
    kept = keep(warned, 8 * HOUR, math.inf, Principal("alice"), NOW + 10)
    assert "all the same: a budget is spent" in kept.note
    assert foreseen(kept.cluster).at == NOW + HOUR
    assert reasons.BUDGET in reasons.WANTED


def test_without_grace_it_ends_at_once() -> None:
    """There is nothing to announce then."""
    assert over(over_budget(0.0), NOW).code == reasons.BUDGET


def test_when_something_is_left_again_it_goes_on() -> None:
    """And that is told, if the end was announced."""
    warned, _ = advance(over_budget(HOUR), NOW)
    freed = replace(warned, activity=replace(warned.activity, spent_since=None))
    _, (event,) = advance(freed, NOW + 60)
    assert event.message == "The cluster goes on"
    assert foreseen(freed) is None


def test_a_budget_of_cost_without_a_currency_is_in_words_too() -> None:
    """Prices are numbers where nobody says in what."""
    budget = Budget(Subject.parse("user"), Measure.COST, 50, 30)
    assert budget.words == "a cost of 50 in 30 days for each user"
    assert replace(budget, currency="EUR").words == "50 EUR in 30 days for each user"


@pytest.mark.parametrize(
    ("amount", "by_day", "used", "day"),
    [
        (10, {71: 4, 80: 7}, 12, 101),
        (10, {71: 1, 80: 7}, 12, 110),
        (10, {80: 1}, 30, 130),
        (0, {80: 1}, 1, None),
    ],
    ids=["the first day's", "the second's", "today's", "never"],
)
def test_when_some_is_left_again(amount: float, by_day: dict[int, float], used: float, day: int | None) -> None:
    """When the day leaves the window after which less was used; a budget of nothing never has any."""
    standing = Standing(Budget(Subject.parse("user"), Measure.CORE_HOURS, amount, 30), ALICE, used)
    past = {number: Use(core_seconds=n * HOUR) for number, n in by_day.items()}
    assert standing.left_again(past, today=100) == day
