"""Limits around a simulated engine: who is refused, who gets less, who gets the rest when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.control.rig import ALICE, MALLORY, Rig, rigged
from tidegate.control.limits import Limits
from tidegate.model.amounts import Resource
from tidegate.model.cluster import ClusterState
from tidegate.model.errors import Invalid, LimitReached, NotAllowed
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.line import shortage
from tidegate.model.principal import Principal

ROOT = Principal("root", admin=True)
STUDENT = Principal("alice", frozenset({"students"}))


def rules(*said: tuple[str, str, float]) -> Rules:
    """Return rules, each as an administrator writes it."""
    return Rules(Rule(Subject.parse(subject), Resource(resource), amount) for subject, resource, amount in said)


def limits_of(rig: Rig) -> Limits:
    """Return what can be asked about limits there."""
    return Limits(rig.records, rig.clock, lambda user: ["staff"] if user == "bob" else [])


async def end(rig: Rig, name: str) -> None:
    """Have a cluster stopped, and wait until nothing of it is left."""
    await rig.clusters.stop(ALICE, name)
    while not rig.cluster(name).state.ended:
        await rig.turn(name)


async def test_the_cluster_that_is_too_many_is_refused(tmp_path: Path):
    """The first two are made, the third is refused; when one has ended, there is room again."""
    async with rigged(tmp_path, rules=rules(("user", "clusters", 2))) as rig:
        first, _ = await rig.create(), await rig.create()
        with pytest.raises(LimitReached, match="the limit is 2 clusters for each user, of which 2 are in use"):
            await rig.create()
        await rig.clusters.create(MALLORY, {})
        assert len(rig.tables.clusters) == 3

        await rig.turn(first)
        await end(rig, first)
        await rig.create()


async def test_a_request_that_was_answered_is_answered_again(tmp_path: Path):
    """With the same key, although the limit is reached by the cluster that it made."""
    async with rigged(tmp_path, rules=rules(("user", "clusters", 1))) as rig:
        name = await rig.create(key="cell-1")

        assert await rig.create(key="cell-1") == name


async def test_a_cluster_counts_for_the_groups_of_its_owner(tmp_path: Path):
    """Those that they were in when they made it."""
    async with rigged(tmp_path, rules=rules(("group:students", "clusters", 1))) as rig:
        cluster = await rig.clusters.create(STUDENT, {})
        assert cluster.owner_groups == ("students",)
        await rig.clusters.create(ALICE, {})
        with pytest.raises(LimitReached, match="1 cluster for the group students together"):
            await rig.clusters.create(Principal("carol", frozenset({"students"})), {})


async def test_what_stops_is_not_replaced_before_it_has_gone(tmp_path: Path):
    """With the last core in use, a worker that is being stopped still holds it."""
    async with rigged(tmp_path, rules=rules(("user", "cores", 2))) as rig:
        name = await rig.bring_up(workers=2)
        await rig.clusters.scale(ALICE, name, 1)
        await rig.report(name, retired=frozenset({"default-2"}))
        _, note = await rig.clusters.scale(ALICE, name, 2)
        assert note is None
        assert {w.name for w in rig.cluster(name).active_workers()} == {"default-1"}

        for _ in range(10):
            await rig.turn(name)
            assert len(rig.simulation.registered(name) or ()) <= 2
        assert {w.name for w in rig.cluster(name).active_workers()} == {"default-1", "default-3"}


async def test_the_load_gets_what_fits_and_the_rest_when_there_is_room(tmp_path: Path):
    """An adaptive cluster is given what became free, without its load asking again."""
    async with rigged(tmp_path, rules=rules(("user", "workers", 5))) as rig:
        by_hand, adaptive = await rig.bring_up(workers=3), await rig.bring_up()
        await rig.clusters.adapt(ALICE, adaptive, 0, 5)
        wanted = await rig.report(adaptive, demand={"default": 5})
        assert wanted.groups["default"][0] == 2
        assert rig.cluster(adaptive).group().asked == 5

        await rig.reconciler.look_around()
        assert rig.cluster(adaptive).group().wanted == 2
        await end(rig, by_hand)
        await rig.reconciler.look_around()

        assert rig.cluster(adaptive).group().wanted == 5


async def test_a_request_waits_until_there_is_room(tmp_path: Path):
    """Where the administrator has it so: it says its place, is let in when it is its turn, and starts then."""
    declared = Rules(rules(("user", "clusters", 1)), waits=True)
    async with rigged(tmp_path, rules=declared) as rig:
        first = await rig.bring_up()
        second = await rig.create()
        rig.clock.advance(1)
        third = await rig.create()
        await rig.reconciler.look_around()
        await rig.turn(second)
        waiting = [(await rig.clusters.get(ALICE, name)).waiting for name in (second, third)]
        assert [place and place.place for place in waiting] == [1, 2]
        assert rig.cluster(second).state is ClusterState.REQUESTED
        assert rig.backend.count("launch") == 1

        await end(rig, first)
        rig.clock.advance(3600)
        await rig.reconciler.look_around()
        await rig.turn(second)
        assert (rig.cluster(second).state, rig.cluster(second).waiting) == (ClusterState.STARTING, None)
        assert rig.cluster(third).queued
        told = [e.event.message for e in rig.tables.events if e.cluster == third]
        assert told[-1] == "It waits for room: the limit is 1 cluster for each user, of which 1 is in use"
        shown = (await rig.clusters.entries(ALICE, states=[ClusterState.REQUESTED]))[0].cluster
        assert shortage(shown)[0].startswith("It waits for room as number 1 in line: the limit is 1 cluster")


async def test_what_waits_can_be_stopped(tmp_path: Path):
    """It leaves the line, and ends without ever having held anything."""
    async with rigged(tmp_path, rules=Rules(rules(("user", "clusters", 1)), waits=True)) as rig:
        await rig.bring_up()
        waiting = await rig.create()

        await end(rig, waiting)

        assert rig.cluster(waiting).state is ClusterState.STOPPED
        assert rig.backend.count("launch") == 1


async def test_workers_wait_until_there_is_room(tmp_path: Path):
    """A size beyond what fits is filled up as others leave; before a load that asks for more."""
    async with rigged(tmp_path, rules=Rules(rules(("user", "workers", 4)), waits=True)) as rig:
        one, two, adaptive = await rig.bring_up(workers=3), await rig.bring_up(), await rig.bring_up()
        _, note = await rig.clusters.scale(ALICE, two, 3)
        assert "The others follow when there is room" in str(note)
        assert rig.cluster(two).group().wanted == 1
        await rig.clusters.adapt(ALICE, adaptive, 0, 4)
        await rig.report(adaptive, demand={"default": 4})

        await end(rig, one)
        await rig.reconciler.look_around()

        assert (rig.cluster(two).group().wanted, rig.cluster(two).waiting) == (3, None)
        assert rig.cluster(adaptive).group().wanted == 1


async def test_one_reads_what_one_may_hold_and_does(tmp_path: Path):
    """Every resource of one's own, and what is limited for one's groups and the gateway."""
    declared = rules(("each:students", "cores", 20), ("group:students", "workers", 50), ("gateway", "memory", 2**40))
    async with rigged(tmp_path, rules=declared) as rig:
        await rig.clusters.create(STUDENT, {})
        name = await rig.bring_up(workers=3)
        told = await limits_of(rig).of_user(STUDENT)

        spec = rig.cluster(name).spec
        assert [(str(s.scope), s.resource.value, s.used, s.limit and s.limit.amount) for s in told] == [
            ("user:alice", "clusters", 2, None),
            ("user:alice", "workers", 3, None),
            ("user:alice", "cores", 3 * spec.worker_cores, 20),
            ("user:alice", "memory", 3 * spec.worker_memory, None),
            ("user:alice", "gpus", 0, None),
            ("group:students", "workers", 0, 50),
            ("gateway", "memory", 3 * spec.worker_memory, 2**40),
        ]


async def test_an_administrator_reads_everybodys(tmp_path: Path):
    """Of one user with the groups that are known, and of all who have a cluster; others are refused."""
    declared = rules(("each:staff", "cores", 8), ("each:students", "cores", 20))
    async with rigged(tmp_path, rules=declared) as rig:
        limits = limits_of(rig)
        await rig.clusters.create(STUDENT, {})
        await rig.clusters.create(MALLORY, {})

        async def cores(user: str) -> float | None:
            told = [s for s in await limits.of_user(ROOT, user) if s.resource is Resource.CORES]
            return told[0].limit and told[0].limit.amount

        assert [await cores(user) for user in ("bob", "alice", "mallory")] == [8, 20, None]
        scopes = [str(s.scope) for s in await limits.of_everybody(ROOT)]
        assert scopes == ["user:alice"] * 5 + ["user:mallory"] * 5
        for ask in (limits.of_user(MALLORY, "alice"), limits.of_everybody(MALLORY), limits.rules(MALLORY)):
            with pytest.raises(NotAllowed, match="only an administrator"):
                await ask


async def test_an_administrator_sets_limits_at_run_time(rig: Rig):
    """They count at once, say who set them, end nothing, and go as they came."""
    limits = limits_of(rig)
    name = await rig.bring_up(workers=3)

    rule = await limits.set(ROOT, "user", "workers", 2)
    assert (rule.set_by, rule.set_at) == ("root", rig.clock.now)
    assert rig.cluster(name).group().wanted == 3
    _, note = await rig.clusters.scale(ALICE, name, 4)
    assert "the limit is 2 workers for each user, of which 3 are in use" in str(note)
    assert rig.cluster(name).state is ClusterState.RUNNING

    await limits.set(ROOT, "user:alice", "workers", "unlimited")
    assert (await rig.clusters.scale(ALICE, name, 4))[1] is None
    assert [(str(h.rule.subject), h.at_run_time) for h in await limits.rules(ROOT)] == [
        ("user", True),
        ("user:alice", True),
    ]
    for subject in ("user", "user:alice", "user:alice"):
        await limits.unset(ROOT, subject, "workers")
    assert await limits.rules(ROOT) == []
    assert (await rig.clusters.scale(ALICE, name, 9))[1] is None


async def test_what_the_configuration_says_is_told_beside_what_holds(tmp_path: Path):
    """So that one sees what comes back when a limit is taken away."""
    async with rigged(tmp_path, rules=rules(("gateway", "cores", 64), ("cluster", "workers", 9))) as rig:
        limits = limits_of(rig)
        await limits.set(ROOT, "gateway", "cores", 32)

        cluster, gateway = await limits.rules(ROOT)
        assert (cluster.rule.amount, cluster.configured, cluster.at_run_time) == (9, None, False)
        assert (gateway.rule.amount, gateway.configured, gateway.at_run_time) == (32, 64, True)


async def test_a_limit_of_one_cluster_counts_for_the_next(rig: Rig):
    """It stands in the record of each cluster, where an administrator changes it too."""
    old = await rig.create()
    await limits_of(rig).set(ROOT, "cluster", "workers", 2)

    assert rig.cluster(old).spec.max_workers == 1000
    assert rig.cluster(await rig.create()).spec.max_workers == 2


@pytest.mark.parametrize(
    ("subject", "resource", "amount", "words"),
    [
        ("alice", "cores", 1, "cannot tell for whom"),
        ("user", "coffee", 1, "cannot limit 'coffee': choose among clusters, workers"),
        ("user", "core_hours", 1, "cannot limit 'core_hours': .* budgets are set in the configuration alone"),
        ("user", "cores", "many", "cannot limit cores so"),
        ("cluster", "clusters", 1, "it is one"),
    ],
)
async def test_what_makes_no_sense_is_refused(rig: Rig, subject: str, resource: str, amount: object, words: str):
    """With what may be written; and nothing is set."""
    with pytest.raises(Invalid, match=words):
        await limits_of(rig).set(ROOT, subject, resource, amount)
    assert await rig.store.rules() == []


async def test_nobody_else_sets_limits(rig: Rig):
    """Nor takes them away."""
    limits = limits_of(rig)
    for deed in (limits.set(ALICE, "user:alice", "cores", "unlimited"), limits.unset(ALICE, "user", "cores")):
        with pytest.raises(NotAllowed, match="only an administrator"):
            await deed
    assert await rig.store.rules() == []
