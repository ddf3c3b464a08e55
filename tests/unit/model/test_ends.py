"""When a cluster ends by itself, and all that keeps it from that."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model.samples import EXITED, NOW, look, make_running, make_worker
from tidegate.model import ends, reasons
from tidegate.model import event as events
from tidegate.model.activity import Activity
from tidegate.model.cluster import Adaptive, Cluster, ClusterSpec, ClusterState, Target, Waiting, WorkerState
from tidegate.model.durations import LONGEST
from tidegate.model.ends import ANSWER_COUNTS, ASK_AGAIN, EndRules
from tidegate.model.errors import Conflict, Invalid
from tidegate.model.lifecycle import due, plan, rewind
from tidegate.model.principal import Principal
from tidegate.model.report import Report, absorb, wanted_of
from tidegate.model.steps import Mark, StopCluster, Withdraw

IDLE, NO_CLIENT, LIFETIME, WARN = 1800.0, 300.0, 36000.0, 300.0
ALICE = Principal("alice")
RULES = EndRules(IDLE, NO_CLIENT, LIFETIME, WARN)


def unused(idle: float | None = None, *, clientless: float | None = None, **activity: Any) -> Cluster:
    """Return a running cluster on which nothing has run, or that has had no client, for so many seconds at ``NOW``."""
    cluster = make_running()
    heard = Activity(
        idle_since=None if idle is None else NOW - idle,
        had_client=clientless is not None,
        clientless_since=None if clientless is None else NOW - clientless,
        **activity,
    )
    spec = RULES.applied_to(replace(cluster.spec), shutdown_on_close=True)
    return replace(cluster, spec=spec, started_at=NOW - 7200, activity=heard)


def planned(cluster: Cluster, now: float = NOW) -> tuple[Cluster, list[str]]:
    """Return the record, and the kinds of events, after all that the plan says at this moment."""
    told = []
    for _ in range(5):
        marks = [step for step in plan(cluster, look(at=now), now) if isinstance(step, Mark)]
        if not marks:
            return cluster, told
        cluster = marks[-1].cluster
        told += [event.kind for mark in marks for event in mark.events]
    raise AssertionError("the plan does not come to rest")


def answered(
    cluster: Cluster,
    idle: float | None,
    now: float = NOW,
    *,
    answer: int | None = None,
    clientless: float | None = None,
) -> Cluster:
    """Return the record after its agent answered the last question."""
    assert cluster.scheduler is not None
    number = cluster.activity.question if answer is None else answer
    return absorb(cluster, Report(cluster.scheduler, idle=idle, answer=number), now, clientless)[0]


def ended_for(cluster: Cluster) -> str | None:
    """Return the code of the reason for which a cluster is to end."""
    if cluster.target is Target.RUNNING:
        assert cluster.reason is None
        return None
    assert cluster.reason is not None
    return cluster.reason.code


# -- idle ------------------------------------------------------------------------------------------------------------


def test_an_idle_cluster_is_announced_asked_and_ended():
    """Five minutes before its time it is announced; then the agent is asked; its answer ends it, with the reason."""
    cluster = unused(IDLE - WARN)
    cluster, told = planned(cluster)
    assert told == [events.ENDING]
    assert cluster.activity.question == 0

    then = NOW + WARN
    cluster, told = planned(cluster, then)
    assert told == []
    assert wanted_of(cluster, 1).question == 1

    cluster = answered(cluster, IDLE, then + 1)
    assert ended_for(cluster) == reasons.IDLE
    assert "30 min" in cluster.reason.message
    assert wanted_of(cluster, 1).exit


def test_a_cluster_that_was_ended_so_has_not_failed():
    """It is STOPPED: nobody has to look for a mistake."""
    cluster = replace(unused(), target=Target.STOPPED, reason=reasons.reason(reasons.IDLE, time="30 min"))
    withdraw, mark, stop = plan(cluster, look(), NOW)
    assert (type(withdraw), type(stop)) == (Withdraw, StopCluster)
    assert mark.events[0].message == cluster.reason.message

    (mark,) = plan(replace(mark.cluster, changed_at=NOW), look(EXITED, at=NOW + 1), NOW + 1)
    assert mark.cluster.state is ClusterState.STOPPED
    assert mark.cluster.reason == cluster.reason


def test_an_old_record_ends_nothing():
    """However long ago the record says that nothing ran: without an answer the cluster goes on, and is asked again."""
    cluster, _ = planned(unused(10 * IDLE, warned={reasons.IDLE: NOW - WARN}))
    cluster = replace(cluster, spec=replace(cluster.spec, lifetime=None))
    for minute in range(1, 600):
        cluster, _ = planned(cluster, NOW + minute * 60)
        assert ended_for(cluster) is None
    assert cluster.activity.question > 100


def test_nothing_that_is_not_announced_ends():
    """After a night in which the gateway was away, an end that is overdue is announced first, and stands its time."""
    cluster, told = planned(unused(10 * IDLE))
    assert told == [events.ENDING]
    assert cluster.activity.question == 0
    assert planned(cluster, NOW + WARN - 1)[0].activity.question == 0
    assert planned(cluster, NOW + WARN)[0].activity.question == 1


def test_work_calls_it_off():
    """An agent that says that something runs: the announcement is taken back, and an answer that comes late is none."""
    cluster, _ = planned(unused(IDLE, warned={reasons.IDLE: NOW - WARN}))
    assert cluster.activity.question == 1
    busy = answered(cluster, None, NOW + 1)
    cluster, told = planned(busy, NOW + 1)
    assert told == [events.KEPT]
    assert cluster.activity.warned == {}

    late = answered(cluster, IDLE, NOW + 2, answer=1)
    assert ended_for(late) is None


@pytest.mark.parametrize("answer", [0, 1, 3])
def test_only_the_last_question_counts(answer: int):
    """What an agent found out before it was asked says nothing of now."""
    cluster = unused(IDLE, warned={reasons.IDLE: NOW - WARN}, question=2, asked_at=NOW)
    assert ended_for(answered(cluster, IDLE, NOW + 1, answer=answer)) is None
    assert ended_for(answered(cluster, IDLE, NOW + 1, answer=2)) == reasons.IDLE


@pytest.mark.parametrize("age", [ANSWER_COUNTS + 0.1, -1.0])
def test_an_answer_that_was_held_up_counts_for_nothing(age: float):
    """An answer counts for half a minute, by a clock that may be set."""
    cluster = unused(IDLE, warned={reasons.IDLE: NOW - WARN}, question=2, asked_at=NOW - age)
    assert ended_for(answered(cluster, IDLE + 5)) is None


def test_the_agent_measures_not_the_clock():
    """The clock jumps by hours: the agent says for how long nothing really ran, and that counts."""
    cluster, told = planned(unused(60.0), NOW + 7200)
    assert told == [events.ENDING]
    cluster, _ = planned(cluster, NOW + 7200 + WARN)
    cluster = answered(cluster, 60.0 + WARN, NOW + 7200 + WARN)
    assert ended_for(cluster) is None
    assert planned(cluster, NOW + 7201 + WARN)[1] == [events.KEPT]


def test_an_agent_that_cannot_tell_is_not_idle():
    """One of an older version reports no such thing: its cluster goes on for ever."""
    cluster = absorb(unused(), Report(make_running().scheduler), NOW)[0]
    assert ends.foreseen(replace(cluster, spec=replace(cluster.spec, lifetime=None))) is None


@pytest.mark.parametrize(
    ("state", "failures", "waits"),
    [
        (WorkerState.REQUESTED, 0, True),
        (WorkerState.STARTING, 0, True),
        (WorkerState.RUNNING, 0, False),
        (WorkerState.STARTING, 1, False),
    ],
)
def test_who_waits_for_workers_is_not_idle(state: WorkerState, failures: int, waits: bool):
    """A queue may take hours; workers that only ever fail keep nothing."""
    cluster = unused(2 * IDLE).with_workers(make_worker(1, state))
    cluster = cluster.with_group(replace(cluster.group(), wanted=1, failures=failures))
    codes = {ending.code for ending in ends._endings(cluster)}
    assert (reasons.IDLE not in codes) is waits


@pytest.mark.parametrize(("adaptive", "waits"), [(None, True), (Adaptive(0, 10), False)])
def test_who_stands_in_line_for_workers_is_not_idle(adaptive: Adaptive | None, waits: bool):
    """Somebody asked for them and waits; a load that asks for more has something to run. No client is no client."""
    cluster = unused(2 * IDLE, clientless=NO_CLIENT)
    group = replace(cluster.group(), wanted=0, asked=10, adaptive=adaptive)
    cluster = replace(cluster.with_group(group), waiting=Waiting(NOW, "workers gateway", "the limit is 100 workers"))
    codes = {ending.code for ending in ends._endings(cluster)}
    assert (reasons.IDLE not in codes) is waits
    assert reasons.NO_CLIENT in codes


def test_the_time_counts_from_when_the_workers_came():
    """Who waited for two hours for workers has his half hour then."""
    cluster = unused(2 * IDLE).with_workers(make_worker(1, WorkerState.STARTING))
    report = Report(cluster.scheduler, frozenset({"default-1"}), idle=2 * IDLE)
    cluster = absorb(cluster, report, NOW)[0]
    assert ends.foreseen(cluster).at == NOW + IDLE


def test_an_announcement_takes_half_of_a_short_time():
    """Where clusters end after two minutes, a warning of five makes no sense."""
    cluster = unused(61.0)
    cluster = replace(cluster, spec=replace(cluster.spec, idle_timeout=120.0))
    assert planned(cluster)[1] == [events.ENDING]
    assert planned(replace(cluster, activity=Activity(idle_since=NOW - 59)))[1] == []


def test_without_warnings_it_ends_all_the_same():
    """``warn: 0`` announces nothing."""
    cluster = unused(IDLE)
    cluster, told = planned(replace(cluster, spec=replace(cluster.spec, end_warning=0.0)))
    assert told == []
    assert ended_for(answered(cluster, IDLE)) == reasons.IDLE


# -- no client -------------------------------------------------------------------------------------------------------


def test_a_cluster_whose_clients_are_gone_ends_when_nothing_runs():
    """Nobody is there to be told, so it is asked at once, and what control sees at that moment counts."""
    cluster, told = planned(unused(NO_CLIENT, clientless=NO_CLIENT))
    assert told == []
    assert cluster.activity.question == 1
    assert ended_for(answered(cluster, NO_CLIENT, clientless=NO_CLIENT)) == reasons.NO_CLIENT


@pytest.mark.parametrize(("idle", "clientless"), [(NO_CLIENT, None), (NO_CLIENT, 299.0), (None, NO_CLIENT)])
def test_a_client_that_is_back_or_work_that_runs_keeps_it(idle: float | None, clientless: float | None):
    """A client that is there now, one that was there a while ago, or a task: each is enough."""
    cluster, _ = planned(unused(NO_CLIENT, clientless=NO_CLIENT))
    assert ended_for(answered(cluster, idle, clientless=clientless)) is None


def test_a_cluster_that_never_had_a_client_is_not_without_one():
    """It was made in the console, or its notebook is still on the way."""
    cluster = ends.see_clients(unused(NO_CLIENT), 10 * NO_CLIENT, NOW, known=True)
    assert cluster.activity.clientless_since is None


def test_clients_come_and_go():
    """Whether there is one, since when not, and that nobody knows: each is in the record."""
    cluster = ends.see_clients(unused(10.0), None, NOW, known=True)
    assert cluster.activity.had_client
    cluster = ends.see_clients(cluster, 3.0, NOW + 3, known=True)
    assert cluster.activity.clientless_since == NOW
    assert ends.see_clients(cluster, 63.0, NOW + 63, known=True) == cluster
    assert ends.see_clients(cluster, None, NOW + 63, known=False).activity.clientless_since is None


def test_those_that_outlive_their_clients_are_exempt():
    """``shutdown_on_close=False`` is a wish."""
    spec = RULES.applied_to(ClusterSpec(), shutdown_on_close=False)
    assert (spec.idle_timeout, spec.no_client_timeout) == (IDLE, None)


# -- lifetime --------------------------------------------------------------------------------------------------------


def test_a_lifetime_ends_what_runs():
    """Announced before, then over, whatever runs, and whether or not the backend can look."""
    cluster = replace(unused(), started_at=NOW - LIFETIME + WARN)
    cluster, told = planned(cluster)
    assert told == [events.ENDING]
    assert planned(cluster, NOW + WARN - 1) == (cluster, [])
    for seen in (look(at=NOW + WARN), None):
        _, mark, _ = plan(cluster, seen, NOW + WARN)
        assert mark.cluster.reason.code == reasons.LIFETIME
        assert "10 h" in mark.cluster.reason.message


def test_a_clock_that_jumps_ends_no_lifetime_at_once():
    """Whoever sets the clock wrongly has five minutes in which everybody is told."""
    cluster, told = planned(unused(), NOW + 10 * LIFETIME)
    assert told == [events.ENDING]
    assert ended_for(cluster) is None


def test_how_the_scheduler_ended_goes_before_its_lifetime():
    """One that has died is not said to have been ended."""
    cluster = replace(unused(warned={reasons.LIFETIME: NOW - WARN}), started_at=NOW - LIFETIME)
    _, mark, _ = plan(cluster, look(EXITED), NOW)
    assert mark.cluster.reason.code == reasons.SCHEDULER_EXITED


# -- an agent that ended by itself -----------------------------------------------------------------------------------


def test_what_ended_by_itself_while_the_gateway_was_away_was_idle():
    """The agent's last words say so; where no idle timeout was set, they are somebody else's."""
    said = replace(EXITED, log_tail=f"- INFO - Closed the scheduler: {ends.FAREWELL} 2700 s\n")
    _, mark, _ = plan(unused(), look(said), NOW)
    assert mark.cluster.reason.code == reasons.IDLE
    never = replace(unused(), spec=ClusterSpec())
    _, mark, _ = plan(never, look(said), NOW)
    assert mark.cluster.reason.code == reasons.SCHEDULER_EXITED


# -- keep ------------------------------------------------------------------------------------------------------------


def test_keep_counts_anew():
    """Without a time: the usual one from now on; what was announced is off."""
    cluster, _ = planned(unused(IDLE - 10, clientless=200.0))
    kept = ends.keep(cluster, None, 86400.0, ALICE, NOW)
    assert [event.kind for event in kept.events] == [events.KEPT]
    assert kept.note is None
    assert planned(kept.cluster)[1] == []
    assert ends.foreseen(kept.cluster).at == NOW + NO_CLIENT


def test_keep_for_a_time_holds_that_long_and_no_longer_than_allowed():
    """A day at the most; then it ends if nothing has run."""
    kept = ends.keep(unused(IDLE), 10 * 86400.0, 86400.0, ALICE, NOW)
    assert kept.cluster.activity.kept_until == NOW + 86400
    assert "1 day at a time" in kept.note
    cluster = replace(kept.cluster, spec=replace(kept.cluster.spec, lifetime=None))
    for hour in range(23):
        assert planned(cluster, NOW + hour * 3600)[1] == []
    assert ends.foreseen(cluster).at == NOW + 86400


def test_keep_does_not_extend_a_lifetime_and_says_so():
    """What the administrator bounds stays bounded."""
    cluster = replace(unused(), started_at=NOW - LIFETIME + 100)
    cluster, _ = planned(cluster)
    kept = ends.keep(cluster, None, 86400.0, ALICE, NOW)
    assert "maximum lifetime" in kept.note
    assert kept.cluster.activity.warned == cluster.activity.warned


def test_who_keeps_anothers_cluster_is_named():
    """Its owner reads who it was."""
    (event,) = ends.keep(unused(IDLE), 3600.0, 86400.0, Principal("root", admin=True), NOW).events
    assert "administrator root" in event.message
    assert event.data["by"] == "root"


def test_what_has_ended_cannot_be_kept():
    """It is too late then."""
    for values in ({"state": ClusterState.STOPPED}, {"target": Target.STOPPED}, {"state": ClusterState.STARTING}):
        with pytest.raises(Conflict):
            ends.keep(replace(unused(), **values), None, 86400.0, ALICE, NOW)


@pytest.mark.parametrize("seconds", [0, -5, math.inf, math.nan, True, "1 h", [60]])
def test_only_a_number_of_seconds_keeps(seconds: object):
    """The units are the clients' affair."""
    with pytest.raises(Invalid):
        ends.check_keep(seconds)


@pytest.mark.parametrize("seconds", [10**400, 1e300], ids=["whole", "float"])
def test_nobody_keeps_a_cluster_for_longer_than_a_century(seconds: float):
    """Nor for more than any float holds: a program may say so to mean for good."""
    assert ends.check_keep(seconds) == LONGEST


# -- the rules, and what holds whatever happens ----------------------------------------------------------------------


def test_options_go_before_the_rules_but_make_no_life_longer():
    """An idle time is as the user may choose it, a lifetime not longer than the gateway's."""
    chosen = ClusterSpec(idle_timeout=math.inf, lifetime=2 * LIFETIME)
    spec = RULES.applied_to(chosen, shutdown_on_close=True)
    assert (spec.idle_timeout, spec.lifetime) == (None, LIFETIME)
    spec = RULES.applied_to(ClusterSpec(idle_timeout=60.0, lifetime=60.0), shutdown_on_close=True)
    assert (spec.idle_timeout, spec.lifetime) == (60.0, 60.0)
    assert EndRules().applied_to(ClusterSpec(), shutdown_on_close=True).idle_timeout is None


def test_the_plan_comes_back_when_an_end_is_near():
    """Nothing has to happen for an end to be announced."""
    assert due(unused(100.0), NOW) == IDLE - WARN - 100


def test_after_the_clock_was_set_back_nothing_lies_in_the_future():
    """Otherwise a cluster would be kept until the clock has caught up."""
    cluster = unused(-3600.0, active_at=NOW + 3600, warned={reasons.IDLE: NOW + 3600}, question=1, asked_at=NOW + 3600)
    after = rewind(cluster, NOW)
    assert after != cluster
    assert ends.latest_moment(after.activity) <= NOW
    assert rewind(after, NOW) == after


activities = st.builds(
    Activity,
    idle_since=st.none() | st.floats(NOW - 9000, NOW + 100),
    had_client=st.booleans(),
    clientless_since=st.none() | st.floats(NOW - 9000, NOW + 100),
    active_at=st.just(0.0) | st.floats(NOW - 9000, NOW + 100),
    kept_until=st.none() | st.floats(NOW - 9000, NOW + 90000),
    warned=st.dictionaries(st.sampled_from([reasons.IDLE, reasons.LIFETIME]), st.floats(NOW - 9000, NOW + 100)),
    question=st.integers(0, 5),
    asked_at=st.none() | st.floats(NOW - 100, NOW + 100),
)


@given(activities, st.none() | st.floats(0, 9000), st.integers(0, 5), st.none() | st.floats(0, 9000))
def test_whatever_is_on_record_what_is_used_goes_on(activity, idle, answer, clientless):
    """No answer ends what runs, what is kept, or what has a client and ran a moment ago."""
    after = answered(replace(unused(), activity=activity), idle, answer=answer, clientless=clientless)
    code = ended_for(after)
    if code is None:
        return
    assert idle is not None
    assert answer == activity.question
    assert 0 <= NOW - activity.asked_at <= ANSWER_COUNTS
    assert (activity.kept_until or 0) <= NOW
    if code == reasons.IDLE:
        assert idle >= IDLE - ends.DRIFT
        assert NOW - activity.warned[reasons.IDLE] >= WARN
    else:
        assert clientless >= NO_CLIENT


@given(activities)
def test_the_plan_of_an_unused_cluster_comes_to_rest(activity):
    """Announcing and asking are each done once, and what is due later lies ahead."""
    cluster, _ = planned(replace(unused(), activity=activity))
    assert plan(cluster, look(), NOW) == []
    left = due(cluster, NOW)
    assert left is None or left > 0
    assert ASK_AGAIN > ANSWER_COUNTS
