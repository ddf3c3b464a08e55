"""Doing the steps: effects first and their record after, the whole launch, and refusals that are for good."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.unit.control.rig import ALICE, START_TIMEOUT, Rig
from tidegate.control.credentials import LaunchFiles
from tidegate.control.execute import Executor, scheduler_address
from tidegate.model import event as events
from tidegate.model import reasons
from tidegate.model.cluster import ClusterState, SchedulerFacts, Target, WorkerState
from tidegate.model.errors import BackendFailed, Busy, Invalid
from tidegate.model.lifecycle import plan
from tidegate.model.report import Report
from tidegate.model.steps import Launch, Mark, StartWorkers
from tidegate.store.base import StaleRecord

FILES = {
    *("ca.pem", "scheduler.pem", "scheduler.key", "worker.pem", "worker.key"),
    *("agent.json", "tidegate_agent.py", "tidegate_worker.py"),
}


async def test_a_launch_has_all_that_the_processes_need(rig: Rig):
    """Whose it is, what runs, every file, and the agent's own; and nothing of it shows in a log."""
    name = await rig.create()
    await rig.turn(name)

    launch = rig.backend.calls[0][1]
    assert (launch.cluster, launch.owner, launch.attempt) == (name, "alice", 1)
    assert set(launch.files) == FILES
    assert b"def dask_setup" in launch.files["tidegate_agent.py"]
    agent = json.loads(launch.files["agent.json"])
    assert agent["url"] == f"http://127.0.0.1:8000/api/agent/v1/clusters/{name}"
    assert (agent["cluster"], agent["attempt"], agent["ca"]) == (name, 1, None)
    assert agent["token"] == rig.token(name)
    assert "PRIVATE" not in repr(launch)
    assert rig.token(name) not in repr(launch)


async def test_the_record_of_an_effect_bears_the_time_after_it(rig: Rig):
    """A launch that takes seconds: looks from during it are too old."""
    name = await rig.create()
    rig.simulation.on_change.append(lambda _: rig.clock.advance(3))
    began = rig.clock.now
    await rig.reconciler.reconcile(name)
    assert rig.cluster(name).state is ClusterState.STARTING
    assert rig.cluster(name).changed_at >= began + 3


async def test_workers_are_told_where_their_scheduler_is(rig: Rig):
    """The host from the backend, the port from the agent."""
    name = await rig.bring_up(workers=2)
    assert rig.backend.calls[-1] == ("start_workers", ("tls://127.0.0.1:40001", ("default-1", "default-2")))
    assert {w.state for w in rig.cluster(name).workers} == {WorkerState.RUNNING}


async def test_a_record_that_changed_meanwhile_stops_the_plan(rig: Rig):
    """What was planned from an old record is not done to the end."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 3)
    old = rig.cluster(name)
    steps = plan(old, (await rig.backend.observe([name]))[name], rig.clock.now + 1)
    assert isinstance(steps[0], Mark)
    await rig.clusters.scale(ALICE, name, 1)
    with pytest.raises(StaleRecord):
        await rig.executor.run(old, steps)
    assert rig.backend.count("start_workers") == 0


async def test_two_marks_of_one_plan_follow_each_other(rig: Rig):
    """The second is saved over what the first made."""
    name = await rig.create()
    await rig.turn(name)
    await rig.report(name)
    before = rig.cluster(name).revision
    await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.RUNNING
    assert rig.cluster(name).revision == before + 2


@pytest.mark.parametrize("error", [Invalid("no such image: dask:2099"), BackendFailed("quota is 0", permanent=True)])
async def test_a_launch_that_is_refused_for_good_fails_the_cluster(rig: Rig, error):
    """The backend's words are the reason; nothing else is tried, and the end goes its usual way."""
    name = await rig.create()
    rig.backend.failure = error
    await rig.turn(name)
    rig.backend.failure = None
    await rig.turn(name, times=2)

    failed = rig.cluster(name)
    assert (failed.state, failed.reason.code) == (ClusterState.FAILED, reasons.LAUNCH_FAILED)
    assert error.message in failed.reason.message
    assert rig.backend.count("launch") == 1


@pytest.mark.parametrize("error", [BackendFailed("the engine is away"), Busy("later")])
async def test_a_launch_that_fails_for_now_is_tried_again(rig: Rig, error):
    """The cluster stays REQUESTED, the loop hears of it, and the next try succeeds."""
    name = await rig.create()
    rig.backend.failure = error
    with pytest.raises(type(error)):
        await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.REQUESTED
    rig.backend.failure = None
    await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.STARTING


async def test_an_engine_that_never_launches_is_not_asked_for_ever(rig: Rig):
    """After the start's deadline the next failure counts as the last: the user gets a reason."""
    name = await rig.create()
    rig.backend.failure = BackendFailed("the engine is away", detail="connection refused")
    rig.clock.advance(START_TIMEOUT)
    await rig.turn(name)
    assert rig.cluster(name).reason.code == reasons.LAUNCH_FAILED
    assert rig.cluster(name).reason.detail == "connection refused"


async def test_a_refusal_after_the_owners_stop_is_no_failure(rig: Rig):
    """Who stops a cluster that could not have been launched sees it STOPPED."""
    name = await rig.create()
    requested = rig.cluster(name)
    await rig.clusters.stop(ALICE, name)
    rig.backend.failure = Invalid("no such image")
    await rig.executor.run(requested, [Launch()])
    assert (rig.cluster(name).target, rig.cluster(name).reason) == (Target.STOPPED, None)


async def test_workers_that_cannot_be_started_now_are_asked_for_again_and_their_owner_reads_why(rig: Rig):
    """They keep their names, and the group counts the failures, but not each try: nobody has to wait for ever."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 2)
    rig.simulation.script.refusal = BackendFailed("its keeper does not answer")
    for pause in (0, 0, 1):
        rig.clock.advance(pause)
        with pytest.raises(BackendFailed):
            await rig.turn(name)

    group = rig.cluster(name).group()
    assert {w.state for w in rig.cluster(name).workers} == {WorkerState.REQUESTED}
    assert (group.trouble.code, group.failures) == (reasons.CANNOT_START, 2)
    assert "its keeper does not answer" in group.trouble.message
    told = [e.event for e in rig.tables.events if "does not answer" in e.event.message]
    assert [(e.kind, e.data["starting"]) for e in told] == [(events.WORKERS, 2)] * 2

    rig.simulation.script.refusal = None
    await rig.turn(name)
    assert rig.backend.calls[-1][1][1] == ("default-1", "default-2")


async def test_workers_that_are_refused_carry_the_reason_and_the_cluster_goes_on(rig: Rig):
    """The owner reads why there are no workers; the next try comes later, with new names."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 2)
    rig.simulation.script.refusal = BackendFailed("the account has no hours left", permanent=True)
    await rig.turn(name)

    cluster = rig.cluster(name)
    assert cluster.state is ClusterState.RUNNING
    assert {w.state for w in cluster.workers} == {WorkerState.ENDED}
    assert "no hours left" in cluster.group().trouble.message
    assert [e.event.kind for e in rig.tables.events][-3:] == [events.WORKER_ENDED, events.WORKER_ENDED, events.WORKERS]

    rig.simulation.script.refusal = None
    rig.clock.advance(1)
    await rig.turn(name)
    assert rig.backend.calls[-1][1][1] == ("default-3", "default-4")


async def test_workers_that_fail_for_now_are_tried_again_under_their_names(rig: Rig):
    """Nothing is recorded of a failure that passes."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 1)
    rig.simulation.script.refusal = Busy("one moment")
    with pytest.raises(Busy):
        await rig.turn(name)
    rig.simulation.script.refusal = None
    await rig.turn(name)
    assert [w.name for w in rig.cluster(name).workers] == ["default-1"]
    assert rig.cluster(name).workers[0].state is WorkerState.STARTING


async def test_a_failure_shows_the_end_of_the_schedulers_log(rig: Rig):
    """A start that took too long has no exit to quote, so the log is fetched."""
    name = await rig.create()
    await rig.turn(name)
    rig.simulation.write(name, "scheduler", "ModuleNotFoundError: No module named 'lz4'")
    rig.clock.advance(START_TIMEOUT + 1)
    await rig.turn(name, times=2)
    assert rig.cluster(name).reason.code == reasons.START_TIMEOUT
    assert "No module named 'lz4'" in rig.cluster(name).reason.log_tail
    assert rig.tables.events[-1].event.data["log_tail"] == rig.cluster(name).reason.log_tail


@pytest.mark.parametrize("facts", [SchedulerFacts(1, 22, 40002), SchedulerFacts(1, 40001, 22)])
async def test_no_way_is_opened_to_a_port_that_is_not_the_clusters(rig: Rig, facts):
    """An agent that lies about where it listens would lead the proxy to any program of that host: its cluster fails."""
    rig.simulation.script.foreign_ports = frozenset({22})
    name = await rig.create()
    await rig.turn(name)
    await rig.agents.report(name, Report(facts))
    await rig.turn(name, times=3)

    failed = rig.cluster(name)
    assert (failed.state, failed.reason.code) == (ClusterState.FAILED, reasons.FOREIGN_ADDRESS)
    assert "127.0.0.1" in failed.reason.message
    assert "22" in failed.reason.message
    assert events.RUNNING not in [e.event.kind for e in rig.tables.events]
    assert rig.routing._whole_table() == []


async def test_a_cluster_without_a_dashboard_has_one_port_to_answer_for(rig: Rig):
    """A scheduler whose HTTP server did not come up is reached all the same."""
    name = await rig.create()
    await rig.turn(name)
    await rig.agents.report(name, Report(SchedulerFacts(1, 40001)))
    await rig.turn(name)
    assert rig.cluster(name).state is ClusterState.RUNNING


async def test_a_backend_that_is_gone_is_named(rig: Rig):
    """The operator took a backend out of the configuration while a cluster of it lives."""
    name = await rig.bring_up()
    executor = Executor(rig.records, {}, rig.routing, LaunchFiles(""), rig.clock)
    with pytest.raises(BackendFailed, match="this gateway has no backend 'sim' any more"):
        await executor.run(rig.cluster(name), [StartWorkers(("default-1",))])


async def test_a_cluster_whose_secrets_are_gone_says_so(rig: Rig):
    """A launch without them would start something that nobody can reach."""
    name = await rig.create()
    rig.tables.credentials.clear()
    with pytest.raises(BackendFailed, match=f"cannot go on with cluster {name}: its credentials"):
        await rig.turn(name)


async def test_an_ipv6_scheduler_has_brackets(rig: Rig):
    """``tls://`` addresses are URLs."""
    cluster = replace(rig.cluster(await rig.bring_up()), host="fd00::7")
    assert scheduler_address(cluster) == "tls://[fd00::7]:40001"
