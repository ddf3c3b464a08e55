"""The clusters in memory: always as the store has them, and read from it only when something changed."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract import store_writer
from tests.contract.store_samples import NOW, make_cluster, make_credentials, workers
from tests.memory_store import MemoryStore, Tables
from tidegate.control.catalogue import Catalogue, Entry, Whose
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.principal import Principal
from tidegate.model.share import Grantee, Right, Share
from tidegate.store.base import Changes
from tidegate.store.sql import SqlStore

ALICE = Principal("alice")
BOB = Principal("bob", frozenset({"physics"}))
ROOT = Principal("root", admin=True)
ENDED = frozenset(state for state in ClusterState if state.ended)
ACTIVE = frozenset(ClusterState) - ENDED


class WatchedStore(MemoryStore):
    """Counts what is read from it, and can hold a reader up."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables, lambda: NOW)
        self.reads: list[str] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def snapshot(self, ended: int) -> Changes:
        """Count."""
        self.reads.append("snapshot")
        await self.go_on.wait()
        return await super().snapshot(ended)

    async def changed_since(self, change: int) -> Changes:
        """Count."""
        self.reads.append("changes")
        await self.go_on.wait()
        return await super().changed_since(change)

    async def find(self, **query: object) -> list[Cluster]:  # type: ignore[override]
        """Count, where it is not the store's own."""
        self.reads.append("find")
        return await super().find(**query)  # type: ignore[arg-type]


@pytest.fixture
def store() -> WatchedStore:
    """An empty store."""
    return WatchedStore(Tables())


async def add(store: MemoryStore, *numbers: int, **values: object) -> list[Cluster]:
    """Record clusters, the higher number the newer."""
    return [await store.insert(make_cluster(n, **values), make_credentials(str(n)), []) for n in numbers]


async def end(store: MemoryStore, cluster: Cluster, at: float = NOW) -> Cluster:
    """Let a cluster end."""
    return await store.save(replace(cluster, state=ClusterState.STOPPED, stopped_at=at))


def numbers(entries: list[Entry]) -> list[int]:
    """Return the numbers of the clusters."""
    return [int(entry.cluster.name, 16) for entry in entries]


async def test_nothing_is_read_while_nothing_changes(store: WatchedStore) -> None:
    """The first question loads all, a hundred more load nothing, and the same cluster is the same entry."""
    await add(store, 1, 2)
    catalogue = Catalogue(store)

    found = [await catalogue.find(ALICE) for _ in range(100)]

    assert numbers(found[0]) == [2, 1]
    assert all(page[0] is found[0][0] for page in found)
    assert await catalogue.get(found[0][0].cluster.name) is found[0][0]
    assert store.reads.count("snapshot") == 1
    assert "changes" not in store.reads


async def test_every_change_is_in_the_next_answer(store: WatchedStore) -> None:
    """Created, changed, ended, by this process or another on the same tables: one asks, and it is so."""
    catalogue, other = Catalogue(store), MemoryStore(store.tables, lambda: NOW)
    assert await catalogue.find(ALICE) == []

    (first,) = await add(other, 1)
    assert numbers(await catalogue.find(ALICE)) == [1]

    saved = await store.save(replace(first, host="node1"))
    entry = await catalogue.get(first.name)
    assert entry is not None
    assert entry.cluster == saved

    ended = await end(other, saved)
    assert await catalogue.find(ALICE, states=ACTIVE) == []
    assert [e.cluster for e in await catalogue.find(ALICE, states=ENDED)] == [ended]


async def test_what_was_made_of_a_cluster_is_made_once_for_each_revision(store: WatchedStore) -> None:
    """A reply is composed anew after a change, and only then."""
    (cluster,) = await add(store, 1)
    catalogue, calls = Catalogue(store), []

    def make(cluster: Cluster) -> bytes:
        calls.append(cluster.revision)
        return b"%d" % cluster.revision

    for _ in range(3):
        assert [e.made(make) for e in await catalogue.find(ALICE)] == [b"0"]
    await store.save(cluster)

    assert [e.made(make) for e in await catalogue.find(ALICE)] == [b"1"]
    assert calls == [0, 1]


async def test_lists_hold_ones_own_newest_first_and_page_on(store: WatchedStore) -> None:
    """By owner, by state, after a place, up to a limit."""
    mine = await add(store, 1, 2, 3, 4, 5)
    await add(store, 6, owner="mallory")
    await end(store, mine[2])
    catalogue = Catalogue(store)

    page = await catalogue.find(ALICE, limit=2)

    assert numbers(page) == [5, 4]
    assert numbers(await catalogue.find(ALICE, before=page[-1].place, limit=2)) == [3, 2]
    assert numbers(await catalogue.find(ALICE, before=page[-1].place)) == [3, 2, 1]
    assert numbers(await catalogue.find(ALICE, states=ACTIVE)) == [5, 4, 2, 1]
    assert numbers(await catalogue.find(ALICE, states=ENDED)) == [3]
    assert await catalogue.find(ALICE, limit=0) == []
    assert await catalogue.find(Principal("nobody")) == []


async def test_a_list_without_a_limit_is_whole(store: WatchedStore) -> None:
    """The first protocol knows no pages: what is not in its list would not exist."""
    await add(store, *range(1, 1501))

    assert len(await Catalogue(store).find(ALICE)) == 1500


async def test_a_list_is_nobodys_to_change(store: WatchedStore) -> None:
    """Whoever empties the list that they were given leaves the next one whole."""
    await add(store, 1, 2)
    catalogue = Catalogue(store)

    (await catalogue.find(ALICE)).clear()

    assert numbers(await catalogue.find(ALICE)) == [2, 1]


async def test_a_question_is_not_answered_from_a_load_that_began_before_it(store: WatchedStore) -> None:
    """What was committed before the question is in its answer, though a slower load was under way."""
    await add(store, 1)
    catalogue = Catalogue(store)
    store.go_on.clear()
    early = asyncio.create_task(catalogue.find(ALICE))
    while not store.reads:
        await asyncio.sleep(0)
    await add(store, 2)

    late = asyncio.create_task(catalogue.find(ALICE))
    store.go_on.set()

    assert numbers(await late) == [2, 1]
    assert set(numbers(await early)) >= {1}


async def test_many_questions_share_a_load(store: WatchedStore) -> None:
    """Fifty who ask after the same change cost one."""
    catalogue = Catalogue(store)
    await catalogue.find(ALICE)
    await add(store, 1)
    store.go_on.clear()

    asked = [asyncio.create_task(catalogue.find(ALICE)) for _ in range(50)]
    for _ in range(10):  # so many turns that each of them has begun
        await asyncio.sleep(0)
    store.go_on.set()

    assert all(numbers(answer) == [1] for answer in await asyncio.gather(*asked))
    assert store.reads.count("changes") == 1


async def test_pruned_history_is_gone_here_too(store: WatchedStore) -> None:
    """What another process pruned is neither listed nor found; what ended later stays."""
    old, young = await add(store, 1, 2)
    await end(store, old, NOW)
    await end(store, young, NOW + 10)
    catalogue = Catalogue(store)
    assert numbers(await catalogue.find(ALICE)) == [2, 1]

    await MemoryStore(store.tables, lambda: NOW).prune(NOW + 5)

    assert numbers(await catalogue.find(ALICE)) == [2]
    assert await catalogue.get(old.name) is None


async def test_history_beyond_what_is_held_is_read_from_the_store(store: WatchedStore) -> None:
    """With two ended clusters held, lists are whole all the same; only those that reach further back cost a query."""
    clusters = await add(store, *range(1, 9))
    for cluster in clusters[:6]:
        await end(store, cluster)
    catalogue = Catalogue(store, held=2)
    await catalogue.find(ALICE, states=ACTIVE)
    store.reads.clear()

    assert numbers(await catalogue.find(ALICE, states=ACTIVE)) == [8, 7]
    assert numbers(await catalogue.find(ALICE, limit=3)) == [8, 7, 6]
    assert store.reads == []

    assert numbers(await catalogue.find(ALICE)) == [8, 7, 6, 5, 4, 3, 2, 1]
    place = (clusters[5].created_at, clusters[5].name)
    assert numbers(await catalogue.find(ALICE, states=ENDED, before=place, limit=2)) == [5, 4]
    entry = await catalogue.get(clusters[0].name)
    assert entry is not None
    assert entry.cluster.state is ClusterState.STOPPED


async def test_history_that_grows_is_let_go_of(store: WatchedStore) -> None:
    """However many clusters end while control runs, not many more than the limit are held, and none is missing."""
    catalogue = Catalogue(store, held=3)
    for cluster in await add(store, *range(1, 21)):
        await end(store, cluster)
        assert len(await catalogue.find(ALICE)) == 20

    assert numbers(await catalogue.find(ALICE, states=ENDED)) == list(range(20, 0, -1))
    assert len(catalogue._entries) <= 2 * 3


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[SqlStore]:
    """A real database."""
    store = SqlStore(tmp_path / "data", clock=lambda: NOW)
    await store.start()
    yield store
    await store.close()


async def test_two_processes_on_one_database_see_each_others_writes(database: SqlStore, tmp_path: Path) -> None:
    """What another process says it has recorded is in the next answer here, forty times in a row."""
    cluster = await database.insert(make_cluster(workers=workers("a")), make_credentials(), [])
    catalogue = Catalogue(database)
    assert numbers(await catalogue.find(ALICE)) == [1]
    command = [sys.executable, store_writer.__file__, str(tmp_path / "data"), "", cluster.name]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        for _ in range(40):
            said = int(await asyncio.to_thread(other.stdout.readline))
            entry = await catalogue.get(cluster.name)
            assert entry is not None
            assert entry.cluster.revision >= said
        other.kill()


async def test_a_writer_elsewhere_holds_nobody_up(database: SqlStore, tmp_path: Path) -> None:
    """While another process is in the midst of writing, lists are answered as they were before."""
    await database.insert(make_cluster(), make_credentials(), [])
    catalogue = Catalogue(database)

    with closing(sqlite3.connect(tmp_path / "data" / "tidegate.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE clusters SET owner = 'mallory'")
        writer.execute("UPDATE changes SET latest = latest + 1")

        assert numbers(await catalogue.find(ALICE)) == [1]


# -- what others share -----------------------------------------------------------------------------------------------


def shares(*grantees: str) -> tuple[Share, ...]:
    """Return shares to look at for these grantees."""
    return tuple(Share(Grantee.parse(grantee), Right.VIEW, NOW, "alice") for grantee in grantees)


async def test_lists_are_of_mine_of_what_is_shared_or_of_both(store: WatchedStore):
    """By name and by group, each cluster once, newest first, by pages and states; one's own is not shared with one."""
    catalogue = Catalogue(store)
    await add(store, 1, 6, owner="alice")
    await add(store, 2, 5, owner="alice", shares=shares("user:bob", "group:physics"))
    await add(store, 3, owner="bob", shares=shares("user:bob"))
    await add(store, 4, owner="carol", shares=shares("group:physics"))
    await end(store, await store.load(make_cluster(2).name))

    async def listed(principal: Principal, whose: Whose, **query: object) -> list[int]:
        return numbers(await catalogue.find(principal, whose=whose, **query))

    assert await listed(BOB, Whose.MINE) == [3]
    assert await listed(BOB, Whose.SHARED) == [5, 4, 2]
    assert await listed(BOB, Whose.ALL) == [5, 4, 3, 2]
    assert await listed(BOB, Whose.SHARED, states=ACTIVE) == [5, 4]
    assert await listed(BOB, Whose.ALL, owner="alice") == await listed(BOB, Whose.SHARED, owner="alice") == [5, 2]
    assert await listed(BOB, Whose.ALL, owner="bob") == [3]
    page = await catalogue.find(BOB, whose=Whose.ALL, limit=2)
    assert numbers(page) == [5, 4]
    assert await listed(BOB, Whose.ALL, before=page[-1].place, limit=2) == [3, 2]
    assert await listed(Principal("bob"), Whose.SHARED) == [5, 2]
    assert await listed(Principal("mallory"), Whose.ALL) == await listed(Principal("mallory"), Whose.SHARED) == []
    assert await listed(Principal("physics"), Whose.SHARED) == []


async def test_what_is_withdrawn_is_out_of_the_list(store: WatchedStore):
    """Lists follow the shares of the record, also those of groups, and nothing is kept of grantees without any."""
    catalogue = Catalogue(store)
    (cluster,) = await add(store, 1, shares=shares("user:bob", "group:physics"))
    assert numbers(await catalogue.find(BOB, whose=Whose.SHARED)) == [1]
    cluster = await store.save(replace(cluster, shares=shares("group:physics")))
    assert numbers(await catalogue.find(BOB, whose=Whose.SHARED)) == [1]
    await store.save(replace(cluster, shares=()))
    assert await catalogue.find(BOB, whose=Whose.SHARED) == []
    assert catalogue._grantees == {}


async def test_an_administrator_lists_every_cluster_or_one_users(store: WatchedStore):
    """Also those that are not held any more; only when all are asked for."""
    catalogue = Catalogue(store, held=2)
    for number in range(1, 9):
        (cluster,) = await add(store, number, owner="alice" if number % 2 else "bob")
        await end(store, cluster)
    assert numbers(await catalogue.find(ROOT, whose=Whose.ALL)) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert numbers(await catalogue.find(ROOT, whose=Whose.ALL, owner="alice")) == [7, 5, 3, 1]
    assert numbers(await catalogue.find(ROOT, whose=Whose.ALL, limit=1)) == [8]
    assert await catalogue.find(ROOT) == await catalogue.find(ROOT, whose=Whose.SHARED) == []


async def test_a_list_of_ones_own_does_not_look_at_others(store: WatchedStore):
    """Neither at what is shared nor at the list of all."""
    catalogue = Catalogue(store)
    await add(store, 1, owner="alice", shares=shares("user:bob"))
    await add(store, 2, owner="bob")
    await catalogue.find(ALICE)
    assert catalogue._all._lists == catalogue._grantees[Grantee.parse("user:bob")]._lists == {}


async def test_what_is_made_for_some_is_not_shown_to_others(store: WatchedStore):
    """What is kept beside a cluster is kept for what it was made about."""
    catalogue = Catalogue(store)
    await add(store, 1)
    (entry,) = await catalogue.find(ALICE)
    made: list[bytes] = []

    def make(cluster: Cluster, word: bytes) -> bytes:
        made.append(word)
        return word

    assert [entry.made(make, word) for word in (b"x", b"y", b"x")] == [b"x", b"y", b"x"]
    assert made == [b"x", b"y"]


async def test_an_alias_means_the_cluster_that_has_it_or_the_latest_that_had_it(store: WatchedStore) -> None:
    """Of its owner alone; and nothing any more once all that had it are pruned."""
    catalogue = Catalogue(store)
    (first,) = await add(store, 1, alias="ice")
    first = await end(store, await store.save(replace(first, target=Target.STOPPED)))
    (second,) = await add(store, 2, alias="ice")
    await add(store, 3, alias="ice", owner="bob")

    assert await catalogue.called("alice", "ice") == second
    assert await catalogue.called("carol", "ice") is None
    second = await store.save(replace(second, target=Target.STOPPED))
    assert await catalogue.called("alice", "ice") == second
    (third,) = await add(store, 0, alias="ice")
    assert await catalogue.called("alice", "ice") == third, "it is older, and has the name now"
    third, second = await end(store, third), await end(store, second)
    assert await catalogue.called("alice", "ice") == second
    await store.prune(NOW + 1)
    assert await catalogue.called("alice", "ice") is None
