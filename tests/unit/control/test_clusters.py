"""What users can ask: what comes of it, and what those get who ask for too much or for what is not theirs."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.control.rig import ALICE, MALLORY, Rig, rigged
from tidegate.control.terms import Terms
from tidegate.model import event as events
from tidegate.model.amounts import Resource
from tidegate.model.cluster import Adaptive, ClusterState, Target
from tidegate.model.errors import Busy, Conflict, Invalid, NotVisible
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.offer import Offer
from tidegate.model.options import Kind, Option
from tidegate.model.principal import Principal
from tidegate.store.base import StaleRecord

ROOT = Principal("root", admin=True)


def kinds(rig: Rig, name: str) -> list[str]:
    """Return the kinds of a cluster's events."""
    return [e.event.kind for e in rig.tables.events if e.cluster == name]


async def test_a_new_cluster_is_on_record_with_all_that_belongs_to_it(rig: Rig):
    """Its owner, its limit with the reason, its secrets, and an event; under a name that nobody can guess."""
    name = await rig.create()
    cluster = rig.cluster(name)
    assert (cluster.owner, cluster.state, cluster.target) == ("alice", ClusterState.REQUESTED, Target.RUNNING)
    assert cluster.spec.max_workers == 1000
    assert "simulated engine" in cluster.spec.max_workers_reason
    assert name in rig.tables.credentials
    assert kinds(rig, name) == [events.REQUESTED]
    assert len(name) == 16
    assert int(name, 16) >= 0


async def test_a_repeated_request_finds_its_cluster(rig: Rig):
    """The same key of the same owner: one cluster; of another owner: another."""
    first = await rig.create(key="cell-1")
    assert await rig.create(key="cell-1") == first
    other = await rig.clusters.create(MALLORY, {}, key="cell-1")
    assert other.name != first
    assert len(rig.tables.clusters) == 2


async def test_nothing_is_recorded_of_a_request_that_is_refused(rig: Rig):
    """An unknown option, or workers that do not fit at all."""
    with pytest.raises(Invalid, match="Unknown fields"):
        await rig.clusters.create(ALICE, {"worker_gpus": 4})
    rig.simulation.script.max_workers = 0
    with pytest.raises(Invalid, match="not even one such worker fits"):
        await rig.create()
    assert not rig.tables.clusters


async def test_options_limits_and_backend_shape_the_spec(tmp_path):
    """The administrator's limit overrides what the backend would allow, and says who set it."""
    options = Offer((Option("worker_cores", Kind.INTEGER, 1, maximum=8),))
    rules = Rules([Rule(Subject.parse("cluster"), Resource.WORKERS, 3)])
    async with rigged(tmp_path, terms=Terms(start_timeout=7), rules=rules, options=options) as rig:
        cluster = await rig.clusters.create(ALICE, {"worker_cores": 4})
        assert cluster.options == {"worker_cores": 4}
        assert (cluster.spec.worker_cores, cluster.spec.max_workers, cluster.spec.start_timeout) == (4.0, 3, 7)
        assert "administrator" in cluster.spec.max_workers_reason
        assert cluster.spec.environment == "simulated"
        assert rig.clusters.options(ALICE).options == options.options


@pytest.mark.parametrize("action", ["get", "scale", "adapt", "stop", "logs", "client_credentials", "wait", "follow"])
async def test_what_is_not_yours_does_not_exist(rig: Rig, action):
    """A stranger's answer is the same, to the byte, as for a name that never was; and nothing has happened."""
    theirs = await rig.bring_up()
    before = rig.cluster(theirs)

    async def attempt(name: str) -> str:
        calls = {
            "get": lambda: rig.clusters.get(MALLORY, name),
            "scale": lambda: rig.clusters.scale(MALLORY, name, 5),
            "adapt": lambda: rig.clusters.adapt(MALLORY, name, 0, 5),
            "stop": lambda: rig.clusters.stop(MALLORY, name),
            "logs": lambda: rig.clusters.logs(MALLORY, name),
            "client_credentials": lambda: rig.clusters.client_credentials(MALLORY, name),
            "wait": lambda: rig.clusters.wait(MALLORY, name, 0),
            "follow": lambda: anext(rig.clusters.follow(MALLORY, cluster=name)),
        }
        with pytest.raises(NotVisible) as caught:
            await calls[action]()
        return caught.value.message

    absent = "0" * 16
    assert await attempt(theirs) == f"Cluster {theirs} not found"
    assert (await attempt(theirs)).replace(theirs, absent) == await attempt(absent)
    assert rig.cluster(theirs) == before


async def test_a_name_from_outside_is_echoed_safely(rig: Rig):
    """No control characters, and not a megabyte of it."""
    with pytest.raises(NotVisible) as caught:
        await rig.clusters.get(ALICE, "\x1b[31m" + "x" * 10**6)
    assert caught.value.message == f"Cluster ?[31m{'x' * 59}... not found"


async def test_a_list_holds_ones_own(rig: Rig):
    """By owner and state."""
    mine = await rig.create()
    await rig.clusters.create(MALLORY, {})
    assert [c.name for c in await rig.clusters.find(ALICE)] == [mine]
    assert await rig.clusters.find(ALICE, states={ClusterState.RUNNING}) == []


# -- sizes -----------------------------------------------------------------------------------------------------------


async def test_scaling_sets_the_size_by_hand(rig: Rig):
    """It turns adaptive off, and is an event; the same size again is none."""
    name = await rig.bring_up()
    await rig.clusters.adapt(ALICE, name, 1, 5)
    cluster, note = await rig.clusters.scale(ALICE, name, 3)
    assert (cluster.group().wanted, cluster.group().adaptive, note) == (3, None, None)
    await rig.clusters.scale(ALICE, name, 3)
    scaled = [e.event for e in rig.tables.events if e.event.kind == events.SCALED]
    assert [e.data for e in scaled] == [
        {"group": "default", "wanted": 1, "minimum": 1, "maximum": 5},
        {"group": "default", "wanted": 3, "minimum": None, "maximum": None},
    ]


async def test_a_size_beyond_the_limit_is_clamped_and_said(rig: Rig):
    """A milliard workers: at once, by name of the limit."""
    name = await rig.bring_up()
    cluster, note = await rig.clusters.scale(ALICE, name, 10**9)
    assert cluster.group().wanted == 1000
    assert "limit of 1000 workers" in note
    assert "simulated engine" in note


async def test_adaptive_bounds_take_the_size_with_them(rig: Rig):
    """The size is brought within the bounds at once; switched off, it stays where it is."""
    name = await rig.bring_up(workers=4)
    cluster, _ = await rig.clusters.adapt(ALICE, name, 0, 2)
    assert (cluster.group().wanted, cluster.group().adaptive) == (2, Adaptive(0, 2))
    cluster, note = await rig.clusters.adapt(ALICE, name, 3, 10**6)
    assert (cluster.group().wanted, cluster.group().adaptive) == (3, Adaptive(3, 1000))
    assert "limit of 1000" in note
    cluster, _ = await rig.clusters.adapt(ALICE, name, None, None, active=False)
    assert (cluster.group().wanted, cluster.group().adaptive) == (3, None)


@pytest.mark.parametrize("count", [-1, "two", 2.5, None, True])
async def test_a_size_that_is_none_is_refused(rig: Rig, count):
    """And the cluster stays as it is."""
    name = await rig.bring_up(workers=1)
    with pytest.raises(Invalid):
        await rig.clusters.scale(ALICE, name, count)
    assert rig.cluster(name).group().wanted == 1


async def test_crossed_bounds_and_unknown_groups_are_refused(rig: Rig):
    """The message says which."""
    name = await rig.bring_up()
    with pytest.raises(Invalid, match="minimum=5 is above maximum=2"):
        await rig.clusters.adapt(ALICE, name, 5, 2)
    with pytest.raises(Invalid, match=f"cannot scale the worker group gpu: cluster {name} has default"):
        await rig.clusters.scale(ALICE, name, 1, group="gpu")


async def test_only_what_runs_can_be_sized(rig: Rig):
    """Before it runs, and from the moment when it was stopped: a conflict that says so."""
    stopped = await rig.bring_up()
    await rig.clusters.stop(ALICE, stopped)
    assert rig.cluster(stopped).state is ClusterState.RUNNING
    for name in (await rig.create(), stopped):
        with pytest.raises(Conflict, match=f"^cluster {name} is not running$"):
            await rig.clusters.scale(ALICE, name, 1)
        with pytest.raises(Conflict, match=f"^cluster {name} is not running$"):
            await rig.clusters.adapt(ALICE, name, 0, 1)


async def test_changes_that_are_made_at_the_same_time_do_not_fail(rig: Rig):
    """Someone else is quicker: load again, think again."""
    name = await rig.bring_up()
    save = rig.store.save
    others = iter(range(3))

    async def save_after_somebody_else(cluster, happened=()):
        if next(others, None) is not None:
            current = rig.cluster(cluster.name)
            await save(current, ())
        return await save(cluster, happened)

    rig.store.save = save_after_somebody_else
    cluster = await rig.clusters.limit(ROOT, name, 2)
    assert cluster.spec.max_workers == 2
    assert len([k for k in kinds(rig, name) if k == events.LIMITED]) == 1


async def test_a_change_that_never_succeeds_says_when_to_come_back(rig: Rig):
    """Someone else is always quicker: after some tries the answer is to try again, and not an endless wait."""
    name = await rig.bring_up()

    async def somebody_else_was_quicker(cluster, happened=()):
        raise StaleRecord(cluster.name)

    rig.store.save = somebody_else_was_quicker
    with pytest.raises(Busy, match=f"cannot change cluster {name} now"):
        await rig.clusters.stop(ALICE, name)


# -- ends ------------------------------------------------------------------------------------------------------------


async def test_stopping_is_idempotent(rig: Rig):
    """Twice, and after the end: the same, and nothing more happens."""
    name = await rig.bring_up()
    assert (await rig.clusters.stop(ALICE, name)).target is Target.STOPPED
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=2)
    assert rig.cluster(name).state is ClusterState.STOPPED
    revision = rig.cluster(name).revision
    assert (await rig.clusters.stop(ALICE, name)).state is ClusterState.STOPPED
    assert rig.cluster(name).revision == revision


async def test_what_a_client_connects_with(rig: Rig):
    """Its certificate with the authority's, and its key, while the cluster lives; nothing afterwards."""
    name = await rig.bring_up()
    certificate, key = await rig.clusters.client_credentials(ALICE, name)
    secrets = rig.tables.credentials[name]
    assert certificate == secrets.client_cert + secrets.ca_cert
    assert key == secrets.client_key
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=2)
    assert await rig.clusters.client_credentials(ALICE, name) is None


async def test_logs_outlive_the_cluster(rig: Rig):
    """They are there after the end, and what the backend failed to say is no internal error."""
    name = await rig.bring_up(workers=1)
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=2)
    assert [log.process for log in await rig.clusters.logs(ALICE, name)] == ["scheduler", "default-1"]


async def test_waiting_ends_when_the_start_has_come_to_something(rig: Rig):
    """RUNNING, or the stop; at once if it has come already; and after the time as it is then."""
    name = await rig.create()
    assert (await rig.clusters.wait(ALICE, name, 0)).state is ClusterState.REQUESTED

    waiting = asyncio.create_task(rig.clusters.wait(ALICE, name, 30))
    await rig.turn(name)
    await rig.report(name)
    assert not waiting.done()
    await rig.turn(name)
    assert (await waiting).state is ClusterState.RUNNING
    assert (await rig.clusters.wait(ALICE, name, 30)).state is ClusterState.RUNNING

    other = await rig.create()
    waiting = asyncio.create_task(rig.clusters.wait(ALICE, other, 30))
    await asyncio.sleep(0)
    await rig.clusters.stop(ALICE, other)
    assert (await waiting).target is Target.STOPPED
