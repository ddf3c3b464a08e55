"""What every store promises of its books: that they balance, to the second, whatever happens in between."""

from __future__ import annotations

import secrets
from collections import defaultdict
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.contract.store_samples import Database, make_cluster, make_credentials
from tidegate.model.cluster import Cluster, ClusterSpec, ClusterState, Target, Worker, WorkerGroup, WorkerState
from tidegate.model.prices import Prices
from tidegate.model.usage import DAY_SECONDS, Dimension, Query
from tidegate.store.base import Store

MONDAY = 20_000
MORNING = float(MONDAY * DAY_SECONDS) + 8 * 3600
SPEC = ClusterSpec(worker_cores=2, worker_memory=2**30)
BY_CLUSTER_AND_DAY = frozenset({Dimension.CLUSTER, Dimension.DAY})
ALL_DAYS = Query(0, 10**6, BY_CLUSTER_AND_DAY)


@dataclass
class Clock:
    """Time that moves when it is told to."""

    now: float = MORNING

    def __call__(self) -> float:
        """Return the time."""
        return self.now


async def start(store: Store, number: int = 1, **values: object) -> Cluster:
    """Record a cluster that may have some workers, and let it run."""
    made = make_cluster(number, **{"spec": SPEC, "groups": (WorkerGroup(wanted=20),), **values})
    cluster = await store.insert(made, make_credentials(made.name), [])
    return await store.save(replace(cluster, state=ClusterState.RUNNING, started_at=1.0))


async def set_workers(store: Store, cluster: Cluster, count: int) -> Cluster:
    """Let so many workers run."""
    crew = tuple(Worker(f"default-{n}", state=WorkerState.RUNNING, started_at=1.0) for n in range(count))
    return await store.save(replace(cluster, workers=crew))


async def stop(store: Store, cluster: Cluster) -> Cluster:
    """Let it end."""
    ended = tuple(replace(worker, state=WorkerState.ENDED) for worker in cluster.workers)
    over = replace(cluster, state=ClusterState.STOPPED, target=Target.STOPPED, stopped_at=MORNING)
    return await store.save(replace(over, workers=ended))


async def test_what_ran_is_in_the_books(database: Database):
    """For as long as it ran: cores, memory, what it cost, and of whom."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        cluster = await start(store, alias="training", owner_groups=("ice",), prices=Prices(core_hour=0.5))
        cluster = await set_workers(store, cluster, 3)
        clock.now += 7200
        await set_workers(store, cluster, 0)
        clock.now += 7200
        books = await store.usage(replace(ALL_DAYS, by=BY_CLUSTER_AND_DAY | {Dimension.GROUP}))

    (line,) = books.lines
    assert (line.day, line.user, line.group, line.cluster) == (MONDAY, "alice", "ice", cluster.name)
    assert (line.use.core_seconds, line.use.gib_seconds, line.use.gpu_seconds) == (6 * 7200, 3 * 7200, 0)
    assert line.use.cost == pytest.approx(6)
    assert (line.alias, books.total) == ("training", line.use)


async def test_what_runs_now_is_added(database: Database):
    """Up to the moment in which one asks, by whatever process, without anything being written."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        cluster = await set_workers(store, await start(store), 1)
        clock.now += 16 * 3600 + 60
    async with database.open(clock=clock) as store:
        books = await store.usage(ALL_DAYS)
        assert await store.load(cluster.name) == cluster

    assert [(line.day, line.use.core_seconds) for line in books.lines] == [
        (MONDAY, 2 * 16 * 3600),
        (MONDAY + 1, 2 * 60),
    ]


async def test_a_change_of_something_else_books_nothing(database: Database):
    """The same workers go on: what they used is added up once, whatever is written meanwhile."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        cluster = await set_workers(store, await start(store), 1)
        for host in ("a", "b", "c"):
            clock.now += 10
            cluster = await store.save(replace(cluster, host=host))
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 60


async def test_a_clock_set_back_while_nobody_looked_swallows_nothing(database: Database):
    """What runs counts on from the first look, not from when the clock has caught up."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        cluster = await set_workers(store, await start(store), 1)
    clock.now -= 3600
    async with database.open(clock=clock) as store:
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 0
        clock.now += 60
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 2 * 60
        await set_workers(store, cluster, 0)
        assert (await store.usage(ALL_DAYS)).total.core_seconds == 2 * 60


async def test_the_books_are_kept_longer_than_the_clusters(database: Database):
    """Until they are pruned themselves, day by day."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        cluster = await set_workers(store, await start(store), 1)
        clock.now += DAY_SECONDS
        ended = await stop(store, cluster)
        await store.prune(clock.now + 1)
        assert await store.load(ended.name) is None
        before = await store.usage(ALL_DAYS)
        pruned = await store.prune_usage(MONDAY + 1)
        after = await store.usage(ALL_DAYS)

    assert [line.day for line in before.lines] == [MONDAY, MONDAY + 1]
    assert pruned == 1
    assert [line.day for line in after.lines] == [MONDAY + 1]


async def test_books_are_read_by_what_is_asked_for(database: Database):
    """Of a user, of a group, of a cluster, of some days: booked or not yet."""
    clock = Clock()
    async with database.open(clock=clock) as store:
        made = [
            await set_workers(store, await start(store, n, owner=owner, owner_groups=groups), 1)
            for n, owner, groups in [(1, "alice", ("ice", "staff")), (2, "bob", ("ice",)), (3, "bob", ())]
        ]
        clock.now += 50
        await set_workers(store, made[0], 0)
        await stop(store, made[1])
        clock.now += 50

        async def seconds(**chosen: object) -> float:
            return (await store.usage(replace(ALL_DAYS, by=frozenset(), **chosen))).total.core_seconds

        assert await seconds() == 2 * (50 + 50 + 100)
        assert await seconds(user="bob") == 2 * (50 + 100)
        assert await seconds(group="ice") == 2 * (50 + 50)
        assert await seconds(group="ice", user="bob") == 2 * 50
        assert await seconds(group="nobody") == await seconds(user="nobody") == 0
        assert await seconds(cluster=made[2].name) == 2 * 100
        assert await seconds(since=MONDAY + 1) == await seconds(until=MONDAY - 1) == 0
        by_group = (await store.usage(replace(ALL_DAYS, by=frozenset({Dimension.GROUP})))).lines
        assert {line.group: line.use.core_seconds for line in by_group} == {"": 200, "ice": 200, "staff": 100}


# -- random histories ------------------------------------------------------------------------------------------------

MOVES = st.one_of(
    st.tuples(st.just("workers"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("let go"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("touch"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("stop"), st.integers(0, 2), st.just(0)),
    st.tuples(st.just("restart"), st.just(0), st.just(0)),
    st.tuples(st.just("set back"), st.just(0), st.integers(1, 50)),
)


@dataclass
class Tally:
    """Counts what runs in a way of its own: every stretch of time, for every cluster, as it passes."""

    seconds: dict[tuple[str, int], float] = field(default_factory=lambda: defaultdict(float))
    running: dict[str, int] = field(default_factory=dict)

    def pass_time(self, since: float, until: float) -> None:
        """Count a stretch of time."""
        for name, workers in self.running.items():
            for day in range(int(since // DAY_SECONDS), int(until // DAY_SECONDS) + 1):
                overlap = min(until, (day + 1) * DAY_SECONDS) - max(since, day * DAY_SECONDS)
                if workers and overlap > 0:
                    self.seconds[name, day] += 2 * workers * overlap


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=set(Phase) - {Phase.explain},
)
@given(history=st.lists(st.tuples(st.integers(0, 200_000), MOVES), max_size=15))
async def test_the_books_balance(database: Database, history):
    """Three clusters through any history, over midnights and with processes that come and go: every second of every
    worker is in the books once, on its day. A clock that is set back adds nothing and takes nothing away."""
    clock, tally = Clock(), Tally()
    context = database.open(clock=clock)
    store = await context.__aenter__()
    names = [secrets.token_hex(8) for _ in range(3)]
    clusters: list[Cluster] = []
    try:
        for name in names:
            made = replace(make_cluster(spec=SPEC, groups=(WorkerGroup(wanted=20),)), name=name)
            cluster = await store.insert(made, make_credentials(name), [])
            clusters.append(await store.save(replace(cluster, state=ClusterState.RUNNING, started_at=1.0)))
        for seconds, (move, which, number) in history:
            tally.pass_time(clock.now, clock.now + seconds)
            clock.now += seconds
            cluster = clusters[which]
            if move == "restart":
                await context.__aexit__(None, None, None)
                context = database.open(clock=clock)
                store = await context.__aenter__()
            elif move == "set back":
                # Everything that runs is booked at this moment, or it would be counted in both times.
                for n, one in enumerate(clusters):
                    if not one.state.ended:
                        clusters[n] = await set_workers(store, one, 0)
                        tally.running[one.name] = 0
                clock.now -= number
            elif cluster.state.ended:
                continue
            elif move == "workers":
                clusters[which] = await set_workers(store, cluster, number)
                tally.running[cluster.name] = number
            elif move == "let go":
                crew = tuple(replace(worker, state=WorkerState.STOPPING) for worker in cluster.workers)
                clusters[which] = await store.save(replace(cluster, workers=crew))
            elif move == "touch":
                clusters[which] = await store.save(replace(cluster, host=secrets.token_hex(4)))
            else:
                clusters[which] = await stop(store, cluster)
                tally.running[cluster.name] = 0
        books = await store.usage(ALL_DAYS)
    finally:
        await context.__aexit__(None, None, None)

    booked = {(line.cluster, line.day): line.use.core_seconds for line in books.lines if line.cluster in names}
    assert booked == pytest.approx({key: seconds for key, seconds in tally.seconds.items() if seconds})
