"""The line: who stands in it, whose turn it is, and that everybody's comes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model.samples import NOW, looks, make_cluster, make_running
from tests.unit.model.test_admission import ALICE, LIMITS, MINE, SPEC, Gateway
from tidegate.model import event as events
from tidegate.model import sizing
from tidegate.model.admission import admit_new, serve
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Cluster, ClusterState, Target, WorkerGroup, WorkerState
from tidegate.model.errors import LimitReached
from tidegate.model.lifecycle import plan
from tidegate.model.limits import Ledger, Limit, Subject, holding_of, scopes_of
from tidegate.model.line import MOST_WAITING, PATIENCE, in_line, is_waiting, waits_for, words_of


def book(resource: str, amount: float, used: Amounts = NOTHING, **values: object) -> Ledger:
    """Return a ledger with one limit for alice, of which others use something, where people wait."""
    limit = Limit(MINE, Resource(resource), amount, Subject.parse("user"))
    return Ledger((limit,), {MINE: used}, **{"line": 0, "at": NOW} | values)


def queued(**values: object) -> Cluster:
    """Return a cluster that waits to be let in."""
    cluster = make_cluster(spec=SPEC, groups=(WorkerGroup(wanted=2),), **values)
    return admit_new(cluster, book("clusters", 2, Amounts(clusters=2)))[0]


# -- standing in line --------------------------------------------------------------------------------------------------


def test_a_cluster_for_which_there_is_no_room_waits():
    """It holds nothing, says why, keeps what it was asked for, and nothing is launched."""
    cluster = make_cluster(spec=SPEC, groups=(WorkerGroup(wanted=2),))

    waiting, note = admit_new(cluster, book("clusters", 2, Amounts(clusters=2)))

    assert waiting.queued
    assert holding_of(waiting) == NOTHING
    assert waits_for(waiting) == "clusters user:alice"
    assert note == "It waits for room: the limit is 2 clusters for each user, of which 2 are in use"
    assert waiting.groups == cluster.groups


@given(looks)
def test_nothing_is_done_for_what_waits_but_end_it(seen):
    """Whatever is seen; and stopped, it ends like any other without ever holding anything."""
    waiting = queued()
    assert plan(waiting, seen, NOW) == []

    stopped = sizing.stop(waiting, ALICE).cluster
    assert not is_waiting(stopped)
    assert plan(stopped, None, NOW)
    assert holding_of(stopped) == NOTHING


def test_what_can_never_fit_is_refused_all_the_same():
    """Nobody waits for what cannot come; nor do more of one's clusters wait than may."""
    with pytest.raises(LimitReached, match="the limit is 0 clusters"):
        admit_new(make_cluster(spec=SPEC), book("clusters", 0))
    with pytest.raises(LimitReached, match="not even one worker fits"):
        admit_new(make_cluster(spec=SPEC), book("cores", 1))
    with pytest.raises(LimitReached, match="20 clusters of alice wait for room already, and 20 are the most"):
        admit_new(make_cluster(spec=SPEC), book("clusters", 2, Amounts(clusters=2), line=MOST_WAITING))


def test_a_size_that_does_not_fit_waits_for_the_rest():
    """What fits is given at once, the rest stands in line; a smaller size, the load or a stop leaves it."""
    cluster = replace(make_running(wanted=1), spec=SPEC)

    sized = sizing.scale(cluster, "default", 9, ALICE, book("cores", 20, Amounts(cores=10)))

    assert (sized.cluster.group().wanted, sized.cluster.group().asked) == (5, 9)
    assert str(sized.note).endswith("of which 12 are in use) The others follow when there is room.")
    words = "Workers wait for room: the limit is 20 cores for each user, of which 20 are in use"
    assert words_of(sized.cluster) == words
    for after in (
        sizing.scale(sized.cluster, "default", 3, ALICE, book("cores", 20)),
        sizing.adapt(sized.cluster, "default", 0, 3, ALICE, book("cores", 20)),
        sizing.stop(sized.cluster, ALICE),
    ):
        assert not is_waiting(after.cluster)


def test_where_others_wait_nothing_more_is_given():
    """Neither to a new cluster nor to one that grows; at other limits they do not matter."""
    blocked = frozenset({"clusters user:alice"})
    waiting, _ = admit_new(make_cluster(spec=SPEC), book("clusters", 5, blocked=blocked))
    assert waiting.queued
    cluster = replace(make_running(wanted=2), spec=SPEC)
    behind = sizing.scale(cluster, "default", 4, ALICE, book("cores", 20, blocked=frozenset({"cores user:alice"})))
    assert behind.cluster.group().wanted == 2

    assert sizing.scale(cluster, "default", 4, ALICE, book("cores", 20, blocked=blocked)).cluster.group().wanted == 4


# -- turns -------------------------------------------------------------------------------------------------------------


def test_whose_turn_it_is_begins_when_there_is_room():
    """Its workers as far as they fit, its start from now on; and the history says it."""
    after, (event,) = serve(queued(), book("cores", 3, at=NOW + 99))

    assert (after.queued, after.changed_at) == (False, NOW + 99)
    assert (after.group().wanted, after.group().asked) == (1, 2)
    assert event.kind == events.WAITING
    assert "There is room now. 2 workers were to start, and 1 do: the limit is 3 cores" in event.message


def test_who_goes_on_waiting_is_told_the_place():
    """Once for each place; what one waited before counts."""
    full = book("clusters", 2, Amounts(clusters=2), at=NOW + 50)

    after, (event,) = serve(queued(), full, place=3)

    assert (after.waiting.since, after.waiting.place) == (NOW, 3)
    assert event.message.startswith("It waits for room as number 3 in line: the limit is 2 clusters")
    assert event.data["place"] == 3
    assert serve(after, full, place=3) == (after, ())


def test_nobody_waits_behind_what_can_no_longer_come():
    """A limit was lowered: who waits in vain keeps their place, and keeps nobody else waiting."""
    after, _ = serve(queued(), book("clusters", 0))

    assert is_waiting(after)
    assert waits_for(after) is None
    cluster = replace(make_running(wanted=1), spec=SPEC)
    waiting = sizing.scale(cluster, "default", 9, ALICE, book("cores", 20, Amounts(cores=18))).cluster
    assert serve(waiting, book("cores", 2))[0].waiting is None


def test_workers_that_wait_are_given_as_they_fit():
    """Part of them, then the last; then the cluster leaves the line."""
    cluster = replace(make_running(wanted=1), spec=SPEC)
    waiting = sizing.scale(cluster, "default", 9, ALICE, book("cores", 20, Amounts(cores=18))).cluster

    some, _ = serve(waiting, book("cores", 20, Amounts(cores=12)))
    assert (some.group().wanted, is_waiting(some)) == (4, True)
    every, (event,) = serve(some, book("cores", 20))
    assert (every.group().wanted, every.waiting) == (9, None)
    assert event.kind == events.WORKERS


def test_the_order_is_by_use_and_weight_and_then_by_age():
    """Who holds least is first, a heavier group before a lighter one; who has waited long enough before all."""

    def waiting(name: str, owner: str, since: float, *groups: str) -> Cluster:
        cluster = replace(queued(), name=name, owner=owner, owner_groups=groups)
        return replace(cluster, waiting=replace(cluster.waiting, since=since))

    holds = replace(make_running(wanted=4), name="runs", owner="bob", spec=SPEC)
    others = replace(make_running(wanted=2), name="runs too", owner="carol", spec=SPEC)
    line = [
        waiting("bob's", "bob", NOW - 60),
        waiting("carol's", "carol", NOW - 60),
        waiting("dan's", "dan", NOW - 10),
        waiting("dan's older", "dan", NOW - 20),
        waiting("bob's oldest", "bob", NOW - PATIENCE),
    ]

    assert [c.name for c in in_line([holds, others, *line], {}, NOW)] == [
        "bob's oldest",
        "dan's older",
        "dan's",
        "carol's",
        "bob's",
    ]
    heavy = [replace(c, owner_groups=("staff",)) if c.owner == "bob" else c for c in line]
    assert [c.name for c in in_line([holds, others, *heavy], {"staff": 9}, NOW)][-1] == "carol's"


# -- whatever happens --------------------------------------------------------------------------------------------------


class WaitingGateway(Gateway):
    """The same, where requests for which there is no room wait."""

    def ledger(self, owner: str, name: str) -> Ledger:
        """Return what is held besides one cluster, and who waits."""
        line = [c for c in self.clusters.values() if c.name != name and is_waiting(c)]
        blocked = frozenset(filter(None, map(waits_for, line)))
        mine = sum(c.owner == owner for c in line)
        return replace(super().ledger(owner, name), blocked=blocked, line=mine, at=self.now)

    def hand_out(self) -> None:
        """Give everybody in line their turn, as the loop does."""
        waiting: list[Cluster] = []
        for cluster in in_line(self.clusters.values(), {}, self.now):
            ledger = self.ledger(cluster.owner, cluster.name)
            blocked = frozenset(filter(None, map(waits_for, waiting)))
            after, _ = serve(cluster, ledger, blocked=blocked, place=len(waiting) + 1)
            self.clusters[cluster.name] = after
            waiting += [after] if is_waiting(after) else []

    def held_at(self, place: str) -> dict[str, float]:
        """Return what each cluster holds of what is limited at a place in the line's words."""
        (limit,) = [limit for limit in LIMITS if limit.place == place]
        counted = [c for c in self.clusters.values() if _counts(limit, c)]
        return {c.name: holding_of(c).of(limit.resource) for c in counted}


def _counts(limit: Limit, cluster: Cluster) -> bool:
    return limit.scope in scopes_of(cluster.owner, cluster.owner_groups)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_no_line_exceeds_a_limit_and_nobody_passes(seed):
    """Three hundred histories: no limit is exceeded, and where somebody waits nobody who stands behind gets more."""
    gateway = WaitingGateway(Random(seed))
    for number in range(60):
        line = in_line(gateway.clusters.values(), {}, gateway.now)
        first = {}
        for cluster in line:
            first.setdefault(waits_for(cluster), cluster.name)
        before = {place: gateway.held_at(place) for place in first}
        gateway.hand_out() if number % 3 == 2 else gateway.step()
        held = gateway.held()
        for limit in LIMITS:
            assert held.get(limit.scope, NOTHING).of(limit.resource) <= limit.amount, limit
        ahead = [c.name for c in line]
        for place, name in first.items():
            if waits_for(gateway.clusters[name]) != place:
                continue
            behind = set(gateway.held_at(place)) - set(ahead[: ahead.index(name) + 1])
            for other in behind:
                assert gateway.held_at(place)[other] <= before[place].get(other, 0), f"{other} passed {name} at {place}"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_everybodys_turn_comes(seed):
    """Whoever waits gets what they asked for, when in each round only the oldest that runs ends."""
    gateway = WaitingGateway(Random(seed))
    for _ in range(30):
        gateway.step()
    waiting = [c.name for c in gateway.clusters.values() if is_waiting(c)]
    for _ in range(3 * len(gateway.clusters)):
        gateway.now += PATIENCE
        gateway.hand_out()
        runs = [c for c in gateway.clusters.values() if not c.state.ended and not c.queued]
        for cluster in sorted(runs, key=lambda c: c.created_at)[:1]:
            ended = tuple(replace(w, state=WorkerState.ENDED) for w in cluster.workers)
            gone = replace(cluster, state=ClusterState.STOPPED, target=Target.STOPPED, workers=ended)
            gateway.clusters[cluster.name] = gone

    assert [name for name in waiting if is_waiting(gateway.clusters[name])] == []


def test_these_lines_are_long():
    """Otherwise they would show nothing."""
    gateway = WaitingGateway(Random(1))
    longest = 0
    for _ in range(200):
        gateway.step()
        longest = max(longest, sum(map(is_waiting, gateway.clusters.values())))

    assert longest > 5
