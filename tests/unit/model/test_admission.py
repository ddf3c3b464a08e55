"""Who gets how much of what the limits leave, and what is said when it is less than was asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.model.samples import FACTS, HOST, NOW, clusters, looks, make_cluster, make_running
from tidegate.model import sizing
from tidegate.model.admission import admit_new, capacity, grow, load_waits
from tidegate.model.amounts import NOTHING, Amounts, Resource
from tidegate.model.cluster import Adaptive, Cluster, ClusterSpec, ClusterState, Target, WorkerGroup, WorkerState
from tidegate.model.errors import Invalid, LimitReached, TidegateError
from tidegate.model.lifecycle import plan
from tidegate.model.limits import Ledger, Limit, Rule, Rules, Scope, ScopeKind, Subject, holding_of, scopes_of
from tidegate.model.line import shortage
from tidegate.model.observation import ProcessSeen, ProcessState, Seen
from tidegate.model.policy import Capacity
from tidegate.model.principal import Principal
from tidegate.model.report import Report, absorb
from tidegate.model.steps import Mark

ALICE = Principal("alice")
MINE = Scope(ScopeKind.USER, "alice")
SPEC = ClusterSpec(worker_cores=2, worker_memory=2**30, max_workers=100, max_workers_reason="the backend said so")


def book(resource: str, amount: float, used: Amounts = NOTHING) -> Ledger:
    """Return a ledger with one limit for alice, of which others use something."""
    students = Subject.parse("each:students")
    return Ledger((Limit(MINE, Resource(resource), amount, students),), {MINE: used})


# -- new clusters ------------------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_fit_is_refused():
    """The words name the limit, for whom it is, what is in use, what is asked, and what would help."""
    with pytest.raises(LimitReached) as caught:
        admit_new(make_cluster(), book("clusters", 2, Amounts(clusters=2)))
    assert caught.value.message == (
        "cannot create a cluster: the limit is 2 clusters for each member of the group students, of which 2 are in "
        "use. Stop what is no longer needed, or ask the administrator of this gateway for more"
    )

    large = make_cluster(spec=replace(SPEC, scheduler_cores=4))
    with pytest.raises(LimitReached, match=r"it needs 4 cores, and the limit is 20 cores for .*, of which 18 are in"):
        admit_new(large, book("cores", 20, Amounts(cores=18)))


def test_a_cluster_of_which_no_worker_can_ever_fit_is_refused():
    """It would only wait for what cannot come; one for which there is no room *now* gets in without workers."""
    with pytest.raises(LimitReached, match=r"not even one worker fits. It has 2 cores, and the limit is 1 core for"):
        admit_new(make_cluster(spec=SPEC), book("cores", 1))

    admitted, _ = admit_new(make_cluster(spec=SPEC), book("cores", 20, Amounts(cores=20)))
    assert holding_of(admitted).workers == 0


def test_a_cluster_begins_with_what_fits():
    """Of the workers to begin with as many as there is room for; the adaptive minimum with them, and a note."""
    group = WorkerGroup(wanted=5, adaptive=Adaptive(4, 9))

    admitted, note = admit_new(make_cluster(spec=SPEC, groups=(group,)), book("cores", 20, Amounts(cores=14)))

    assert admitted.groups == (WorkerGroup(wanted=3, adaptive=Adaptive(3, 9), asked=5),)
    assert "5 workers were to start, and 3 do: the limit is 20 cores for each member" in note
    whole = make_cluster(spec=SPEC, groups=(group,))
    assert admit_new(whole, book("cores", 24, Amounts(cores=14))) == (whole, None)


def test_a_cluster_that_may_have_no_worker_is_refused():
    """As where not even one fits: it would be of no use to anybody."""
    limits = Rules([Rule(Subject.parse("cluster"), Resource.WORKERS, 0)]).of_clusters()
    with pytest.raises(LimitReached, match=r"cannot create a cluster: .* the limit is 0 workers for one cluster"):
        capacity(SPEC, limits, lambda _: Capacity(7, ""))


def test_what_one_cluster_may_have():
    """The administrator's number of workers stands in the place of the backend's; other amounts bound both."""
    limits = Rules(
        [Rule(Subject.parse("cluster"), Resource.WORKERS, 50), Rule(Subject.parse("cluster"), Resource.CORES, 21)]
    ).of_clusters()
    spec = replace(SPEC, scheduler_cores=2)

    assert capacity(spec, (), lambda _: Capacity(7, "as many fit")) == Capacity(7, "as many fit")
    most = capacity(spec, limits, lambda _: Capacity(7, "as many fit"))
    assert (most.max_workers, most.reason) == (9, "21 cores for one cluster, set by the administrator of this gateway")
    assert capacity(spec, limits[:1], lambda _: Capacity(7, "as many fit")).max_workers == 50
    with pytest.raises(LimitReached, match="It has 40 cores, and the limit is 21 cores for one cluster"):
        capacity(replace(spec, worker_cores=40), limits, lambda _: Capacity(7, ""))
    with pytest.raises(Invalid, match=r"not even one such worker fits\. The machine is small"):
        capacity(spec, (), lambda _: Capacity(0, "The machine is small"))


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_size_is_cut_to_what_fits():
    """The note begins as dask-gateway's does, and names the limit and what is in use of it, this cluster included."""
    cluster = replace(make_running(wanted=1), spec=SPEC)

    sized = sizing.scale(cluster, "default", 9, ALICE, book("cores", 20, Amounts(cores=10)))

    assert sized.cluster.group().wanted == 5
    assert sized.note == (
        "Scale request of 9 workers would exceed resource limit of 5 workers. Scaling to 5 instead. (the limit is "
        "20 cores for each member of the group students, of which 12 are in use)"
    )
    assert sizing.scale(cluster, "default", 5, ALICE, book("cores", 20, Amounts(cores=10))).note is None


def test_of_two_limits_the_tighter_one_is_named():
    """The cluster's own number, where it is smaller."""
    cluster = replace(make_running(), spec=replace(SPEC, max_workers=3))

    note = sizing.scale(cluster, "default", 9, ALICE, book("cores", 20)).note

    assert note is not None
    assert note.endswith("resource limit of 3 workers. Scaling to 3 instead. (the backend said so)")


def test_adaptive_bounds_are_cut_to_the_limits():
    """The minimum to what fits now, the maximum to what could ever; what only does not fit now is no reason to cut."""
    cluster = replace(make_running(), spec=SPEC)
    tight = book("cores", 20, Amounts(cores=10))

    sized = sizing.adapt(cluster, "default", 7, 40, ALICE, tight)
    assert sized.cluster.group().adaptive == Adaptive(5, 10)
    assert sized.note.startswith(
        "Adapt with `maximum=40, minimum=7` workers would exceed resource limit of 5 workers. "
        "Using `maximum=10, minimum=5` instead. (the limit is 20 cores"
    )
    above = sizing.adapt(cluster, "default", 0, 40, ALICE, tight)
    assert above.note.endswith("instead. (the limit is 20 cores for each member of the group students)")
    assert sizing.adapt(cluster, "default", 0, 10, ALICE, tight).note is None


def test_the_load_gets_what_fits_and_the_rest_later():
    """What it asks for beyond that stays on record, and is given when there is room."""
    cluster = replace(make_running(wanted=1, adaptive=Adaptive(0, 9)), spec=SPEC)
    asking, _ = absorb(cluster, Report(FACTS, demand={"default": 8}), NOW)
    assert load_waits(asking)

    given_some, (event,) = grow(asking, book("cores", 20, Amounts(cores=10)))
    assert (given_some.group().wanted, given_some.group().asked) == (5, 8)
    assert event.data["wanted"] == 5
    assert shortage(given_some) == [
        "A limit leaves room for 5 of the 8 workers that are asked for: the limit is 20 cores for each member of the "
        "group students"
    ]
    assert grow(given_some, book("cores", 20, Amounts(cores=10))) == (given_some, ())

    whole, _ = grow(given_some, book("cores", 20))
    assert whole.group().wanted == 8
    assert not load_waits(whole)
    assert whole.waiting is None


def test_the_load_gets_no_more_than_its_fair_size_while_others_want_it():
    """Though there is room: it is for them, and the record says so."""
    cluster = replace(make_running(wanted=2, adaptive=Adaptive(0, 9)), spec=SPEC)
    asking, _ = absorb(cluster, Report(FACTS, demand={"default": 8}), NOW)
    ledger = replace(book("cores", 20), fair={"default": Capacity(3, "it is shared")})

    some, _ = grow(asking, ledger)

    assert some.group().wanted == 3
    assert some.waiting.reason == "it is shared"
    assert grow(some, ledger) == (some, ())


# -- whatever happens --------------------------------------------------------------------------------------------------


@settings(max_examples=1000, deadline=None)
@given(clusters(), looks)
def test_no_plan_has_a_cluster_hold_more(cluster, seen):
    """Whatever runs, ends or is missing: replacements never hold more beside what is still being stopped."""
    before = holding_of(cluster)
    for step in plan(cluster, seen, NOW):
        if isinstance(step, Mark):
            assert not holding_of(step.cluster).exceeds(before)


DECLARED = Rules(
    [
        Rule(Subject.parse("user"), Resource.CLUSTERS, 3),
        Rule(Subject.parse("each:staff"), Resource.CORES, 15),
        Rule(Subject.parse("group:students"), Resource.WORKERS, 9),
        Rule(Subject.parse("gateway"), Resource.MEMORY, 17 * 2**30),
    ]
)
GROUPS = {"alice": ("staff",), "bob": ("staff", "students"), "carol": ("students",)}
LIMITS = {limit for owner, groups in GROUPS.items() for limit in DECLARED.limits_of(owner, groups)}


@dataclass
class Gateway:
    """Records, and what happens to them one after the other, as in a store."""

    random: Random
    clusters: dict[str, Cluster] = field(default_factory=dict)
    now: float = NOW
    cut: int = 0

    def ledger(self, owner: str, name: str) -> Ledger:
        """Return what is held besides one cluster."""
        limits = DECLARED.limits_of(owner, GROUPS[owner])
        others = self.held(besides=name)
        return Ledger(limits, {limit.scope: others.get(limit.scope, NOTHING) for limit in limits})

    def held(self, besides: str = "") -> dict[Scope, Amounts]:
        """Return what clusters hold within each scope."""
        held: dict[Scope, Amounts] = {}
        for cluster in self.clusters.values():
            if cluster.name != besides and not cluster.state.ended:
                for scope in scopes_of(cluster.owner, cluster.owner_groups):
                    held[scope] = held.get(scope, NOTHING) + holding_of(cluster)
        return held

    def step(self) -> None:
        """Let anything happen."""
        self.now += 1
        random = self.random
        if not self.clusters or random.random() < 0.15:
            return self.create()
        cluster = random.choice(list(self.clusters.values()))
        what = random.choice([self.scale, self.adapt, self.load, self.work, self.work, self.work, self.end])
        self.clusters[cluster.name] = what(cluster)
        return None

    def spec(self) -> ClusterSpec:
        """Return what the next cluster is like."""
        return SPEC

    def create(self) -> None:
        """Ask for a cluster."""
        owner, name = self.random.choice(list(GROUPS)), f"c{len(self.clusters)}"
        values = {"name": name, "owner": owner, "spec": self.spec(), "created_at": self.now}
        wanted = WorkerGroup(wanted=self.random.randint(0, 4))
        cluster = replace(make_running(), **values, owner_groups=GROUPS[owner], groups=(wanted,))
        try:
            self.clusters[name], note = admit_new(cluster, self.ledger(owner, name))
            self.cut += note is not None
        except LimitReached:
            self.cut += 1

    def scale(self, cluster: Cluster) -> Cluster:
        """Ask for a size."""
        return self._size(cluster, sizing.scale, self.random.randint(0, 12))

    def adapt(self, cluster: Cluster) -> Cluster:
        """Ask for bounds."""
        return self._size(cluster, sizing.adapt, *sorted(self.random.sample(range(13), 2)))

    def _size(self, cluster, how, *asked) -> Cluster:
        try:
            sized = how(cluster, "default", *asked, Principal(cluster.owner), self.ledger(cluster.owner, cluster.name))
        except TidegateError:
            return cluster
        self.cut += sized.note is not None
        return sized.cluster

    def load(self, cluster: Cluster) -> Cluster:
        """Let the load ask, and the agent report what runs and what it has retired."""
        names = [w.name for w in cluster.workers if w.state.active]
        surplus = max(0, len(names) - cluster.group().wanted)
        report = Report(FACTS, frozenset(names), frozenset(names[:surplus]), {"default": self.random.randint(0, 20)})
        after, _ = absorb(cluster, report, self.now)
        return grow(after, self.ledger(cluster.owner, cluster.name))[0]

    def work(self, cluster: Cluster) -> Cluster:
        """Let the loop look: of the processes some have ended, some run, some are late."""
        states = (ProcessState.RUNNING, ProcessState.EXITED, ProcessState.QUEUED)
        there = [w.name for w in cluster.workers if self.random.random() < 0.9]
        processes = {name: ProcessSeen(self.random.choice(states)) for name in there}
        seen = Seen(self.now, ProcessSeen(ProcessState.RUNNING, host=HOST), processes, remains=True)
        for step in plan(cluster, seen, self.now):
            if isinstance(step, Mark):
                cluster = step.stamped(self.now)
        return cluster

    def end(self, cluster: Cluster) -> Cluster:
        """Have it stopped, or gone."""
        if cluster.target is Target.STOPPED and self.random.random() < 0.5:
            ended = tuple(replace(w, state=WorkerState.ENDED) for w in cluster.workers)
            return replace(cluster, state=ClusterState.STOPPED, workers=ended)
        return replace(cluster, target=Target.STOPPED) if self.random.random() < 0.5 else cluster


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32))
def test_no_history_exceeds_a_limit(seed):
    """A thousand histories of thirty events: no limit is ever exceeded by one, whoever asks and whatever dies."""
    gateway = Gateway(Random(seed))
    for _ in range(30):
        gateway.step()
        held = gateway.held()
        for limit in LIMITS:
            assert held.get(limit.scope, NOTHING).of(limit.resource) <= limit.amount, limit


def test_these_histories_reach_the_limits():
    """Otherwise they would show nothing."""
    gateway = Gateway(Random(1))
    for _ in range(300):
        gateway.step()

    assert gateway.cut > 30
