"""What becomes free, and what loads give back, around a simulated engine: whole histories with a clock that moves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.control.rig import ALICE, Rig, rigged
from tidegate.model.admission import Admission, load_waits
from tidegate.model.amounts import NOTHING, Resource
from tidegate.model.cluster import Cluster, ClusterState, Target, WorkerState
from tidegate.model.errors import TidegateError
from tidegate.model.limits import Rule, Rules, Subject, holding_of, scopes_of
from tidegate.model.line import shortage
from tidegate.model.pressure import SETTLE
from tidegate.model.principal import Principal

BOB = Principal("bob", frozenset({"sea"}))
PEOPLE = [ALICE, BOB, Principal("carol", frozenset({"sea"}))]


def rules(*said: tuple[str, str, float], waits: bool = False) -> Rules:
    """Return rules, each as an administrator writes it."""
    return Rules((Rule(Subject.parse(s), Resource(r), amount) for s, r, amount in said), waits=waits)


async def bring_up(rig: Rig, who: Principal) -> str:
    """Create somebody's cluster, and bring it to RUNNING."""
    name = (await rig.clusters.create(who, {})).name
    await live(rig, name)
    assert rig.cluster(name).state is ClusterState.RUNNING
    return name


async def live(rig: Rig, name: str, demand: int | None = None) -> None:
    """Do what the loop and the agent of a cluster do in a moment: an agent retires what is too much."""
    for _ in range(4):
        try:
            await rig.turn(name)
            there = rig.simulation.registered(name)
            if there is None:
                continue
            wanted = await rig.report(name, **({} if demand is None else {"demand": {"default": demand}}))
        except TidegateError:
            continue
        if not wanted.exit and len(there) > wanted.groups["default"][0]:
            surplus = sorted(there)[wanted.groups["default"][0] :]
            await rig.report(name, retired=frozenset(surplus))
            rig.simulation.retire(name, *surplus)


async def test_a_load_gives_back_what_is_not_its_share_while_another_waits(tmp_path: Path):
    """After a while, to the half; its record and history say why, and not who; it gets them back when there is room."""
    async with rigged(tmp_path, rules=rules(("gateway", "workers", 6))) as rig:
        first, second = await bring_up(rig, ALICE), await bring_up(rig, BOB)
        await rig.clusters.adapt(ALICE, first, 1, 9)
        await live(rig, first, 9)
        await rig.clusters.adapt(BOB, second, 0, 9)
        await live(rig, second, 9)
        assert [rig.cluster(name).group().wanted for name in (first, second)] == [6, 0]

        await rig.reconciler.look_around()
        assert rig.cluster(first).group().wanted == 6, "nothing is taken for a moment's wait"
        rig.clock.advance(SETTLE)
        await rig.reconciler.look_around()
        await live(rig, first, 9)
        await rig.reconciler.look_around()
        await live(rig, second, 9)

        reason = "the limit is 6 workers for the whole gateway, and what is there is shared with others"
        for name in (first, second):
            assert (rig.cluster(name).group().wanted, len(rig.simulation.registered(name) or ())) == (3, 3)
            assert shortage(rig.cluster(name)) == [
                f"A limit leaves room for 3 of the 6 workers that are asked for: {reason}"
            ]
        told = [e.event.message for e in rig.tables.events if e.cluster == first]
        assert f"3 workers are wanted in place of 6, since others wait: {reason}" in told
        assert not any("bob" in words or second in words for words in told)
        ended = [w for w in rig.cluster(first).workers if w.state is WorkerState.ENDED]
        assert [w.reason for w in ended] == [None] * 3, "they were let go, and did not fail"

        for _ in range(3):
            rig.clock.advance(60)
            await rig.reconciler.look_around()
            await live(rig, first, 9)
            await live(rig, second, 9)
        assert [rig.cluster(name).group().launched for name in (first, second)] == [6, 3], "it has come to rest"

        await live(rig, second, 0)
        await rig.reconciler.look_around()
        assert rig.cluster(first).group().wanted == 6
        assert shortage(rig.cluster(first)) == []


async def test_a_new_cluster_that_waits_makes_loads_give_back(tmp_path: Path):
    """As far as it is fair, and so it begins; a size that was set by hand is left alone."""
    declared = rules(("gateway", "clusters", 2), ("gateway", "workers", 6), waits=True)
    async with rigged(tmp_path, rules=declared) as rig:
        first, by_hand = await bring_up(rig, ALICE), await bring_up(rig, BOB)
        await rig.clusters.scale(BOB, by_hand, 2)
        await rig.clusters.adapt(ALICE, first, 0, 9)
        await live(rig, first, 9)
        await rig.clusters.scale(BOB, by_hand, 5)
        for _ in range(2):
            rig.clock.advance(SETTLE)
            await rig.reconciler.look_around()
            await live(rig, first, 9)

        assert [rig.cluster(name).group().wanted for name in (first, by_hand)] == [3, 3]


async def test_who_has_used_much_comes_after_who_has_not(tmp_path: Path):
    """Though they hold nothing now, and came first; what is booked counts."""
    async with rigged(tmp_path, rules=rules(("gateway", "clusters", 1), waits=True)) as rig:
        used = await bring_up(rig, ALICE)
        await rig.clusters.scale(ALICE, used, 4)
        await live(rig, used)
        rig.clock.advance(3600)
        carols, alices = await rig.clusters.create(PEOPLE[2], {}), await rig.clusters.create(ALICE, {})
        rig.clock.advance(5)
        bobs = await rig.clusters.create(BOB, {})
        await rig.clusters.stop(ALICE, used)
        await rig.clusters.stop(PEOPLE[2], carols.name)
        while not rig.cluster(used).state.ended:
            await rig.turn(used)

        await rig.reconciler.look_around()

        assert not rig.cluster(bobs.name).queued
        assert rig.cluster(alices.name).queued


async def test_who_goes_on_waiting_is_not_tried_and_not_written(tmp_path: Path):
    """When somebody leaves, who begins and who is first now are. The place of all others moves where it is shown."""
    async with rigged(tmp_path, rules=rules(("gateway", "clusters", 2), waits=True)) as rig:
        runs = [await bring_up(rig, ALICE) for _ in range(2)]
        waiting = []
        for who in PEOPLE * 3:
            rig.clock.advance(1)
            waiting.append((who, (await rig.clusters.create(who, {})).name))
        tried, admit = [], rig.store.admit

        async def counting(name: str, admission: Admission) -> Cluster | None:
            tried.append(name)
            return await admit(name, admission)

        async def numbers() -> dict[str, int]:
            shown = [(await rig.clusters.get(who, name)).waiting for who, name in waiting]
            return {name: place.place for (_, name), place in zip(waiting, shown, strict=True) if place is not None}

        await rig.reconciler.look_around()
        before = await numbers()
        assert sorted(before.values()) == list(range(1, 10))
        first, second, *others = sorted(before, key=before.__getitem__)
        rig.store.admit = counting
        for _ in range(3):
            await rig.reconciler.look_around()
        assert tried == []
        records, last = dict(rig.tables.clusters), len(rig.tables.events)

        await rig.clusters.stop(ALICE, runs[0])
        while not rig.cluster(runs[0]).state.ended:
            await rig.turn(runs[0])
        await rig.reconciler.look_around()

        assert tried == [first, second]
        assert await numbers() == {name: before[name] - 1 for name in (second, *others)}
        assert [rig.cluster(name) for name in others] == [records[name] for name in others]
        assert {e.cluster for e in rig.tables.events[last:]} == {runs[0], first, second}


# -- whatever happens --------------------------------------------------------------------------------------------------


class History:
    """Anything that people, loads, engines and the clock do, one after the other."""

    def __init__(self, rig: Rig, random: Random, limits: Rules) -> None:
        self.rig, self.random, self.limits = rig, random, limits
        self.demand: dict[str, int] = {}

    async def step(self) -> None:
        """Let something happen."""
        running = [c for c in self.rig.tables.clusters.values() if not c.state.ended]
        what = self.random.choice(
            ["create", "scale", "adapt", "demand", "demand", "live", "live", "look", "kill", "stop"]
        )
        if what == "look":
            self.rig.clock.advance(self.random.choice([1, 5, 20]))
            await self.rig.reconciler.look_around()
        elif what == "create" or not running:
            await self._create()
        else:
            await self._do(what, self.random.choice(running).name)

    async def _create(self) -> None:
        try:
            await self.rig.clusters.create(self.random.choice(PEOPLE), {})
        except TidegateError:
            return

    async def _do(self, what: str, name: str) -> None:
        cluster, random = self.rig.cluster(name), self.random
        owner = next(p for p in PEOPLE if p.name == cluster.owner)
        try:
            if what == "scale":
                await self.rig.clusters.scale(owner, name, random.randint(0, 8))
            elif what == "adapt":
                await self.rig.clusters.adapt(owner, name, *sorted(random.sample(range(9), 2)))
            elif what == "demand":
                self.demand[name] = random.randint(0, 9)
                await live(self.rig, name, self.demand[name])
            elif what == "live":
                await live(self.rig, name, self.demand.get(name))
            elif what == "kill" and (there := self.rig.simulation.registered(name)):
                self.rig.simulation.kill(name, random.choice(sorted(there)))
            elif what == "stop" and random.random() < 0.3:
                await self.rig.clusters.stop(owner, name)
        except TidegateError:
            return

    def check(self) -> None:
        """See that no limit is exceeded, and that loads have what they must have at least."""
        active = [c for c in self.rig.tables.clusters.values() if not c.state.ended]
        for person in PEOPLE:
            for limit in self.limits.limits_of(person.name, person.groups):
                counted = [c for c in active if limit.scope in scopes_of(c.owner, c.owner_groups)]
                assert sum(map(holding_of, counted), NOTHING).of(limit.resource) <= limit.amount
        for cluster in active:
            bounds = cluster.group().adaptive
            assert bounds is None or cluster.target is Target.STOPPED or cluster.group().wanted >= bounds.minimum

    async def rest(self) -> None:
        """Let time pass in which nobody asks for anything else."""
        for _ in range(4):
            self.rig.clock.advance(SETTLE)
            await self.rig.reconciler.look_around()
            for cluster in list(self.rig.tables.clusters.values()):
                if not cluster.state.ended:
                    await live(self.rig, cluster.name, self.demand.get(cluster.name))


@settings(max_examples=15, deadline=None, phases=set(Phase) - {Phase.explain, Phase.shrink})
@given(st.integers(0, 2**32), st.booleans())
async def test_no_history_exceeds_a_limit_and_all_come_to_rest(seed, waits):
    """Through the real loop: no limit is exceeded and no minimum undercut, whoever asks and whatever dies. And when
    nobody asks for anything else, all sizes stand still: no worker goes for another to come."""
    declared = rules(("gateway", "workers", 12), ("group:sea", "workers", 7), ("user", "clusters", 3), waits=waits)
    random = Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        async with rigged(Path(folder), rules=declared) as rig:
            history = History(rig, random, declared)
            for _ in range(40):
                await history.step()
                history.check()
            for _ in range(3):
                await history.rest()
                history.check()
            before = {name: cluster.groups for name, cluster in rig.tables.clusters.items()}
            await history.rest()
            after = {name: cluster.groups for name, cluster in rig.tables.clusters.items()}
            assert {n: [(g.wanted, g.launched) for g in groups] for n, groups in after.items()} == {
                n: [(g.wanted, g.launched) for g in groups] for n, groups in before.items()
            }
            assert not any(load_waits(c) and c.waiting is None for c in rig.tables.clusters.values()), "it says why"
