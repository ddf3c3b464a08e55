"""The line: who stands in it, whose turn it is, and that everybody's comes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model.samples import NOW, looks, make_cluster, make_running
from tests.unit.model.test_admission import ALICE, DECLARED, GROUPS, LIMITS, MINE, SPEC, Gateway
from tidegate.model import event as events
from tidegate.model import sizing
from tidegate.model.admission import admit_new, serve
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Adaptive, Cluster, ClusterSpec, ClusterState, Target, WorkerGroup, WorkerState
from tidegate.model.errors import LimitReached
from tidegate.model.lifecycle import plan, rewind
from tidegate.model.limits import Ledger, Limit, Subject, exceeded, holding_of, room
from tidegate.model.line import (
    HALF_LIFE,
    HANDICAP,
    MOST_WAITING,
    faded,
    in_line,
    is_short,
    is_waiting,
    line_up,
    numbered,
    placed,
    shortage,
    waits_for,
    words_of,
)
from tidegate.model.usage import DAY_SECONDS, Line, Use


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


def test_who_goes_on_waiting_behind_others_is_left_as_they_are():
    """It is told that others wait before it, and that it is first, once each; what one waited before counts."""
    full = book("clusters", 2, Amounts(clusters=2), at=NOW + 50)
    before_it = frozenset({"clusters user:alice"})
    assert serve(queued(), full) == (queued(), ())

    behind, (event,) = serve(queued(), full, blocked=before_it)
    assert behind.waiting.since == NOW
    words = "It waits for room: others wait before this cluster at the limit of 2 clusters for each user"
    assert event.message == words
    assert "place" not in event.data
    room = book("clusters", 9, Amounts(clusters=2), at=NOW + 60)
    assert serve(serve(behind, room, blocked=before_it)[0], room, blocked=before_it)[1] == ()

    first, (event,) = serve(behind, full)
    assert event.message == "It waits for room: the limit is 2 clusters for each user, of which 2 are in use"
    lowered, happened = serve(first, book("clusters", 2, Amounts(clusters=3)))
    assert (lowered.waiting.reason.endswith("of which 3 are in use"), happened) == (True, ())


def test_a_place_is_filled_in_where_a_record_is_shown():
    """Loads are counted and told none; who is not in line has none."""
    load = replace(make_running(wanted=1), name="load", spec=SPEC)
    load = line_up(load.with_group(replace(load.group(), asked=3, adaptive=Adaptive(0, 9))), "", "", NOW)
    line = [load, waiting("a", "alice", NOW), waiting("b", "bob", NOW)]

    places = numbered(line)

    assert places == {"a": 2, "b": 3}
    assert [placed(cluster, places).waiting.place for cluster in line] == [0, 2, 3]
    assert words_of(placed(line[2], places)).startswith("It waits for room as number 3 in line: the limit is 2")
    assert placed(make_running(), places) == make_running()


def test_whoever_asks_for_more_takes_a_new_place():
    """For less, or the same again, the old one is kept; a wait that was the load's is not that of a person."""
    cluster = replace(make_running(wanted=1), spec=SPEC)

    def ask(cluster: Cluster, count: int, at: float) -> Cluster:
        ledger = book("cores", 20, Amounts(cores=18), at=at)
        return sizing.scale(cluster, "default", count, ALICE, ledger).cluster

    first = ask(cluster, 5, NOW)
    assert [ask(first, count, NOW + 60).waiting.since for count in (3, 5, 6)] == [NOW, NOW, NOW + 60]
    again = ask(ask(first, 3, NOW + 60), 5, NOW + 70)
    assert again.waiting.since == NOW + 70
    load = first.with_group(replace(first.group(), adaptive=Adaptive(0, 9)))
    assert ask(load, 5, NOW + 60).waiting.since == NOW + 60


def test_who_is_blocked_while_there_is_room_reads_that_others_wait():
    """Not that the limit is used up, which it is not."""
    cluster = replace(make_running(wanted=2), spec=SPEC)
    ledger = book("cores", 20, blocked=frozenset({"cores user:alice"}))

    sized = sizing.scale(cluster, "default", 4, ALICE, ledger)

    why = "others wait before this cluster at the limit of 20 cores for each user"
    assert f"({why})" in sized.note
    assert shortage(sized.cluster) == [f"Workers wait for room: {why}"]


def test_who_asks_for_workers_with_a_spent_budget_waits_for_the_budget():
    """That is what is promised, and not room; nobody waits behind them. A new cluster is refused."""
    spent = replace(book("cores", 20), spent="9 core-hours for each user")

    sized = sizing.scale(replace(make_running(wanted=1), spec=SPEC), "default", 4, ALICE, spent)

    assert sized.note.endswith("The others follow when the budget allows it.")
    assert shortage(sized.cluster) == ["Workers wait for room: the budget is spent: 9 core-hours for each user"]
    assert (is_waiting(sized.cluster), waits_for(sized.cluster)) == (True, None)
    assert serve(sized.cluster, spent) == (sized.cluster, ())
    after, _ = serve(sized.cluster, replace(spent, spent=None))
    assert (after.group().wanted, after.waiting) == (4, None)
    with pytest.raises(LimitReached, match="cannot create a cluster: the budget is spent"):
        admit_new(make_cluster(spec=SPEC), spent)


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


def waiting(name: str, owner: str, since: float, *groups: str) -> Cluster:
    """Return a cluster that waits since that time."""
    cluster = replace(queued(), name=name, owner=owner, owner_groups=groups)
    return replace(cluster, waiting=replace(cluster.waiting, since=since))


def names(clusters: Iterable[Cluster]) -> list[str]:
    """Return their names."""
    return [cluster.name for cluster in clusters]


def test_the_order_is_by_what_is_held_and_weight_and_then_by_age():
    """Who holds least is first, a heavier group before a lighter one; of equals who came first."""
    holds = replace(make_running(wanted=4), name="runs", owner="bob", spec=SPEC)
    others = replace(make_running(wanted=2), name="runs too", owner="carol", spec=SPEC)
    line = [
        waiting("bob's", "bob", NOW - 60),
        waiting("carol's", "carol", NOW - 60),
        waiting("dan's", "dan", NOW - 10),
        waiting("dan's older", "dan", NOW - 20),
    ]

    assert names(in_line([holds, others, *line], {}, NOW)) == ["dan's older", "dan's", "carol's", "bob's"]
    heavy = [replace(c, owner_groups=("staff",)) if c.owner == "bob" else c for c in line]
    for weights in ({"staff": 9}, {"sta*": 9}):
        assert names(in_line([holds, others, *heavy], weights, NOW))[-1] == "carol's"


def test_who_has_used_much_stands_behind_who_has_not():
    """Also when nobody holds anything now: cores, memory or GPUs, whichever one has used most of; older use less."""
    line = [waiting("bob's", "bob", NOW - 60), waiting("carol's", "carol", NOW - 30), waiting("dan's", "dan", NOW)]
    today = int(NOW // DAY_SECONDS)

    past = faded([Line(Use(core_seconds=90), today, "bob"), Line(Use(core_seconds=10), today, "dan")], NOW)
    assert names(in_line(line, {}, NOW, past)) == ["carol's", "dan's", "bob's"]
    past = faded(
        [Line(Use(core_seconds=90, gpu_seconds=1), today, "bob"), Line(Use(gpu_seconds=99), today, "dan")], NOW
    )
    assert names(in_line(line, {}, NOW, past))[0] == "carol's"
    past = faded([Line(Use(core_seconds=90), today - 4, "bob"), Line(Use(core_seconds=60), today, "dan")], NOW)
    assert names(in_line(line, {}, NOW, past)) == ["carol's", "bob's", "dan's"]


def test_use_counts_half_a_day_later():
    """That of today in full; then half of it is gone each day, from moment to moment."""
    midnight = float(20_000 * DAY_SECONDS)
    used = Line(Use(core_seconds=800), 19_999, "bob")

    def left(now: float) -> float:
        return faded([used, Line(Use(core_seconds=5), 19_999, "dan")], now)["bob"].core_seconds

    assert [left(midnight - 1), left(midnight), left(midnight + HALF_LIFE)] == [800, 800, 400]
    assert left(midnight + 1.5 * HALF_LIFE) == pytest.approx(800 * 0.5**1.5)


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_stands_behind_who_came_an_hour_later(seed):
    """A thousand lines: whatever everybody holds, has used and weighs, no handicap is larger, nor is any negative."""
    random = Random(seed)
    owners = ["ann", "bob", "cat", "dan"]
    groups = {owner: tuple(g for g in ("heavy", "light") if random.random() < 0.5) for owner in owners}
    weights = {"heavy": 100.0, "light": 0.01}
    past = {owner: Use(*(random.choice([0, random.random(), 1e9]) for _ in range(3))) for owner in owners}
    runs = [replace(make_running(wanted=random.randint(0, 9)), name=owner, owner=owner, spec=SPEC) for owner in owners]
    line = []
    for number in range(random.randint(2, 12)):
        owner = random.choice(owners)
        line.append(waiting(f"w{number}", owner, NOW - random.uniform(0, 3 * HANDICAP), *groups[owner]))

    order = in_line([*random.sample(runs, random.randint(0, 4)), *line], weights, NOW, past)

    assert sorted(names(order)) == sorted(names(line))
    for place, cluster in enumerate(order):
        for other in order[place + 1 :]:
            assert cluster.waiting.since <= other.waiting.since + HANDICAP
            if cluster.owner == other.owner:
                assert cluster.waiting.since <= other.waiting.since, "of one's own the older one is first"


def test_a_clock_that_is_set_back_takes_nobodys_place():
    """Who waits since a moment that is still to come would else stand behind everybody until then."""
    late = waiting("c", "alice", NOW + 9999)

    assert rewind(late, NOW).waiting.since == NOW
    assert rewind(queued(), NOW) == queued()


# -- whatever happens --------------------------------------------------------------------------------------------------


WEIGHTS = {"staff": 2.0}
HISTORIES = int(os.environ.get("TIDEGATE_HISTORIES", "300"))
"""How many are tried, some 30 ms each; more of them with this variable."""


class WaitingGateway(Gateway):
    """The same, where requests for which there is no room wait; and clusters have small and large workers."""

    def spec(self) -> ClusterSpec:
        """Return what the next cluster is like: behind one that needs much stands one for which there is room."""
        cores, memory = self.random.choice([(1, 2**28), (2, 2**30), (5, 2**30), (2, 5 * 2**30)])
        return replace(SPEC, worker_cores=cores, worker_memory=memory, scheduler_cores=self.random.choice([0, 0, 3]))

    def ledger(self, owner: str, name: str) -> Ledger:
        """Return what is held besides one cluster, and who waits."""
        line = [c for c in self.clusters.values() if c.name != name and is_waiting(c)]
        blocked = frozenset(filter(None, map(waits_for, line)))
        mine = sum(c.owner == owner for c in line)
        return replace(super().ledger(owner, name), blocked=blocked, line=mine, at=self.now)

    def _size(self, cluster, how, *asked) -> Cluster:
        return cluster if cluster.queued else super()._size(cluster, how, *asked)  # it does not run yet

    def load(self, cluster: Cluster) -> Cluster:
        """Let the load ask, where there is one."""
        return cluster if cluster.queued else super().load(cluster)

    def line(self) -> list[Cluster]:
        """Return the line as it stands."""
        return in_line(self.clusters.values(), WEIGHTS, self.now, self.past)

    def hand_out(self) -> None:
        """Give everybody in line their turn, as the loop does."""
        before: list[Cluster] = []
        for cluster in self.line():
            ledger = self.ledger(cluster.owner, cluster.name)
            blocked = frozenset(filter(None, map(waits_for, before)))
            after, _ = serve(cluster, ledger, blocked=blocked)
            self.clusters[cluster.name] = after
            before += [after] if is_waiting(after) else []

    @property
    def past(self) -> dict[str, Use]:
        """What everybody has used, another thing each hour."""
        random = Random(int(self.now // 3600))
        return {owner: Use(core_seconds=random.choice([0.0, 1.0, 1000.0])) for owner in GROUPS}

    def holdings(self) -> dict[str, Amounts]:
        """Return what each cluster holds."""
        return {name: holding_of(cluster) for name, cluster in self.clusters.items()}


def check_nobody_passes(gateway: WaitingGateway, before: dict[str, Amounts], ahead: dict[str, Collection[str]]):
    """See that nobody came to hold more at a limit at which somebody still waits who stood before them.

    ``ahead`` are the names of those; where it tells nothing of a cluster, all.
    """
    still = {name: place for name, cluster in gateway.clusters.items() if (place := waits_for(cluster))}
    for name, held in gateway.holdings().items():
        had, cluster = before.get(name, NOTHING), gateway.clusters[name]
        if still and held.exceeds(had):
            places = {limit.place for limit in limits_of(cluster) if held.of(limit.resource) > had.of(limit.resource)}
            passed = {other for other in ahead.get(name, still) if other != name and still.get(other) in places}
            assert not passed, f"{name} passed {passed}"


def check_who_waits_is_waited_for(gateway: WaitingGateway):
    """See that all who wait keep others waiting at a limit of theirs."""
    for cluster in gateway.clusters.values():
        if is_waiting(cluster):
            assert waits_for(cluster) in {limit.place for limit in limits_of(cluster)}, cluster.name


@cache
def limits_of_owner(owner: str) -> tuple[Limit, ...]:
    """Return the limits that hold for somebody."""
    return DECLARED.limits_of(owner, GROUPS[owner])


def limits_of(cluster: Cluster) -> tuple[Limit, ...]:
    """Return the limits that hold for a cluster."""
    return limits_of_owner(cluster.owner)


def check_nothing_is_left(gateway: WaitingGateway, order: list[str]):
    """See that whoever is first at a limit really has no room there: what was free went to the next in order."""
    first: dict[str, Cluster] = {}
    for name in order:
        if is_waiting(cluster := gateway.clusters[name]):
            first.setdefault(waits_for(cluster) or "", cluster)
    for place, cluster in first.items():
        ledger = replace(gateway.ledger(cluster.owner, cluster.name), blocked=frozenset())
        if cluster.queued:
            begins = replace(cluster, queued=False, groups=tuple(replace(g, wanted=0) for g in cluster.groups))
            assert exceeded(ledger, holding_of(begins)) is not None, f"there is room for {cluster.name} at {place}"
        else:
            for group in filter(is_short, cluster.groups):
                fits = room(ledger, cluster, group.name).workers
                assert fits <= group.wanted, f"there is room for {cluster.name} at {place}"


@settings(max_examples=HISTORIES, deadline=None)
@given(st.integers(0, 2**32))
def test_no_line_exceeds_a_limit_and_nobody_passes(seed):
    """Hundreds of histories: no limit is exceeded; whoever asks where somebody waits stands behind them, and what is
    handed out goes to the next in order until nothing is left for them."""
    random = Random(seed)
    gateway = WaitingGateway(random)
    for _ in range(40):
        before = gateway.holdings()
        gateway.now += random.choice([0, 0, 0, 400, 4000])
        if random.random() < 0.3:
            order = names(gateway.line())
            gateway.hand_out()
            check_nobody_passes(gateway, before, {name: order[:place] for place, name in enumerate(order)})
            check_nothing_is_left(gateway, order)
        else:
            waited = {c.name for c in gateway.clusters.values() if is_waiting(c)}
            gateway.step()
            check_nobody_passes(gateway, before, dict.fromkeys(gateway.clusters, waited))
        check_who_waits_is_waited_for(gateway)
        held = gateway.held()
        for limit in LIMITS:
            assert held.get(limit.scope, NOTHING).of(limit.resource) <= limit.amount, limit


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_everybodys_turn_comes(seed):
    """Whoever waits gets what they asked for, when in each round the oldest that runs ends, and somebody new comes."""
    gateway = WaitingGateway(Random(seed))
    for _ in range(30):
        gateway.step()
    waiting = [c.name for c in gateway.clusters.values() if is_waiting(c)]
    for _ in range(3 * len(gateway.clusters) + 20):
        gateway.now += HANDICAP / 10
        gateway.hand_out()
        runs = [c for c in gateway.clusters.values() if not c.state.ended and not c.queued]
        for cluster in sorted(runs, key=lambda c: c.created_at)[:1]:
            ended = tuple(replace(w, state=WorkerState.ENDED) for w in cluster.workers)
            gone = replace(cluster, state=ClusterState.STOPPED, target=Target.STOPPED, workers=ended)
            gateway.clusters[cluster.name] = gone
        gateway.create()

    assert [name for name in waiting if is_waiting(gateway.clusters[name])] == []


def test_these_lines_are_long():
    """Otherwise they would show nothing."""
    gateway = WaitingGateway(Random(1))
    longest = 0
    for _ in range(200):
        gateway.step()
        longest = max(longest, sum(map(is_waiting, gateway.clusters.values())))

    assert longest > 5
