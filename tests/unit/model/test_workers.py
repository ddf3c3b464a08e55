"""The workers of a running cluster: named, started, replaced with patience, let go, forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.unit.model.samples import EXITED, NOW, RUNS, clusters, look, looks, make_running, make_worker
from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, Worker, WorkerGroup, WorkerState
from tidegate.model.lifecycle import plan
from tidegate.model.observation import ProcessSeen, ProcessState
from tidegate.model.steps import Mark, StartWorkers, StopWorkers
from tidegate.model.workers import Timing, refuse_workers, worker_counts

R, S, Q, E = WorkerState.RUNNING, WorkerState.STARTING, WorkerState.REQUESTED, WorkerState.ENDED


def names_of(workers):
    """Return names."""
    return [w.name for w in workers]


def test_workers_are_named_on_record_before_they_are_started():
    """Names first, then the start, then its record with the time after it."""
    named, start, started = plan(make_running(wanted=2), look(), NOW)

    assert names_of(named.cluster.workers) == ["default-1", "default-2"]
    assert named.cluster.group().launched == 2
    assert start == StartWorkers(("default-1", "default-2"))
    after = started.stamped(NOW + 2)
    assert [(w.state, w.changed_at) for w in after.workers] == [(S, NOW + 2)] * 2
    assert after.changed_at == named.cluster.changed_at


def test_a_name_is_never_used_twice():
    """The next worker is numbered on from all that ever were, also from those that are forgotten."""
    cluster = make_running(wanted=1).with_group(WorkerGroup(wanted=1, launched=41))
    assert plan(cluster, look(), NOW)[1] == StartWorkers(("default-42",))


def test_a_start_that_may_not_have_happened_is_repeated():
    """A worker that was named, and then we died: it is handed over again, under its name."""
    cluster = make_running(make_worker(1, Q), wanted=1)
    assert plan(cluster, look(), NOW)[0] == StartWorkers(("default-1",))


def test_there_is_no_room_beyond_the_limit():
    """The limit holds over all groups, and those that are being stopped count: they still hold their memory."""
    crew = [make_worker(n) for n in range(1, 9)] + [make_worker(9, WorkerState.STOPPING)]
    seen = look(**{f"default_{n}": RUNS for n in range(1, 10)})
    cluster = make_running(*crew, wanted=50)

    mark = plan(cluster, seen, NOW)[0]

    assert len(mark.cluster.workers) == cluster.spec.max_workers == 10


def test_a_second_group_has_names_and_a_size_of_its_own():
    """Groups do not see each other's workers, only the common limit."""
    cluster = make_running(make_worker(1), wanted=1)
    cluster = replace(cluster, groups=(*cluster.groups, WorkerGroup("gpu", wanted=2)))
    assert plan(cluster, look(default_1=RUNS), NOW)[1] == StartWorkers(("gpu-1", "gpu-2"))


# -- ends ------------------------------------------------------------------------------------------------------------


def test_what_went_wrong_at_a_worker_that_goes_on_is_told():
    """Once, and once more when it is memory: the words come from the user's own processes, and must not flood."""

    def trouble(code, why):
        return look(default_1=replace(RUNS, code=code, why=why))

    cluster = make_running(make_worker(1), wanted=1)
    (mark,) = plan(cluster, trouble("killed", "it was restarted after signal 9"), NOW)
    assert [(e.kind, e.message) for e in mark.events] == [
        (events.WORKER_TROUBLE, "Worker default-1: It goes on, but it was restarted after signal 9")
    ]
    assert mark.cluster.workers[0].state is R
    assert plan(mark.cluster, trouble("killed", "it was restarted after signal 7"), NOW) == []

    (mark,) = plan(mark.cluster, trouble("out-of-memory", "it came to more than its limit of 2 GiB"), NOW)
    assert mark.events[0].data == {"worker": "default-1", "code": "out-of-memory"}
    assert plan(mark.cluster, trouble("out-of-memory", "again"), NOW) == []
    assert plan(mark.cluster, trouble("killed", "again"), NOW) == []
    assert plan(mark.cluster, trouble("nonsense", "again"), NOW) == []


def test_a_worker_that_ends_is_replaced_after_a_pause():
    """Its reason goes to the group and into an event; the replacement waits half a second, and not longer."""
    (mark,) = plan(make_running(make_worker(1), wanted=1), look(default_1=EXITED), NOW)

    group = mark.cluster.group()
    assert (mark.cluster.workers[0].state, mark.cluster.workers[0].reason.code) == (E, "exited")
    assert (group.failures, group.retry_at, group.trouble.code) == (1, NOW + 0.5, "exited")
    assert [event.kind for event in mark.events] == [events.WORKER_ENDED, events.WORKERS]
    assert mark.events[0].data == {"worker": "default-1", "code": "exited", "log_tail": "Traceback"}
    assert plan(mark.cluster, look(default_1=EXITED), NOW + 0.4) == []
    assert plan(mark.cluster, look(default_1=EXITED), NOW + 0.5)[1] == StartWorkers(("default-2",))


def test_the_pause_doubles_up_to_a_minute_and_never_overflows():
    """After a night of failures the pause is still a minute."""
    pauses = []
    for failures in (0, 1, 2, 6, 7, 5000):
        cluster = make_running(make_worker(1), wanted=1, failures=failures)
        (mark,) = plan(cluster, look(default_1=EXITED), NOW)
        pauses.append(mark.cluster.group().retry_at - NOW)
    assert pauses == [0.5, 1.0, 2.0, 32.0, 60.0, 60.0]


def test_several_that_fall_at_once_are_one_failure():
    """A node that dies takes its workers with it: the cause is one."""
    crew = [make_worker(n) for n in (1, 2, 3)]
    steps = plan(make_running(*crew, wanted=3), look(default_1=EXITED, default_2=EXITED, default_3=EXITED), NOW)
    assert steps[0].cluster.group().failures == 1


def test_trouble_is_forgotten_after_calm():
    """When all that are wanted have run for a while, the group starts again from nothing."""
    why = reasons.reason(reasons.LOST)
    cluster = make_running(make_worker(2), wanted=1, failures=3, retry_at=NOW - 30, trouble=why)

    assert plan(cluster, look(default_2=RUNS), NOW) == []
    (mark,) = plan(cluster, look(default_2=RUNS, at=NOW + 31), NOW + 31)
    assert (mark.cluster.group().failures, mark.cluster.group().trouble) == (0, None)


def test_a_worker_without_a_trace_is_lost():
    """What runs on record and left no trace in a new look is gone."""
    steps = plan(make_running(make_worker(1), wanted=1), look(), NOW)
    assert steps[0].cluster.workers[0].reason.code == reasons.LOST


def test_a_look_from_before_a_worker_changed_does_not_lose_it():
    """It may have been started after the look began. That it exited, on the other hand, is never too old."""
    young = make_worker(1, S, changed_at=NOW)
    assert plan(make_running(young, wanted=1), look(at=NOW - 0.001), NOW) == []
    steps = plan(make_running(young, wanted=1), look(at=NOW - 0.001, default_1=EXITED), NOW)
    assert steps[0].cluster.workers[0].state is E


def test_one_that_was_only_named_cannot_be_lost():
    """Nobody has started it yet, as far as we know; unless the backend shows its end."""
    named = make_running(make_worker(1, Q), wanted=1)
    assert StartWorkers(("default-1",)) in plan(named, look(), NOW)
    steps = plan(named, look(default_1=EXITED), NOW)
    assert steps[0].cluster.workers[0].state is E
    assert not any(isinstance(step, StartWorkers) for step in steps)


@pytest.mark.parametrize("code", ["", "unheard-of", "start-timeout"])
def test_a_code_that_no_worker_can_have_is_just_an_end(code):
    """A backend of somebody else's cannot bring the plan down with a code that we do not know."""
    seen = look(default_1=ProcessSeen(ProcessState.EXITED, why="so", code=code))
    steps = plan(make_running(make_worker(1), wanted=1), seen, NOW)
    assert steps[0].cluster.workers[0].reason.code == reasons.EXITED


def test_a_refusal_ends_workers_and_not_the_cluster():
    """They end with the backend's reason, and the next ones wait."""
    cluster = make_running(make_worker(1), make_worker(2, Q), make_worker(3, S), wanted=3)
    why = reasons.reason(reasons.CANNOT_START, why="no such image")

    after, happened = refuse_workers(cluster, ["default-1", "default-2", "default-3"], why, NOW)

    # Only the second was to be started; the others run, or may.
    assert [w.state for w in after.workers] == [R, E, S]
    assert after.state is ClusterState.RUNNING
    assert after.group().retry_at == NOW + 0.5
    assert [event.kind for event in happened] == [events.WORKER_ENDED, events.WORKERS]


# -- too many --------------------------------------------------------------------------------------------------------


def test_those_that_run_are_never_taken_from_outside():
    """Two too many, both running: the agent retires them, we do not."""
    crew = [make_worker(n) for n in (1, 2, 3)]
    assert plan(make_running(*crew, wanted=1), look(default_1=RUNS, default_2=RUNS, default_3=RUNS), NOW) == []


def test_those_that_do_not_run_yet_are_let_go_first_the_youngest():
    """They hold no result: they are stopped, if they are seen; what is not seen in a later look has ended."""
    crew = [make_worker(1), make_worker(2, S), make_worker(3, S), make_worker(4, Q)]
    mark, stop = plan(make_running(*crew, wanted=2), look(default_1=RUNS, default_2=RUNS, default_3=RUNS), NOW)

    assert [w.state for w in mark.cluster.workers] == [R, S, WorkerState.STOPPING, WorkerState.STOPPING]
    assert stop == StopWorkers(("default-3",))
    # The fourth may be on its way: only a look from now on can tell.
    assert mark.cluster.workers[3].changed_at == NOW


def test_a_late_comer_is_stopped():
    """What runs under a name that the record gave up, or does not know any more, is taken away."""
    given_up = make_worker(1, E)
    steps = plan(make_running(given_up), look(default_1=RUNS, default_77=RUNS), NOW)
    assert steps == [StopWorkers(("default-1", "default-77"))]


def test_a_retired_worker_is_stopped_and_ends_without_a_reason():
    """Once its results are elsewhere the process is taken away, and nobody is blamed."""
    retired = make_running(make_worker(1, WorkerState.STOPPING))
    assert plan(retired, look(default_1=RUNS), NOW) == [StopWorkers(("default-1",))]
    (mark,) = plan(retired, look(default_1=EXITED), NOW)
    assert (mark.cluster.workers[0].state, mark.cluster.workers[0].reason) == (E, None)
    assert mark.cluster.group().failures == 0


# -- memory ----------------------------------------------------------------------------------------------------------


def test_the_ended_are_kept_for_a_while_and_not_without_end():
    """An hour, and no more than the newest fifty."""
    old = make_worker(1, E, changed_at=NOW - 4000)
    recent = [make_worker(n, E, changed_at=NOW - 10) for n in range(2, 62)]
    (mark,) = plan(make_running(old, *recent), look(), NOW)
    assert names_of(mark.cluster.workers) == names_of(recent[10:])


def test_counts():
    """What is told to users: wanted, running and starting, over all groups."""
    crew = [make_worker(1), make_worker(2, S), make_worker(3, Q), make_worker(4, E)]
    assert worker_counts(make_running(*crew, wanted=5)) == {"wanted": 5, "running": 1, "starting": 2}


@given(clusters(), looks)
def test_what_holds_for_all_crews(cluster, seen):
    """Names are used once, an end is an end, the limit holds, and what is started is on record before."""
    ended = {w.name for w in cluster.workers if w.state is E}
    recorded = {w.name: w for w in cluster.workers}
    for step in plan(cluster, seen, NOW, Timing(keep_ended=1e9, keep_ended_count=1000)):
        if isinstance(step, Mark):
            recorded = {w.name: w for w in step.cluster.workers}
            assert len(recorded) == len(step.cluster.workers)
            assert all(recorded[name].state is E for name in ended)
        elif isinstance(step, StartWorkers):
            assert all(recorded[name].state is Q for name in step.names)
            assert len([w for w in recorded.values() if w.state.active]) <= cluster.spec.max_workers
        elif isinstance(step, StopWorkers):
            assert not any(name in recorded and recorded[name].state.active for name in step.names)


def test_a_thousand_workers_are_planned_in_a_moment():
    """All at once ended, and all at once named: the work grows with their number, not with its square."""
    crew = tuple(Worker(f"default-{n}", state=R, changed_at=NOW - 5) for n in range(1, 5001))
    cluster = replace(make_running(), workers=crew, groups=(WorkerGroup(wanted=5000, launched=5000),))
    seen = look(**{f"default_{n}": EXITED for n in range(1, 5001)})
    steps = plan(cluster, seen, NOW)
    assert steps[0].cluster.group().failures == 1
