"""What loads give back while others wait: who is asked for how much, and that it comes to rest."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model.samples import NOW, make_cluster, make_running
from tidegate.model.admission import serve
from tidegate.model.amounts import NOTHING, ROUNDING, Amounts, Resource
from tidegate.model.cluster import Adaptive, Cluster, ClusterSpec, ClusterState, Target, Waiting, WorkerGroup
from tidegate.model.limits import Ledger, Rule, Rules, Subject, holding_of, scopes_of, worker_shape
from tidegate.model.line import in_line, part_of, shortage, weight_of
from tidegate.model.pressure import SETTLE, FairSize, Sharing, give_back

CORES = ClusterSpec(worker_cores=1, worker_memory=0, max_workers=10**6)


def rules(**amounts: float) -> Rules:
    """Return rules, by subject and resource: ``user_cores=20``, ``group_students_workers=5``."""
    said = {tuple(words.rsplit("_", 1)): amount for words, amount in amounts.items()}
    made = [Rule(Subject.parse(whom.replace("_", ":")), Resource(what), n) for (whom, what), n in said.items()]
    return Rules(made)


def load(name: str, owner: str, wanted: int, asked: int, minimum: int = 0, **values: object) -> Cluster:
    """Return an adaptive cluster; if it has less than its load asks for, it has waited for long enough."""
    group = WorkerGroup(wanted=wanted, asked=asked, adaptive=Adaptive(minimum, 10**6))
    waiting = Waiting(NOW - SETTLE, "", "because") if asked > wanted else None
    begun = {"spec": CORES, "name": name, "owner": owner, "groups": (group,), "waiting": waiting}
    return replace(make_running(), **begun | values)


def by_hand(name: str, owner: str, wanted: int, asked: int | None = None) -> Cluster:
    """Return a cluster of a size that was set by hand."""
    cluster = load(name, owner, wanted, asked or wanted)
    return cluster.with_group(replace(cluster.group(), adaptive=None, asked=asked))


def queued(name: str, owner: str, wanted: int, since: float = NOW - SETTLE, spec: ClusterSpec = CORES) -> Cluster:
    """Return a cluster that waits to be let in."""
    place = Waiting(since, "cores gateway", "because")
    groups = (WorkerGroup(wanted=wanted),)
    return replace(make_cluster(spec=spec), name=name, owner=owner, groups=groups, queued=True, waiting=place)


def sizes(rules: Rules, *clusters: Cluster, frozen: tuple[str, ...] = ()) -> dict[str, int]:
    """Return the fair sizes of those that ask for more."""
    sharing = Sharing(clusters, rules.limits_of, rules.weights, frozen)
    return {size.cluster: size.workers for size in sharing.sizes()}


def back(rules: Rules, *clusters: Cluster) -> dict[str, int]:
    """Return to which size loads are to go back."""
    sharing = Sharing(clusters, rules.limits_of, rules.weights)
    return {size.cluster: size.workers for size in sharing.to_give_back(NOW)}


def test_who_wants_little_gets_it_and_the_others_the_same():
    """Max-min: 20 cores for loads that ask for 2, 100 and 100; who has too much gives it back."""
    clusters = [load("a", "ann", 2, 2), load("b", "bob", 18, 100), load("c", "cat", 0, 100)]

    assert sizes(rules(gateway_cores=20), *clusters) == {"b": 9, "c": 9}
    assert back(rules(gateway_cores=20), *clusters) == {"b": 9}
    assert sizes(rules(gateway_cores=300), *clusters) == {}


def test_owners_share_first_and_then_their_clusters():
    """Who starts many clusters gets no more by that; and a heavy group counts by its weight."""
    clusters = [load(f"a{n}", "ann", 4, 99) for n in range(3)] + [load("b", "bob", 0, 99)]
    assert sizes(rules(gateway_cores=12), *clusters) == {"a0": 2, "a1": 2, "a2": 2, "b": 6}

    heavy = [replace(clusters[0], owner_groups=("staff",)), clusters[-1]]
    weighted = Rules(rules(gateway_cores=12), weights={"staff": 3})
    assert sizes(weighted, *heavy) == {"a0": 9, "b": 3}


def test_what_was_set_by_hand_or_as_a_minimum_is_not_touched():
    """It counts for its owner, whose loads get the less beside it."""
    clusters = [by_hand("a1", "ann", 8), load("a2", "ann", 8, 99, minimum=3), load("b", "bob", 4, 99)]
    assert sizes(rules(gateway_cores=20), *clusters) == {"a2": 3, "b": 9}
    assert sizes(rules(gateway_cores=40), *clusters) == {"a2": 12, "b": 20}


def test_only_who_counts_there_gives_back():
    """A limit of one's own is nothing to others, nor is that of a group to those who are in none."""
    clusters = [
        load("a", "ann", 9, 99, owner_groups=("ice",)),
        load("b", "bob", 0, 99, owner_groups=("ice",)),
        load("c", "cat", 50, 99),
        load("d", "dan", 5, 99),
    ]
    declared = Rules([*rules(group_ice_cores=9, gateway_cores=1000), *rules(user_dan_cores=5)])
    assert back(declared, *clusters) == {"a": 5}


def test_who_stands_in_line_takes_part():
    """With what they wait for: a new cluster, with its scheduler and its workers, or workers asked for by hand."""
    large = replace(CORES, scheduler_cores=2)
    assert back(rules(gateway_cores=10), load("a", "ann", 10, 10), queued("b", "bob", 2, spec=large)) == {"a": 6}
    assert back(rules(gateway_cores=10), load("a", "ann", 10, 99), by_hand("b", "bob", 0, asked=99)) == {"a": 5}
    vain = replace(queued("b", "bob", 4), waiting=Waiting(NOW - 99, "", "it can never fit"))
    assert back(rules(gateway_cores=10), load("a", "ann", 10, 99), vain) == {}


def test_nothing_is_taken_for_a_moments_wait():
    """Nor for whoever gets nothing anyway, since their budget is spent; they keep what is fair of what they have."""
    clusters = load("a", "ann", 10, 99), load("b", "bob", 0, 99)
    early = replace(clusters[1], waiting=Waiting(NOW - SETTLE + 1, "", "because"))
    assert back(rules(gateway_cores=10), clusters[0], early) == {}
    assert sizes(rules(gateway_cores=10), *clusters, frozen=("b",)) == {"a": 10}
    assert sizes(rules(gateway_cores=10), clusters[0], load("b", "bob", 0, 99), frozen=("a",)) == {"a": 5, "b": 5}


def test_what_is_given_back_is_told():
    """In the record and its history: how many, that others wait, which limit it is; and of nobody who they are."""
    (size,) = Sharing(
        [load("a", "ann", 10, 30), load("b", "bob", 0, 99)], rules(gateway_cores=10).limits_of, {}
    ).to_give_back(NOW)

    after, (event,) = give_back(load("a", "ann", 10, 30), size, NOW)

    reason = "the limit is 10 cores for the whole gateway, and what is there is shared with others"
    assert (after.group().wanted, after.group().asked) == (5, 30)
    assert event.message == f"5 workers are wanted in place of 10, since others wait: {reason}"
    assert shortage(after) == [f"A limit leaves room for 5 of the 30 workers that are asked for: {reason}"]


@pytest.mark.parametrize(
    "cluster",
    [
        by_hand("a", "ann", 10),
        load("a", "ann", 10, 99, minimum=10),
        load("a", "ann", 10, 99, target=Target.STOPPED),
        load("a", "ann", 10, 99, state=ClusterState.STOPPING),
        load("a", "ann", 3, 99),
    ],
    ids=["by hand", "minimum", "to stop", "stopping", "smaller"],
)
def test_what_has_changed_meanwhile_counts(cluster: Cluster):
    """Somebody set the size by hand, or a minimum, or has it stopped: then it gives nothing back."""
    (limit,) = rules(gateway_cores=10).limits_of("ann", ())
    assert give_back(cluster, FairSize("a", "default", 5, limit), NOW) == (cluster, ())


# -- whatever is asked -------------------------------------------------------------------------------------------------

GROUPS = {"ann": ("ice",), "bob": ("ice", "sea"), "cat": ("sea",), "dan": ()}


def gateway(random: Random) -> tuple[Rules, list[Cluster]]:
    """Return some limits, and clusters that hold no more than they leave room for."""
    chosen = {
        "gateway_cores": random.randint(5, 60),
        "group_ice_cores": random.randint(3, 40),
        "group_sea_memory": random.randint(3, 40) * 2**30,
        "user_workers": random.randint(2, 30),
        "user_dan_cores": random.randint(1, 9),
    }
    said = rules(**{key: amount for key, amount in chosen.items() if random.random() < 0.7})
    declared = Rules(said, weights={"sea": random.choice([1, 1, 2.5])})
    clusters: list[Cluster] = []
    for number in range(random.randint(2, 8)):
        owner, name = random.choice(list(GROUPS)), f"c{number}"
        spec = replace(CORES, worker_cores=random.choice([0.5, 1, 4]), worker_memory=random.choice([0, 2**30]))
        begun = {"spec": spec, "owner_groups": GROUPS[owner], "created_at": NOW - random.randint(0, 99)}
        minimum = random.choice([0, 0, 2])
        cluster = random.choice(
            [
                load(name, owner, minimum, random.randint(minimum, 30), minimum=minimum),
                load(name, owner, minimum, random.randint(minimum, 30), minimum=minimum),
                by_hand(name, owner, random.randint(0, 3)),
                by_hand(name, owner, 0, asked=random.randint(1, 9)),
                queued(name, owner, random.randint(0, 5)),
            ]
        )
        cluster = replace(cluster, **begun)
        clusters += [cluster] if fits(declared, clusters, cluster) else []
    return declared, clusters


def fits(declared: Rules, others: list[Cluster], cluster: Cluster) -> bool:
    """Whether limits leave room for what a cluster holds beside others."""
    for limit in declared.limits_of(cluster.owner, cluster.owner_groups):
        counted = [c for c in (*others, cluster) if limit.scope in scopes_of(c.owner, c.owner_groups)]
        if sum(holding_of(c).of(limit.resource) for c in counted) > limit.amount + ROUNDING:
            return False
    return True


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_could_have_more_but_of_one_who_has_no_more(seed):
    """What fair is: all together fits; and where a load has less than it asks for, no other one has a worker that would
    make room for it and that its owner was given when they had more already."""
    declared, clusters = gateway(Random(seed))
    fair = sizes(declared, *clusters)
    after = [at_its_fair_size(c, fair) for c in clusters if not c.queued]
    owners = {owner: sum((holding_of(c) for c in after if c.owner == owner), NOTHING) for owner in GROUPS}
    whole = wanted_by_all(clusters)
    for cluster in after:
        assert fits(declared, [c for c in after if c is not cluster], cluster), "it fits"
        group = cluster.group()
        if group.adaptive is None or group.wanted >= (group.asked or 0):
            continue
        rest = [c for c in after if c is not cluster]
        more = cluster.with_group(replace(group, wanted=group.wanted + 1))
        assert not fits(declared, rest, more) or queues(clusters), "there is room, and it is not given"
        for other in rest:
            given = other.group()
            if given.adaptive is None or given.wanted <= given.adaptive.minimum or number_of(after, other.owner) > 1:
                continue  # what an owner has in other clusters they may have been given later
            less = other.with_group(replace(given, wanted=given.wanted - 1))
            if fits(declared, [c for c in rest if c is not other] + [less], more):
                theirs = part_of(minus(owners[other.owner], worker_shape(other.spec)), whole)
                mine = part_of(owners[cluster.owner], whole)
                weights = declared.weights
                assert theirs / weight_of(other, weights) <= mine / weight_of(cluster, weights) + 1e-9 or queues(
                    clusters
                )


def number_of(clusters: list[Cluster], owner: str) -> int:
    """Return how many clusters somebody has."""
    return sum(cluster.owner == owner for cluster in clusters)


def at_its_fair_size(cluster: Cluster, fair: dict[str, int]) -> Cluster:
    """Return a cluster with what it is given."""
    group = cluster.group()
    if group.adaptive is None:
        return cluster
    return cluster.with_group(replace(group, wanted=fair.get(cluster.name, max(group.wanted, group.asked or 0))))


def queues(clusters: list[Cluster]) -> bool:
    """Whether somebody stands in line by hand: what is set aside for them is seen in no record yet."""
    return any(c.queued or (c.group().adaptive is None and c.group().asked) for c in clusters)


def wanted_by_all(clusters: list[Cluster]) -> Amounts:
    """Return what all would hold if there were no limits."""
    whole = NOTHING
    for cluster in clusters:
        size = max(cluster.group().wanted, cluster.group().asked or 0)
        whole += Amounts(clusters=1) + worker_shape(cluster.spec) * size
    return whole


def minus(mine: Amounts, less: Amounts) -> Amounts:
    """Return what is left of an amount."""
    return mine + less * -1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_it_comes_to_rest(seed):
    """Two hundred gateways, whatever everybody has to begin with: after a few looks nobody is asked to give back, or
    given anything; no limit is ever exceeded, and nothing taken below a minimum, or of a size that was set by hand."""
    random = Random(seed)
    declared, clusters = gateway(random)
    for place, cluster in enumerate(clusters):
        clusters[place] = greedy(declared, clusters, cluster, random)
    minima = {c.name: c.group().adaptive.minimum for c in clusters if c.group().adaptive is not None}
    seen: list[list[Cluster]] = []
    for turn in range(10):
        clusters = look(declared, clusters, NOW + turn * SETTLE)
        seen.append(clusters)
        for cluster in clusters:
            assert cluster.group().wanted >= minima.get(cluster.name, 0)
        assert all(fits(declared, [o for o in clusters if o is not c], c) for c in clusters)

    assert [c.groups for c in seen[-1]] == [c.groups for c in seen[-2]] == [c.groups for c in seen[-3]]


def greedy(declared: Rules, clusters: list[Cluster], cluster: Cluster, random: Random) -> Cluster:
    """Return a load with more than it needs to begin with, if there is room."""
    group = cluster.group()
    if group.adaptive is None or random.random() < 0.5:
        return cluster
    more = cluster.with_group(replace(group, wanted=random.randint(group.wanted, group.asked)))
    return more if fits(declared, [c for c in clusters if c is not cluster], more) else cluster


def look(declared: Rules, clusters: list[Cluster], now: float) -> list[Cluster]:
    """Do what the loop does in one look, where workers come and go at once."""
    named = {c.name: c for c in clusters}
    sharing = Sharing(clusters, declared.limits_of, declared.weights)
    fair = {size.cluster: {size.group: size.capacity} for size in sharing.sizes()}
    for size in sharing.to_give_back(now):
        named[size.cluster], _ = give_back(named[size.cluster], size, now)
    for cluster in in_line(named.values(), declared.weights, now):
        limits = declared.limits_of(cluster.owner, cluster.owner_groups)
        others = {
            limit.scope: sum(
                (
                    holding_of(c)
                    for c in named.values()
                    if c.name != cluster.name and limit.scope in scopes_of(c.owner, c.owner_groups)
                ),
                NOTHING,
            )
            for limit in limits
        }
        ledger = Ledger(limits, others, at=now, line=0, fair=fair.get(cluster.name, {}))
        named[cluster.name], _ = serve(cluster, ledger)
    return list(named.values())


def test_many_workers_are_handed_out_at_once():
    """By more than one at a time: a hundred thousand cost no more than a few thousand, and come to the same."""
    clusters = [load(f"c{n}", f"user{n % 40}", 0, 1000) for n in range(200)]
    fair = sizes(rules(gateway_cores=100_000), *clusters)

    assert sum(fair.values()) == 100_000
    assert max(fair.values()) - min(fair.values()) <= 0.1 * 500
