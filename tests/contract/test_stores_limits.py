"""What every store promises of limits: what is held is counted with the record, and no limit is exceeded by one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from tests.contract.store_samples import NOW, Database, make_cluster, make_credentials, overwrite, workers
from tidegate.model import sizing
from tidegate.model.admission import Admission, admit_new
from tidegate.model.amounts import Amounts, Resource
from tidegate.model.choice import MOST, MOST_MEMORY
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Target, WorkerGroup, WorkerState
from tidegate.model.errors import Conflict, LimitReached
from tidegate.model.event import Event
from tidegate.model.limits import GATEWAY, Ledger, Rule, Rules, Scope, ScopeKind, Subject, holding_of
from tidegate.model.principal import Principal
from tidegate.model.sizing import LARGEST_LIMIT
from tidegate.store.base import NotAdmitted, Store

ALICE = Scope(ScopeKind.USER, "alice")
STUDENTS = Scope(ScopeKind.GROUP, "students")
SPEC = ClusterSpec(worker_cores=2, worker_memory=2**30, max_workers=1000)


def rules(**amounts: float) -> Rules:
    """Return rules, by subject and resource: ``user_cores=20``, ``group_students_workers=5``."""
    made = []
    for words, amount in amounts.items():
        *subject, resource = words.split("_")
        made.append(Rule(Subject.parse(":".join(subject)), Resource(resource), amount))
    return Rules(made)


async def insert(store: Store, number: int, declared: Rules, **values: object) -> Cluster:
    """Ask for a new cluster."""

    def decide(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
        return admit_new(cluster, ledger)[0], ()

    cluster = make_cluster(number, **{"spec": SPEC, **values})
    return await store.insert(cluster, make_credentials(str(number)), [], admission=Admission(declared, decide))


async def scale(store: Store, name: str, count: int, declared: Rules) -> Cluster:
    """Ask for so many workers."""

    def decide(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
        return sizing.scale(cluster, "default", count, Principal(cluster.owner), ledger).cluster, ()

    scaled = await store.admit(name, Admission(declared, decide))
    assert scaled is not None
    return scaled


async def held(store: Store, scope: Scope) -> Amounts:
    """Return what a scope holds."""
    return (await store.held([scope]))[scope]


RUNNING = {"state": ClusterState.RUNNING}


async def test_what_is_held_follows_the_record(store: Store):
    """The wanted size counts, what is being stopped too, and nothing after the end; for owner, group and gateway."""
    cluster = await insert(store, 1, Rules(), owner_groups=("physics", "students"), **RUNNING)
    other = await insert(store, 2, Rules(), owner="bob", owner_groups=("students",), **RUNNING)
    await scale(store, other.name, 1, Rules())

    cluster = await scale(store, cluster.name, 3, Rules())
    assert await held(store, ALICE) == holding_of(cluster) == Amounts(1, 3, 6, 3 * 2**30)
    assert (await held(store, STUDENTS)).workers == (await held(store, GATEWAY)).workers == 4
    assert (await held(store, Scope(ScopeKind.GROUP, "physics"))).workers == 3
    assert await store.groups_of_owners() == {"alice": {"physics", "students"}, "bob": {"students"}}

    stopping = replace(cluster, workers=workers("a", "b", state=WorkerState.STOPPING), groups=(WorkerGroup(wanted=1),))
    cluster = await store.save(stopping)
    assert (await held(store, ALICE)).workers == 2

    await store.save(replace(cluster, state=ClusterState.STOPPED, target=Target.STOPPED, stopped_at=NOW))
    assert await held(store, ALICE) == Amounts()
    assert (await held(store, STUDENTS)).workers == 1
    assert set(await store.groups_of_owners()) == {"bob"}


async def test_the_most_that_anybody_can_ask_for_can_be_counted(store: Store):
    """A million workers as large as options allow: what ten such clusters hold is added up without an error."""
    spec = ClusterSpec(worker_cores=MOST, worker_memory=MOST_MEMORY, worker_gpus=MOST, max_workers=LARGEST_LIMIT)
    for number in range(1, 11):
        await insert(store, number, Rules(), spec=spec, groups=(WorkerGroup(wanted=LARGEST_LIMIT),), **RUNNING)

    assert (await held(store, GATEWAY)).gpus == 10 * MOST * LARGEST_LIMIT
    assert (await held(store, ALICE)).memory == pytest.approx(10 * MOST_MEMORY * LARGEST_LIMIT)


async def test_a_cluster_holds_more_only_when_it_is_admitted(store: Store):
    """A plain save that would raise what is held is refused, and records nothing; one that lowers it is not."""
    cluster = await insert(store, 1, Rules(), **RUNNING)
    cluster = await scale(store, cluster.name, 2, Rules())

    with pytest.raises(NotAdmitted):
        await store.save(replace(cluster, groups=(WorkerGroup(wanted=3),)), [Event("k", "m")])
    with pytest.raises(NotAdmitted):
        await store.save(cluster.with_workers(*workers("a", "b", "c")))

    assert await store.load(cluster.name) == cluster
    assert await store.events() == []
    assert (await store.save(replace(cluster, groups=(WorkerGroup(wanted=1),)))).group().wanted == 1


async def test_a_refused_cluster_leaves_nothing_behind(store: Store):
    """Neither record nor events nor key: with the same key it is made as soon as there is room."""
    declared = rules(user_clusters=1)
    first = await insert(store, 1, declared)
    cluster, secrets = make_cluster(2, spec=SPEC), make_credentials("2")

    def decide(new: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
        return admit_new(new, ledger)[0], [Event("admitted", "after the others")]

    async def again() -> Cluster:
        return await store.insert(
            cluster, secrets, [Event("first", "")], key="cell", admission=Admission(declared, decide)
        )

    with pytest.raises(LimitReached):
        await again()
    assert await store.load(cluster.name) is None
    assert await store.events() == []

    await store.save(replace(first, state=ClusterState.STOPPED, target=Target.STOPPED, stopped_at=NOW))
    assert await again() == cluster
    assert [e.event.kind for e in await store.events()] == ["first", "admitted"]
    assert await again() == cluster, "the same key: it is there already, and no limit is asked"


async def test_what_decides_sees_the_others_alone(store: Store):
    """The ledger of a cluster has what is held besides it, and every limit that holds for its owner."""
    declared = rules(user_cores=20, group_students_workers=5, gateway_memory=2**40)
    one = await insert(store, 1, declared, owner_groups=("students",), **RUNNING)
    two = await insert(store, 2, declared, **RUNNING)
    await insert(
        store, 3, declared, owner="bob", owner_groups=("students",), groups=(WorkerGroup(wanted=1),), **RUNNING
    )
    await scale(store, one.name, 2, declared)
    await scale(store, two.name, 1, declared)
    seen: list[Ledger] = []

    def look(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
        seen.append(ledger)
        return cluster, ()

    await store.admit(one.name, Admission(declared, look))

    (ledger,) = seen
    assert {(str(limit.scope), limit.resource.value, limit.amount) for limit in ledger.limits} == {
        ("user:alice", "cores", 20),
        ("group:students", "workers", 5),
        ("gateway", "memory", 2**40),
    }
    assert ledger.others[ALICE] == Amounts(1, 1, 2, 2**30)
    assert ledger.others[STUDENTS] == Amounts(1, 1, 2, 2**30)
    assert ledger.others[GATEWAY] == Amounts(2, 2, 4, 2 * 2**30)
    assert await held(store, ALICE) == Amounts(2, 3, 6, 3 * 2**30)


async def test_nothing_is_written_when_nothing_changes(store: Store):
    """What is admitted and changes nothing keeps its revision; a cluster that is not there is None."""
    cluster = await insert(store, 1, Rules(), **RUNNING)

    assert await scale(store, cluster.name, 0, Rules()) == cluster
    assert await store.admit("nonsense", Admission(Rules(), lambda c, _: (c, ()))) is None
    assert (await store.admit(cluster.name, Admission(Rules(), lambda c, _: (c, [Event("k", "m")])))).revision == 1


async def test_rules_of_the_run_time(store: Store):
    """They are recorded with who said it and when, take the place of the configuration's, and can be taken away."""
    cores = Rule(Subject.parse("user"), Resource.CORES, 4, "root", NOW)
    unlimited = Rule(Subject.parse("each:students"), Resource.MEMORY, math.inf, "root", NOW)
    await store.set_rule(replace(cores, amount=400))
    for rule in (cores, unlimited):
        await store.set_rule(rule)
    assert await store.rules() == [unlimited, cores]

    declared = rules(user_cores=20, user_memory=2**30)
    cluster = await insert(store, 1, declared, owner_groups=("students",), **RUNNING)
    assert (await scale(store, cluster.name, 9, declared)).group().wanted == 2

    assert await store.unset_rule(cores.subject, Resource.CORES)
    assert not await store.unset_rule(cores.subject, Resource.CORES)
    assert (await scale(store, cluster.name, 9, declared)).group().wanted == 9


async def test_a_limit_that_is_lowered_takes_nothing_away(store: Store):
    """What is held stays held, less can be asked for, and more is given only when it fits."""
    cluster = await insert(store, 1, Rules(), **RUNNING)
    await scale(store, cluster.name, 8, Rules())

    lowered = rules(user_workers=5)
    assert (await scale(store, cluster.name, 20, lowered)).group().wanted == 8
    assert (await scale(store, cluster.name, 6, lowered)).group().wanted == 6
    assert (await scale(store, cluster.name, 3, lowered)).group().wanted == 3
    assert (await scale(store, cluster.name, 20, lowered)).group().wanted == 5


async def test_what_decides_sees_who_waits(store: Store):
    """At which limits, and how many clusters of the same owner; only where the rules have them wait."""
    declared = [Rule(Subject.parse("user"), Resource.CLUSTERS, 1), Rule(Subject.parse("gateway"), Resource.WORKERS, 2)]
    waits = Rules(declared, waits=True)
    one = await insert(store, 1, waits, **RUNNING)
    two, three = await insert(store, 2, waits), await insert(store, 3, waits)
    await insert(store, 4, waits, owner="bob", **RUNNING)
    await scale(store, one.name, 5, waits)
    assert (two.queued, three.queued, two.waiting.since) == (True, True, NOW)
    assert await store.load(two.name) == two
    assert await held(store, ALICE) == Amounts(1, 2, 4, 2 * 2**30)
    seen: list[Ledger] = []

    def look(cluster: Cluster, ledger: Ledger) -> tuple[Cluster, Sequence[Event]]:
        seen.append(ledger)
        return cluster, ()

    for rules_now, name in ((waits, two.name), (waits, one.name), (Rules(declared), two.name)):
        await store.admit(name, Admission(rules_now, look))
    assert [(ledger.blocked, ledger.line) for ledger in seen] == [
        ({"clusters user:alice"}, 1),
        ({"clusters user:alice"}, 2),
        (frozenset(), None),
    ]

    await store.save(replace(two, target=Target.STOPPED, waiting=None))
    await store.admit(one.name, Admission(waits, look))
    assert seen[-1].line == 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_thousand_at_once_exceed_no_limit_by_one(database: Database, seed: int):
    """New clusters, sizes and ends of many users at once, from two processes: all limits are reached, and hold."""
    async with database.open() as one, database.open() as other:
        await exceed_no_limit((one, other), seed)


async def exceed_no_limit(stores: Sequence[Store], seed: int) -> None:
    """Let a thousand things be asked, a hundred at a time."""
    declared = rules(
        user_clusters=4, user_cores=22, group_students_workers=30, group_staff_cores=90, gateway_memory=55 * 2**30
    )
    users = {f"user{n}": ("students",) if n % 2 else ("staff", "students") for n in range(8)}
    random, names, refused = Random(seed), [], 0

    async def act(number: int) -> None:
        nonlocal refused
        owner, store = random.choice(list(users)), random.choice(stores)
        try:
            if not names or random.random() < 0.3:
                groups = (WorkerGroup(wanted=random.randint(0, 3)),)
                values = {"owner": owner, "owner_groups": users[owner], "groups": groups, **RUNNING}
                names.append((await insert(store, number, declared, **values)).name)
            elif random.random() < 0.8:
                name = random.choice(names)
                wanted = random.randint(0, 12)
                if (await scale(store, name, wanted, declared)).group().wanted < wanted:
                    refused += 1
            else:
                name = names.pop(random.randrange(len(names)))
                ended = {"state": ClusterState.STOPPED, "target": Target.STOPPED, "stopped_at": NOW}
                await overwrite(store, replace(await store.load(name), **ended))
        except LimitReached:
            refused += 1
        except Conflict:
            return  # somebody else has ended it meanwhile

    for start in range(1, 1000, 100):
        await asyncio.gather(*(act(number) for number in range(start, start + 100)))
        await check_limits(stores[0], declared, users)
    assert refused > 50, "no limit was reached: this test showed nothing"


async def check_limits(store: Store, declared: Rules, users: dict[str, tuple[str, ...]]) -> None:
    """Count what the records hold, without the ledger, and hold it against every limit."""
    active = await store.active()
    for owner, groups in users.items():
        for limit in declared.limits_of(owner, groups):
            counted = [c for c in active if is_counted(limit.scope, c)]
            used = sum((holding_of(c) for c in counted), Amounts())
            assert used.of(limit.resource) <= limit.amount, limit
            assert used == await held(store, limit.scope)


def is_counted(scope: Scope, cluster: Cluster) -> bool:
    """Whether a cluster counts within a scope."""
    match scope.kind:
        case ScopeKind.USER:
            return cluster.owner == scope.name
        case ScopeKind.GROUP:
            return scope.name in cluster.owner_groups
        case _:
            return True
