"""What an agent's report does to the record, and what it is told: it may lie, and reaches its own cluster only."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.samples import FACTS, NOW, clusters, make_cluster, make_running, make_worker
from tidegate.model import event as events
from tidegate.model.cluster import Adaptive, ClusterState, SchedulerFacts, Target, WorkerGroup, WorkerState
from tidegate.model.report import Report, Wanted, absorb, wanted_of

R, S, Q, E = WorkerState.RUNNING, WorkerState.STARTING, WorkerState.REQUESTED, WorkerState.ENDED


def states(cluster):
    """Return the states of the workers."""
    return [w.state for w in cluster.workers]


def test_a_first_report_records_where_the_scheduler_listens():
    """The facts are kept; nobody is told, for nothing has changed for the owner."""
    after, happened = absorb(make_cluster(ClusterState.STARTING), Report(FACTS), NOW)
    assert after.scheduler == FACTS
    assert after.reported
    assert happened == ()


def test_a_report_of_another_attempt_changes_nothing():
    """A scheduler of an earlier launch that is still about is told to exit."""
    cluster = make_cluster(ClusterState.STARTING, attempt=2)
    assert absorb(cluster, Report(FACTS), NOW) == (cluster, ())
    assert wanted_of(cluster, 1) == Wanted(exit=True)


def test_a_cluster_that_is_to_end_hears_nothing_any_more():
    """Its agent is told to exit, and so is one without a record."""
    cluster = replace(make_running(make_worker(1, S), wanted=1), target=Target.STOPPED)
    assert absorb(cluster, Report(FACTS, frozenset({"default-1"})), NOW) == (cluster, ())
    assert wanted_of(cluster, 1) == Wanted(exit=True)
    assert wanted_of(None, 1) == Wanted(exit=True)


def test_a_running_scheduler_does_not_move():
    """Once the way is open the ports stand: nobody can turn the proxies elsewhere by a later report."""
    elsewhere = SchedulerFacts(attempt=1, port=22, dashboard_port=5432)
    after, _ = absorb(make_running(), Report(elsewhere), NOW)
    assert after.scheduler == FACTS


def test_workers_that_the_scheduler_has_are_running_from_now():
    """Named or started: they run, and a look from before now does not lose them. Those that ended stay ended."""
    cluster = make_running(make_worker(1, Q), make_worker(2, S), make_worker(3, E), make_worker(4), wanted=3)
    everyone = frozenset(f"default-{n}" for n in range(1, 9))

    after, happened = absorb(cluster, Report(FACTS, everyone), NOW)

    assert states(after) == [R, R, E, R]
    assert [worker.started_at for worker in after.workers[:2]] == [NOW, NOW], "what they use counts from now"
    assert [w.changed_at for w in after.workers] == [NOW, NOW, NOW - 5, NOW - 5]
    assert [event.kind for event in happened] == [events.WORKERS]
    assert happened[0].data == {"wanted": 3, "running": 3, "starting": 0}
    assert absorb(after, Report(FACTS, everyone), NOW + 1) == (after, ())


def test_retired_workers_are_stopping():
    """Also when the same report still counts them among the workers."""
    cluster = make_running(make_worker(1), make_worker(2), wanted=1)
    after, _ = absorb(cluster, Report(FACTS, frozenset({"default-1"}), frozenset({"default-1"})), NOW)
    assert states(after) == [WorkerState.STOPPING, R]
    assert after.workers[0].changed_at == NOW


def test_demand_counts_within_the_bounds():
    """Between minimum and maximum, never above the cluster's limit, and only while the group is adaptive."""
    asks = {"default": 1000, "nonsense": 5}
    by_hand = make_running(wanted=2)
    assert absorb(by_hand, Report(FACTS, demand=asks), NOW)[0] == by_hand

    adaptive = make_running(wanted=2, adaptive=Adaptive(1, 6))
    after, happened = absorb(adaptive, Report(FACTS, demand=asks), NOW)
    assert (after.group().wanted, after.group().asked) == (2, 6), "more is given by admission"
    assert happened == ()
    less, happened = absorb(after, Report(FACTS, demand={"default": 0}), NOW)
    assert (less.group().wanted, less.group().asked) == (1, 1)
    assert happened[0].data["wanted"] == 1

    beyond = make_running(wanted=2, adaptive=Adaptive(0, 5000))
    assert absorb(beyond, Report(FACTS, demand=asks), NOW)[0].group().asked == beyond.spec.max_workers


def test_the_wanted_state_is_told_whole():
    """Every group, with its bounds while it is adaptive."""
    cluster = make_running(wanted=2, adaptive=Adaptive(1, 6))
    cluster = replace(cluster, groups=(*cluster.groups, WorkerGroup("gpu", wanted=1)))
    assert wanted_of(cluster, 1) == Wanted(False, {"default": (2, 1, 6), "gpu": (1, None, None)})


@given(
    clusters(),
    st.builds(
        Report,
        st.builds(SchedulerFacts, attempt=st.sampled_from([1, 2]), port=st.integers(1, 65535)),
        workers=st.frozensets(st.sampled_from(["default-1", "default-2", "x"])),
        retired=st.frozensets(st.sampled_from(["default-2", "default-3", "x"])),
        demand=st.dictionaries(st.sampled_from(["default", "x"]), st.integers(0, 10**6)),
    ),
)
def test_no_report_brings_anything_back_or_goes_beyond_the_bounds(cluster, report):
    """Whatever an agent says: no new worker, no end undone, no other state, target, owner or limit."""
    after, _ = absorb(cluster, report, NOW)

    same = ("name", "owner", "state", "target", "spec", "attempt", "reason", "host", "revision", "changed_at")
    assert all(getattr(after, field) == getattr(cluster, field) for field in same)
    assert [w.name for w in after.workers] == [w.name for w in cluster.workers]
    for before, now in zip(cluster.workers, after.workers, strict=True):
        assert now.state is before.state or before.state.active
    assert after.group().wanted <= max(cluster.group().wanted, cluster.spec.max_workers)
    assert after.group().adaptive == cluster.group().adaptive
