"""What a cluster holds, which limits hold for it, and how much room they leave."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.samples import clusters, make_cluster, make_running, make_worker
from tidegate.model.amounts import Amounts, Resource, parse_amount
from tidegate.model.cluster import ClusterSpec, ClusterState, Target, WorkerGroup, WorkerState
from tidegate.model.errors import Invalid
from tidegate.model.limits import (
    GATEWAY,
    Ledger,
    Limit,
    Rule,
    Rules,
    Scope,
    ScopeKind,
    Subject,
    exceeded,
    holding_of,
    room,
)

ALICE = Scope(ScopeKind.USER, "alice")
SPEC = ClusterSpec(worker_cores=2, worker_memory=4 * 2**30, worker_gpus=1, scheduler_cores=1, scheduler_memory=2**30)


def rule(subject: str, resource: str, amount: float) -> Rule:
    """Return a rule, written as an administrator writes it."""
    return Rule(Subject.parse(subject), Resource(resource), amount)


def limits_of(declared: Rules, owner: str, *groups: str) -> dict[str, float]:
    """Return the limits that hold for somebody, by scope and resource."""
    return {f"{limit.scope} {limit.resource.value}": limit.amount for limit in declared.limits_of(owner, groups)}


# -- what is held ------------------------------------------------------------------------------------------------------


def test_a_cluster_holds_its_scheduler_and_what_is_wanted():
    """Before anything of it runs: the scheduler where it has a size, and each worker's cores, memory and GPUs."""
    cluster = make_cluster(spec=SPEC, groups=(WorkerGroup(wanted=3), WorkerGroup("more", wanted=1)))

    assert holding_of(cluster) == Amounts(1, 4, 9, 17 * 2**30, 4)


def test_what_is_being_stopped_still_holds():
    """The larger of what is wanted and what has not ended, in each group."""
    crew = [make_worker(n, state) for n, state in enumerate([WorkerState.RUNNING, WorkerState.STOPPING] * 2, 1)]
    cluster = make_running(*crew, make_worker(5, WorkerState.ENDED), wanted=1)

    assert holding_of(cluster).workers == 4
    assert holding_of(cluster.with_group(replace(cluster.group(), wanted=6))).workers == 6


def test_what_is_to_stop_starts_nothing_any_more():
    """Only what runs still holds; and nothing after the end."""
    stopping = replace(make_running(make_worker(1), wanted=5), target=Target.STOPPED)

    assert holding_of(stopping).workers == 1
    assert holding_of(replace(stopping, state=ClusterState.STOPPED)) == Amounts()


@given(clusters())
def test_any_cluster_holds_what_runs_of_it(cluster):
    """No worker that has not ended is left uncounted, and an ended cluster holds nothing."""
    there = sum(w.state is not WorkerState.ENDED for w in cluster.workers)

    held = holding_of(cluster)

    assert held.clusters == (0 if cluster.state.ended else 1)
    assert cluster.state.ended or held.workers >= there


# -- which limits hold -------------------------------------------------------------------------------------------------


def test_for_a_user_the_nearest_rule_holds():
    """By name before each member of a group before every user, resource by resource; unlimited is an amount too."""
    declared = Rules(
        [
            *(rule("user", name, 1) for name in ("clusters", "workers", "cores", "memory", "gpus")),
            *(rule("each:staff", name, 2) for name in ("workers", "cores", "memory")),
            *(rule("user:alice", name, 3) for name in ("cores", "memory")),
            rule("user:alice", "gpus", math.inf),
        ]
    )

    assert limits_of(declared, "alice", "staff") == {
        "user:alice clusters": 1,
        "user:alice workers": 2,
        "user:alice cores": 3,
        "user:alice memory": 3,
    }
    assert limits_of(declared, "bob")["user:bob gpus"] == 1


def test_of_several_groups_the_most_generous_holds():
    """For each member; of what groups have together every one holds."""
    declared = Rules(
        [
            rule("each:staff", "cores", 8),
            rule("each:physics", "cores", 20),
            rule("group:staff", "cores", 100),
            rule("group:physics", "cores", 50),
            rule("gateway", "memory", 2**40),
        ]
    )

    assert limits_of(declared, "alice", "physics", "staff") == {
        "user:alice cores": 20,
        "group:physics cores": 50,
        "group:staff cores": 100,
        "gateway memory": 2**40,
    }


def test_a_pattern_stands_for_each_group_that_is_like_it():
    """Each by itself and under its own name; a name goes before patterns, and of these the first counts."""
    declared = Rules(
        [
            rule("group:project-*", "cores", 10),
            rule("group:project-ice", "cores", 50),
            rule("group:*", "cores", 99),
            rule("each:project-?", "clusters", 2),
        ]
    )

    assert limits_of(declared, "alice", "project-ice", "project-sea", "staff") == {
        "group:project-ice cores": 50,
        "group:project-sea cores": 10,
        "group:staff cores": 99,
    }
    assert limits_of(declared, "bob", "project-x")["user:bob clusters"] == 2
    (limit, *_) = declared.limits_of("alice", ["project-sea"])
    assert limit.tell(3) == "10 cores for the group project-sea together, of which 3 are in use"
    assert [one.words for one in declared][::3] == [
        "10 cores for each group like project-* together",
        "2 clusters for each member of a group like project-?",
    ]


def test_a_rule_of_the_run_time_lies_over_the_configuration():
    """For the same subject and resource it takes the place; others stay."""
    declared = Rules([rule("user", "cores", 8), rule("user", "workers", 5)])

    assert limits_of(declared.overlaid([rule("user", "cores", 2)]), "alice") == {
        "user:alice cores": 2,
        "user:alice workers": 5,
    }


@pytest.mark.parametrize("text", ["cluster", "user", "user:alice", "each:a/b:c", "group:physics", "gateway"])
def test_a_subject_is_read_as_it_is_written(text: str):
    """Names may hold colons and slashes, as groups of directories do."""
    assert str(Subject.parse(text)) == text


@pytest.mark.parametrize("text", ["", "group", "each:", "gateway:x", "cluster:c1", "alice", "user: a", "group:a\nb"])
def test_a_wrong_subject_is_refused(text: str):
    """With what may be written."""
    with pytest.raises(Invalid, match=r"cannot (tell for whom|limit this)"):
        Subject.parse(text)


# -- room --------------------------------------------------------------------------------------------------------------


def ledger(*limits: tuple[Scope, str, float], **used: float) -> Ledger:
    """Return a ledger in which others use ``used`` of everything that is limited for alice."""
    made = [Limit(scope, Resource(resource), amount, Subject.parse("user")) for scope, resource, amount in limits]
    return Ledger(tuple(made), {ALICE: Amounts(**used)})


def test_room_is_what_the_tightest_limit_leaves():
    """Besides what others hold, the scheduler, and the cluster's other groups."""
    cluster = make_running()
    cluster = replace(cluster, spec=SPEC, groups=(*cluster.groups, WorkerGroup("more", wanted=1)))

    left = room(
        ledger((ALICE, "cores", 20), (ALICE, "workers", 50), (GATEWAY, "gpus", 100), cores=9), cluster, "default"
    )

    # 20 - 9 of others - 1 for the scheduler - 2 for the other group's worker, two cores each.
    assert (left.workers, left.limit.resource) == (4, Resource.CORES)
    assert room(Ledger(), cluster, "default").workers == math.inf
    assert room(ledger((ALICE, "cores", 4), cores=9), cluster, "default").workers == 0


def test_fractions_of_cores_add_up():
    """Ten workers of a tenth of a core fit one core, though they add up to a little more."""
    cluster = replace(make_running(wanted=10), spec=ClusterSpec(worker_cores=0.1))
    tight = ledger((ALICE, "cores", 1 + 0.2), cores=0.1 + 0.1)

    assert room(tight, cluster, "default").workers == 10
    assert exceeded(tight, holding_of(cluster)) is None
    assert exceeded(tight, holding_of(replace(cluster, groups=(WorkerGroup(wanted=11),)))) is not None


@given(
    clusters(),
    st.sampled_from([0.1, 0.25, 1, 2, 3]),
    st.lists(
        st.tuples(
            st.sampled_from([ALICE, GATEWAY]), st.sampled_from(["workers", "cores", "memory"]), st.integers(0, 2**36)
        ),
        max_size=3,
    ),
    st.integers(0, 12),
)
def test_room_is_all_that_fits_and_no_more(cluster, cores, limits, used):
    """With as many workers nothing new is exceeded; with one more the limit that is named is."""
    cluster = replace(
        cluster, spec=replace(SPEC, worker_cores=cores), target=Target.RUNNING, state=ClusterState.RUNNING
    )
    cluster = replace(cluster, workers=())
    book = ledger(*limits, workers=used, cores=used, memory=used)
    left = room(book, cluster, "default")
    if left.workers == math.inf:
        assert left.limit is None
        return

    fits = cluster.with_group(replace(cluster.group(), wanted=int(left.workers)))
    beyond = cluster.with_group(replace(cluster.group(), wanted=int(left.workers) + 1))

    assert exceeded(book, holding_of(fits)) is None or left.workers == 0
    assert exceeded(Ledger((left.limit,), book.others), holding_of(beyond)) == left.limit


# -- amounts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resource", "value", "amount"),
    [
        ("cores", 1.5, 1.5),
        ("workers", 10, 10),
        ("memory", "64 GiB", 64 * 2**30),
        ("memory", "1.5TB", 1.5e12),
        ("memory", 2**30, 2**30),
        ("memory", "64 B", 64),
        ("memory", 0, 0),
        ("clusters", "unlimited", math.inf),
        ("gpus", 0, 0),
    ],
)
def test_amounts_are_read(resource: str, value: object, amount: float):
    """Numbers, memory with a unit, and no limit."""
    assert parse_amount(Resource(resource), value) == amount


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        *(("workers", 1.5), ("cores", -1), ("cores", math.nan), ("cores", "4"), ("clusters", True), ("gpus", None)),
        *(("memory", 64), ("memory", 64.0), ("memory", "64"), ("memory", 2**20 - 1)),
        *(("memory", "lots"), ("memory", "-1 GiB"), ("memory", 10**30), ("memory", "nan GiB")),
    ],
)
def test_what_is_no_amount_is_refused(resource: str, value: object):
    """With the resource, and how it is written."""
    with pytest.raises(Invalid, match=f"cannot limit {resource} so: write"):
        parse_amount(Resource(resource), value)


def test_limits_are_told_in_words():
    """What, for whom, and how much of it is in use."""
    limit = Limit(ALICE, Resource.MEMORY, 64 * 2**30, Subject.parse("each:students"))

    assert limit.tell() == "64 GiB of memory for each member of the group students"
    assert limit.tell(60.5 * 2**30).endswith("students, of which 60.5 GiB are in use")
    assert Limit(GATEWAY, Resource.CLUSTERS, 1, Subject.parse("gateway")).tell(1) == (
        "1 cluster for the whole gateway, of which 1 is in use"
    )
