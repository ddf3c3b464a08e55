"""Control is killed before and after every effect, with old looks, lost reports and impatient users: it must not show.

After each run everything is allowed to go well, and then the world is held against the records: nothing runs that is
not on record, no cluster is ended or failed that should not be, the number of workers is the wanted one. At every
moment what a record calls ended has ended, and in the end the books of what was used balance, to the second.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.crash.gateway import ALICE, Gateway
from tests.crash.world import CALM, LATE, ROUGH, Chances, World
from tidegate.model import reasons
from tidegate.model.amounts import Resource
from tidegate.model.cluster import ClusterState
from tidegate.model.limits import Rule, Rules, Subject
from tidegate.model.observation import Seen

SEEDS = 400
"""Seeds in each block: one or two seconds."""


async def run_wild(seed: int, chances: Chances, *, lie: bool = False) -> Gateway:
    """Run one seed: sixty random things, then calm. Return the gateway at rest."""
    world = World(seed, chances, lie=lie)
    gateway = Gateway(world)
    await gateway.insert("a")
    for _ in range(60):
        world.step()
        await do_something(gateway, "a")
    await gateway.converge(sweep=world.has_late_comers)
    gateway.check()
    await gateway.check_books()
    return gateway


async def do_something(gateway: Gateway, name: str) -> None:
    """Let one thing happen to a cluster; most often what the loop and the agent do by themselves."""
    choice = gateway.world.random.random()
    if choice < 0.5:
        await gateway.reconcile(name)
    elif choice < 0.75:
        await gateway.report(name)
    elif choice < 0.8:
        await gateway.do(gateway.clients.look())
    elif choice < 0.95:
        await gateway.request(name)
    elif choice < 0.98:
        await gateway.do(gateway.reconciler.look_around())
    else:
        await gateway.do(gateway.reconciler.resume())


@pytest.mark.parametrize("block", range(4))
async def test_no_crash_leaves_a_trace(block: int):
    """Killed at random places, again and again: no orphan, no false end, the wanted number of workers."""
    deaths, states, codes = 0, set(), set()
    for seed in range(SEEDS * block, SEEDS * (block + 1)):
        gateway = await run_wild(seed, ROUGH)
        deaths += gateway.deaths
        states |= {c.state for c in gateway.tables.clusters.values()}
        codes |= {c.reason.code for c in gateway.tables.clusters.values() if c.reason is not None}
    # That the test tests something: control died often, and the clusters came to every end there is.
    assert deaths > SEEDS
    assert states == {ClusterState.RUNNING, ClusterState.STOPPED, ClusterState.FAILED}
    assert {reasons.IDLE, reasons.NO_CLIENT} <= codes


MOST = 8
"""Workers of all clusters together; each alone may have six."""


@pytest.mark.parametrize("waits", [False, True])
async def test_no_crash_exceeds_a_limit(waits: bool):
    """Whatever dies when, and is seen late: at no moment do more workers run than the limit allows, and it binds."""
    rules = Rules([Rule(Subject.parse("user"), Resource.WORKERS, MOST)], waits=waits)
    most = 0
    for seed in range(SEEDS // 2):
        world = World(seed, replace(ROUGH, clients_change=0.0))  # whoever comes and goes is no matter here
        gateway = Gateway(world, rules)
        for name in ("a", "b"):
            await gateway.insert(name)
        for number in range(120):
            world.step()
            await do_something(gateway, "ab"[number % 2])
            running = sum(len(set(world.alive(name)) - {"scheduler"}) for name in ("a", "b"))
            assert running <= MOST, f"seed {seed}: {running} workers run"
            most = max(most, running)
    assert most == MOST


@pytest.mark.parametrize("block", range(3))
async def test_what_arrives_after_the_death_of_its_caller_is_swept(block: int):
    """A launch that was on its way when control died may arrive when its cluster is long gone: it ends all the same."""
    deaths = 0
    for seed in range(SEEDS * block, SEEDS * (block + 1)):
        deaths += (await run_wild(seed, LATE)).deaths
    assert deaths > SEEDS


async def live_a_life(gateway: Gateway) -> None:
    """Create a cluster, scale it up and down by hand and by the load, lose a worker, and stop it."""
    await gateway.insert("a")
    await go_on(gateway)
    await gateway.do(gateway.clusters.scale(ALICE, "a", 3))
    await go_on(gateway)
    await gateway.do(gateway.clusters.scale(ALICE, "a", 1))
    await go_on(gateway)
    gateway.world.kill_a_worker("a")
    await go_on(gateway)
    gateway.world.set_load("a", 4)
    await gateway.do(gateway.clusters.adapt(ALICE, "a", 0, 5))
    await go_on(gateway)
    await gateway.stop("a")
    await go_on(gateway)


async def go_on(gateway: Gateway) -> None:
    """Let the loop and the agent work for a while."""
    for _ in range(6):
        gateway.world.step()
        gateway.world.pass_time(1.0)
        await gateway.report("a")
        await gateway.reconcile("a")


async def test_control_may_die_before_and_after_every_single_effect():
    """Of one whole life, each effect is once the last thing that control does, and once the thing that it dies of."""
    untouched = Gateway(World("life", CALM))
    await live_a_life(untouched)
    untouched.check()
    assert untouched.tables.clusters["a"].state is ClusterState.STOPPED
    effects = untouched.world.effects
    assert effects > 25

    for number in range(1, effects + 1):
        for when in ("before", "after"):
            world = World("life", CALM)
            world.crash_at = (number, when)
            gateway = Gateway(world)
            await live_a_life(gateway)
            await gateway.stop("a")
            await gateway.converge(sweep=False)
            gateway.check()
            assert await gateway.check_books() > 0
            assert gateway.deaths == 1, f"nothing died {when} effect {number}"


async def rest_to_the_end(gateway: Gateway, *, has_clients: bool) -> None:
    """Create a cluster, use it for a while, and leave it: with its clients, or without."""
    await gateway.insert("a")
    await go_on(gateway)
    gateway.world.places["a"].clients = 1
    for _ in range(2):
        await gateway.do(gateway.clients.look())
        await go_on(gateway)
    gateway.world.rest("a")
    if not has_clients:
        gateway.world.leave("a")
    for _ in range(6):
        await gateway.do(gateway.clients.look())
        await go_on(gateway)


@pytest.mark.parametrize(("has_clients", "code"), [(True, reasons.IDLE), (False, reasons.NO_CLIENT)])
async def test_an_unused_cluster_ends_wherever_control_dies(has_clients: bool, code: str):
    """Announced, asked, ended: whatever effect control dies at, it ends all the same, and for the same reason."""
    untouched = Gateway(World("rest", CALM))
    await rest_to_the_end(untouched, has_clients=has_clients)
    assert untouched.tables.clusters["a"].reason.code == code
    effects = untouched.world.effects

    for number in range(1, effects + 1):
        for when in ("before", "after"):
            world = World("rest", CALM)
            world.crash_at = (number, when)
            gateway = Gateway(world)
            await rest_to_the_end(gateway, has_clients=has_clients)
            await gateway.converge(sweep=False)
            gateway.check()
            assert gateway.tables.clusters["a"].state is ClusterState.STOPPED
            assert gateway.tables.clusters["a"].reason.code == code, f"died {when} effect {number}"


async def test_without_the_rule_about_old_looks_clusters_are_lost():
    """The suite bites: when old looks pass for new ones, which is what that rule forbids, runs go wrong."""
    wrong = 0
    for seed in range(200):
        try:
            await run_wild(seed, ROUGH, lie=True)
        except AssertionError:
            wrong += 1
    assert wrong > 50


async def test_a_stop_after_a_lost_record_is_not_fooled_by_a_look_from_before_the_launch():
    """The launch happened, its record did not; a look from before the launch must not make the cluster STOPPED."""
    world = World("lost", CALM)
    gateway = Gateway(world)
    await gateway.insert("a")
    world.pass_time(1.0)
    from_before = Seen(at=world.now)
    world.crash_at = (1, "after")
    await gateway.reconcile("a")
    assert world.alive("a") == ["scheduler"]
    assert gateway.tables.clusters["a"].state is ClusterState.REQUESTED

    world.crash_at = (4, "after")
    await gateway.stop("a")
    await gateway.reconcile("a")
    world.answer_once(from_before)
    await gateway.reconcile("a")

    assert gateway.tables.clusters["a"].state is ClusterState.STOPPING
    await gateway.converge(sweep=False)
    gateway.check()
