"""The moves of a cluster: each row of the table, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.unit.model.samples import (
    EXITED,
    FACTS,
    HOST,
    NOW,
    QUEUED,
    RUNS,
    clusters,
    look,
    looks,
    make_cluster,
    make_running,
    make_worker,
)
from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, Target, WorkerState
from tidegate.model.lifecycle import due, fail, needs_look, plan, rewind
from tidegate.model.observation import ProcessSeen, ProcessState
from tidegate.model.steps import Launch, Mark, Publish, StartWorkers, StopCluster, Withdraw

STARTING = make_cluster(ClusterState.STARTING)
REPORTED = replace(STARTING, scheduler=FACTS)
STOPPING = make_cluster(ClusterState.STOPPING, target=Target.STOPPED)

MOVES = {
    ClusterState.REQUESTED: {ClusterState.STARTING, ClusterState.STOPPING},
    ClusterState.STARTING: {ClusterState.STARTING, ClusterState.RUNNING, ClusterState.STOPPING},
    ClusterState.RUNNING: {ClusterState.RUNNING, ClusterState.STOPPING},
    ClusterState.STOPPING: {ClusterState.STOPPED, ClusterState.FAILED},
}


def kinds(steps):
    """Return the types of steps."""
    return [type(step) for step in steps]


def marks(steps):
    """Return the clusters that steps record."""
    return [step.cluster for step in steps if isinstance(step, Mark)]


def failed_for(steps):
    """Return the code of the reason for which these steps end a cluster."""
    assert kinds(steps) == [Withdraw, Mark, StopCluster]
    assert steps[1].cluster.state is ClusterState.STOPPING
    assert steps[1].cluster.target is Target.STOPPED
    return steps[1].cluster.reason.code


# -- starting --------------------------------------------------------------------------------------------------------


def test_a_requested_cluster_is_launched_and_then_recorded_as_starting():
    """The launch comes before its record, which bears the time after it."""
    launch, mark = plan(make_cluster(), None, NOW)

    assert isinstance(launch, Launch)
    assert mark.cluster.state is ClusterState.STARTING
    assert mark.stamped(NOW + 3).changed_at == NOW + 3
    assert [event.kind for event in mark.events] == [events.STARTING]


def test_a_cluster_that_has_not_reported_is_waited_for():
    """A scheduler that runs and is silent is left alone until its deadline."""
    assert plan(STARTING, look(), NOW) == []


def test_what_the_engine_lost_is_launched_again():
    """No trace of a launch that never reported: launch, under the same attempt."""
    assert plan(STARTING, look(None), NOW) == [Launch()]


def test_a_start_has_a_deadline():
    """After ``start_timeout`` a silent scheduler is given up, exactly then, whether or not there is a trace of it."""
    deadline = STARTING.changed_at + STARTING.spec.start_timeout

    assert plan(STARTING, look(), deadline - 0.01) == []
    for scheduler in (RUNS, None):
        assert failed_for(plan(STARTING, look(scheduler, at=deadline), deadline)) == reasons.START_TIMEOUT


def test_nobody_is_given_up_unseen():
    """While the backend cannot look, a deadline does not kill: silence is not death."""
    assert plan(STARTING, None, NOW + 10_000) == []


def test_waiting_in_a_queue_is_not_starting():
    """The deadline counts from when the queue was left: it is pushed on while the scheduler is seen to wait."""
    later = STARTING.changed_at + 40
    (mark,) = plan(STARTING, look(QUEUED, at=later), later)
    assert mark.stamped(later).changed_at == later
    assert plan(STARTING, look(QUEUED), NOW) == []


def test_a_scheduler_that_ends_before_it_reports_is_a_failure_with_its_log():
    """The reason carries what the process left behind."""
    steps = plan(STARTING, look(EXITED), NOW)

    assert failed_for(steps) == reasons.SCHEDULER_EXITED
    assert "exit code 1" in steps[1].cluster.reason.message
    assert steps[1].cluster.reason.log_tail == "Traceback"


def test_the_way_is_open_before_running_is_said():
    """The host comes from the backend and is recorded first; then the way is opened; then RUNNING is said."""
    first, publish, running = plan(REPORTED, look(), NOW)

    assert first.cluster.host == HOST
    assert first.cluster.state is ClusterState.STARTING
    assert isinstance(publish, Publish)
    assert running.cluster.state is ClusterState.RUNNING
    assert running.cluster.started_at == NOW
    assert [event.kind for event in running.events] == [events.RUNNING]


def test_a_way_that_is_being_opened_again_is_not_recorded_again():
    """After a death between the record of the host and RUNNING, the way is opened again, without another record."""
    assert kinds(plan(replace(REPORTED, host=HOST), None, NOW)) == [Publish, Mark]


def test_without_a_host_nobody_is_sent_anywhere():
    """A scheduler that reported, but is still QUEUED for the backend, has no host to dial yet."""
    assert plan(REPORTED, look(QUEUED), NOW) == []


def test_a_report_of_another_attempt_does_not_count():
    """Facts of attempt 1 do not make attempt 2 run."""
    assert plan(replace(REPORTED, attempt=2), look(), NOW) == []


def test_one_that_reported_and_vanished_is_lost():
    """It has run, so launching it again would not bring it back."""
    assert failed_for(plan(REPORTED, look(None), NOW)) == reasons.SCHEDULER_LOST
    assert failed_for(plan(replace(REPORTED, host=HOST), look(None), NOW)) == reasons.SCHEDULER_LOST


# -- running ---------------------------------------------------------------------------------------------------------


def test_a_running_cluster_at_rest_needs_nothing():
    """All wanted workers run: no step."""
    assert plan(make_running(make_worker(1), wanted=1), look(default_1=RUNS), NOW) == []


def test_a_running_cluster_fails_when_its_scheduler_is_gone():
    """Exited or without a trace: each has its reason."""
    assert failed_for(plan(make_running(), look(EXITED), NOW)) == reasons.SCHEDULER_EXITED
    assert failed_for(plan(make_running(), look(None), NOW)) == reasons.SCHEDULER_LOST


@pytest.mark.parametrize("scheduler", [EXITED, None, RUNS])
def test_an_old_look_is_worth_nothing(scheduler):
    """What was seen before the record last changed proves neither life nor death."""
    for cluster in (STARTING, make_running(wanted=3), STOPPING):
        assert plan(cluster, look(scheduler, at=cluster.changed_at - 0.001), NOW) == []


# -- ending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [ClusterState.REQUESTED, ClusterState.STARTING, ClusterState.RUNNING])
def test_what_is_wanted_away_is_stopped_from_everywhere(state):
    """First the way is closed, then STOPPING is recorded with the time, then everything is taken away."""
    cluster = make_cluster(state, target=Target.STOPPED)
    withdraw, mark, stop = plan(cluster, None, NOW)

    assert isinstance(withdraw, Withdraw)
    assert mark.stamped(NOW + 1).changed_at == NOW + 1
    assert mark.cluster.reason is None
    assert isinstance(stop, StopCluster)


def test_while_anything_remains_the_stop_is_repeated():
    """A grandchild that nobody knows by name is enough."""
    grandchild = replace(look(EXITED), remains=True)
    assert plan(STOPPING, grandchild, NOW) == [StopCluster()]
    assert plan(STOPPING, look(None, default_1=RUNS), NOW) == [StopCluster()]


def test_gone_is_stopped_or_failed_by_its_reason():
    """A reason makes the end a failure; its code and log stand in the last event, and no worker is left."""
    stopping = replace(STOPPING, workers=(make_worker(1), make_worker(2, WorkerState.STARTING)))
    (stopped,) = plan(stopping, look(None), NOW)
    assert stopped.cluster.state is ClusterState.STOPPED
    assert stopped.cluster.stopped_at == NOW
    assert {w.state for w in stopped.cluster.workers} == {WorkerState.ENDED}

    why = reasons.reason(reasons.SCHEDULER_EXITED, why="x", log_tail="the log")
    (failed,) = plan(replace(stopping, reason=why), look(EXITED), NOW)
    assert failed.cluster.state is ClusterState.FAILED
    assert failed.events[0].data == {"code": reasons.SCHEDULER_EXITED, "log_tail": "the log"}


def test_what_an_administrator_stopped_has_not_failed():
    """It ends as somebody wanted; its owner reads who that was, while it ends and afterwards."""
    why = reasons.reason(reasons.STOPPED_BY, who="administrator root")
    _, stopping, _ = plan(replace(make_running(), target=Target.STOPPED, reason=why), look(), NOW)
    assert [event.message for event in stopping.events] == ["Stopped by administrator root"]

    (ended,) = plan(stopping.cluster, look(None), NOW)
    assert (ended.cluster.state, ended.cluster.reason) == (ClusterState.STOPPED, why)
    assert [event.kind for event in ended.events] == [events.STOPPED]


@pytest.mark.parametrize("state", [ClusterState.STOPPED, ClusterState.FAILED])
def test_an_end_is_an_end(state):
    """Nothing is ever done about a cluster that has ended."""
    assert plan(make_cluster(state), look(), NOW) == []
    assert not needs_look(make_cluster(state))
    assert due(make_cluster(state), NOW) is None


def test_the_first_cause_of_an_end_stays():
    """A failure after the owner's stop does not make the end a failure; nor does a second failure change the first."""
    why, other = reasons.reason(reasons.LOST), reasons.reason(reasons.SCHEDULER_LOST)

    assert fail(make_running(), why).reason == why
    assert fail(fail(make_running(), why), other).reason == why
    assert fail(replace(make_running(), target=Target.STOPPED), why).reason is None


# -- what holds for all ----------------------------------------------------------------------------------------------


@given(clusters(), looks)
def test_a_plan_makes_only_the_moves_of_the_table(cluster, seen):
    """Whatever is on record and whatever is seen: no exception, and no move that the table does not have."""
    for recorded in marks(plan(cluster, seen, NOW)):
        assert recorded.state in MOVES[cluster.state]
        assert recorded.name == cluster.name
        assert recorded.attempt == cluster.attempt


@given(clusters(), looks)
def test_what_is_not_looked_at_is_not_needed(cluster, seen):
    """Where ``needs_look`` says no, the plan is the same whatever is seen."""
    if not needs_look(cluster):
        assert plan(cluster, seen, NOW) == plan(cluster, None, NOW)


@given(clusters(), looks)
def test_without_a_look_nothing_is_called_gone(cluster, seen):
    """Only a look that is new enough ends a cluster or a worker, or starts or stops workers."""
    steps = plan(cluster, None, NOW)
    assert StopCluster() not in steps or cluster.target is Target.STOPPED
    assert not any(isinstance(step, StartWorkers) for step in steps)
    assert not any(recorded.state.ended for recorded in marks(steps))


@given(clusters(), looks)
def test_a_plan_that_was_done_changes_what_is_planned(cluster, seen):
    """Recording what a plan records, and looking no further, does not lead to the same records for ever."""
    now = NOW
    for _ in range(12):
        recorded = [step for step in plan(cluster, seen, now) if isinstance(step, Mark)]
        if not recorded:
            return
        cluster, now = recorded[-1].stamped(now), now + 0.001
    raise AssertionError(f"it goes on and on: {recorded}")


# -- when to come back -----------------------------------------------------------------------------------------------


def test_a_deadline_is_due():
    """One comes back when a start is overdue, and not in a hurry once it is."""
    deadline = STARTING.changed_at + STARTING.spec.start_timeout
    assert due(STARTING, NOW) == deadline - NOW
    assert due(STARTING, deadline) is None
    assert plan(STARTING, look(at=deadline), deadline) != []


def test_a_replacement_is_due():
    """One comes back when a worker may be replaced."""
    assert due(make_running(wanted=1, retry_at=NOW + 4), NOW) == 4
    assert due(make_running(wanted=1, retry_at=NOW - 4), NOW) is None


def test_when_the_clock_was_set_back_the_record_follows():
    """Otherwise every look would be too old for as long; a record that is ahead by a moment only is left alone."""
    ahead = replace(make_running(make_worker(1, changed_at=NOW + 7200), retry_at=NOW + 7200), changed_at=NOW + 7200)
    assert plan(ahead, look(default_1=EXITED), NOW) == []

    back = rewind(ahead, NOW)
    assert (back.changed_at, back.workers[0].changed_at, back.group().retry_at) == (NOW, NOW, NOW)
    assert plan(back, look(default_1=EXITED), NOW) != []
    for usual in (make_running(make_worker(1), retry_at=NOW + 60), replace(make_running(), changed_at=NOW + 1)):
        assert rewind(usual, NOW) is usual


def test_a_process_that_ended_as_told_is_no_reason_to_worry():
    """An exit that was asked for leaves the group in peace."""
    told = ProcessSeen(ProcessState.EXITED, expected=True)
    (mark,) = plan(make_running(make_worker(1), wanted=0), look(default_1=told), NOW)
    assert mark.cluster.group().failures == 0
    assert mark.cluster.workers[0].reason is None
