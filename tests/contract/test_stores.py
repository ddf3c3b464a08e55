"""What every store promises (``store/base.py``)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.contract.store_samples import (
    NOW,
    Database,
    clusters,
    differing_fields,
    group_tuples,
    make_cluster,
    make_credentials,
    overwrite,
    read_back,
    worker_tuples,
    workers,
    write_and_be_killed,
)
from tidegate.model import event as events
from tidegate.model.cluster import Cluster, ClusterState, Reason, Target, WorkerState
from tidegate.model.event import Event
from tidegate.model.principal import Principal, Scope
from tidegate.store.base import AlreadyExists, ClientPair, StaleRecord, Store, Token

REQUESTED = Event(events.REQUESTED, "Alice asked for a cluster", {"wanted": 2})
SCALED = Event(events.SCALED, "2 workers are wanted", {"group": "default", "wanted": 2})


# -- clusters --------------------------------------------------------------------------------------------------------


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example has a name of its own
    phases=set(Phase) - {Phase.explain},  # takes minutes, for what differing_fields says at once
)
@given(first=clusters, second=clusters, groups=group_tuples, crew=worker_tuples)
async def test_a_cluster_comes_back_as_it_was_saved(store: Store, first, second, groups, crew):
    """Whatever a cluster holds, and whatever of it changes: what is loaded equals what was recorded."""
    name = secrets.token_hex(8)
    first = replace(first, name=name, owner=name)  # whose aliases are all free
    await store.insert(first, make_credentials(name), [])
    assert differing_fields(await read_back(store, first), first) == []

    saved = await overwrite(store, replace(second, name=name))
    assert differing_fields(saved, replace(second, name=name, revision=1)) == []
    assert differing_fields(await read_back(store, saved), saved) == []

    again = await overwrite(store, replace(saved, groups=groups, workers=crew))
    assert differing_fields(await read_back(store, again), again) == []


@pytest.mark.parametrize(
    "after",
    [
        workers("a", "b", "c", "d", "e"),
        workers("b"),
        workers("c", "a", "b"),
        workers("d", "b"),
        workers("b", "a", state=WorkerState.ENDED),
        (),
    ],
    ids=["longer", "shorter", "turned", "replaced", "turned and changed", "empty"],
)
async def test_workers_keep_their_order(store: Store, after):
    """The workers of a cluster stand in the order of the record, however that was made from the last one."""
    first = await store.insert(make_cluster(workers=workers("a", "b", "c")), make_credentials(), [])

    saved = await overwrite(store, replace(first, workers=after))

    assert (await read_back(store, first)).workers == saved.workers == after


async def test_an_absent_cluster_is_none(store: Store):
    """Neither record nor credentials nor events are found of a name that never was."""
    assert await store.load("nonsense") is None
    assert await store.credentials("nonsense") is None
    assert await store.events(clusters=["nonsense"]) == []


async def test_a_name_is_given_once(store: Store):
    """A second cluster of the same name is refused, and leaves nothing behind."""
    first = await store.insert(make_cluster(), make_credentials(), [REQUESTED])

    with pytest.raises(AlreadyExists):
        await store.insert(make_cluster(owner="mallory"), make_credentials("2"), [REQUESTED])

    assert await store.load(first.name) == first
    assert len(await store.events()) == 1


async def test_a_save_over_another_revision_is_refused(store: Store):
    """Who has loaded before another's save gets StaleRecord, and nothing of theirs is recorded."""
    first = await store.insert(make_cluster(), make_credentials(), [])
    saved = await store.save(replace(first, host="node1"))

    with pytest.raises(StaleRecord):
        await store.save(replace(first, host="node2"), [SCALED])
    with pytest.raises(StaleRecord):
        await store.save(make_cluster(2))

    assert await store.load(first.name) == saved
    assert await store.events() == []


async def test_of_concurrent_changes_each_is_counted_once(database: Database):
    """A hundred increments from two processes, each tried until it is saved: the sum is right, to the event."""
    async with database.open() as one, database.open() as other:
        await one.insert(make_cluster(attempt=0), make_credentials(), [])
        stale = 0

        async def increment(store: Store, times: int) -> None:
            nonlocal stale
            while times:
                before = await store.load(make_cluster().name)
                try:
                    await store.save(replace(before, attempt=before.attempt + 1), [SCALED])
                    times -= 1
                except StaleRecord:
                    stale += 1

        await asyncio.gather(*(increment(store, 10) for store in (one, other) * 5))

        last = await one.load(make_cluster().name)
        assert (last.attempt, last.revision) == (100, 100)
        assert len(await other.events()) == 100
        assert stale > 0, "nothing ran at the same time: this test showed nothing"


async def test_of_saves_from_one_revision_one_succeeds(store: Store):
    """A hundred saves at once over the same revision: one is recorded, the others are told."""
    first = await store.insert(make_cluster(), make_credentials(), [])

    outcomes = await asyncio.gather(
        *(store.save(replace(first, host=f"node{n}"), [SCALED]) for n in range(100)), return_exceptions=True
    )

    winners = [outcome for outcome in outcomes if isinstance(outcome, Cluster)]
    assert len(winners) == 1
    assert sum(isinstance(outcome, StaleRecord) for outcome in outcomes) == 99
    assert await store.load(first.name) == winners[0]
    assert len(await store.events()) == 1


# -- idempotency keys ------------------------------------------------------------------------------------------------


async def test_a_key_makes_one_cluster(database: Database):
    """Twenty inserts at once with one key, from two processes: all are answered with the same cluster."""
    async with database.open() as one, database.open() as other:
        answers = await asyncio.gather(
            *(
                store.insert(make_cluster(n), make_credentials(str(n)), [REQUESTED], key="cell-1")
                for n, store in enumerate((one, other) * 10)
            )
        )

        assert len({cluster.name for cluster in answers}) == 1
        assert await one.find() == [answers[0]]
        assert len(await one.events()) == 1


async def test_a_repeated_insert_returns_the_cluster_as_it_is_now(store: Store):
    """The second insert with a key sees what became of the first since."""
    first = await store.insert(make_cluster(), make_credentials(), [], key="cell-1")
    saved = await store.save(replace(first, host="node1"))

    assert await store.insert(make_cluster(2), make_credentials("2"), [REQUESTED], key="cell-1") == saved
    assert await store.events() == []


async def test_a_key_belongs_to_its_owner(store: Store):
    """Two owners who happen to use one key get a cluster each."""
    await store.insert(make_cluster(1, owner="alice"), make_credentials("1"), [], key="cell-1")
    await store.insert(make_cluster(2, owner="bob"), make_credentials("2"), [], key="cell-1")

    assert [cluster.owner for cluster in await store.find()] == ["bob", "alice"]


# -- lists -----------------------------------------------------------------------------------------------------------


async def test_pages_hold_every_cluster_once(store: Store):
    """Paging by the last cluster seen yields all, newest first, also those made at the same moment."""
    for number in range(10):
        made_at = NOW + number // 3
        await store.insert(make_cluster(number, created_at=made_at), make_credentials(str(number)), [])

    seen: list[Cluster] = []
    while page := await store.find(before=(seen[-1].created_at, seen[-1].name) if seen else None, limit=4):
        seen += page

    assert [cluster.name for cluster in seen] == [make_cluster(number).name for number in reversed(range(10))]


async def test_find_chooses_by_owner_and_state(store: Store):
    """Owner and states narrow the list, separately and together; no state at all is nothing."""
    for number, (owner, state) in enumerate(
        [("alice", ClusterState.RUNNING), ("bob", ClusterState.RUNNING), ("alice", ClusterState.STOPPED)]
    ):
        await store.insert(make_cluster(number, owner=owner, state=state), make_credentials(str(number)), [])

    async def found(**choice: object) -> list[int]:
        return [int(cluster.name, 16) for cluster in await store.find(**choice)]

    assert await found() == [2, 1, 0]
    assert await found(owner="alice") == [2, 0]
    assert await found(states=[ClusterState.RUNNING]) == [1, 0]
    assert await found(owner="alice", states={ClusterState.STOPPED, ClusterState.FAILED}) == [2]
    assert await found(states=[]) == []
    assert await found(limit=0) == []
    assert [cluster.name for cluster in await store.active()] == [make_cluster(0).name, make_cluster(1).name]


async def test_a_list_holds_each_cluster_with_its_own_workers(store: Store):
    """Clusters that are loaded together do not mix their groups and workers."""
    for number in range(3):
        crew = workers(*(f"default-{n}" for n in range(number)))
        await store.insert(make_cluster(number, workers=crew), make_credentials(str(number)), [])

    assert [len(cluster.workers) for cluster in await store.find()] == [2, 1, 0]
    assert all(len(cluster.groups) == 1 for cluster in await store.find())


# -- credentials -----------------------------------------------------------------------------------------------------


async def test_credentials_come_back(store: Store):
    """The secrets of a cluster are what they were, and its agent is known by its token."""
    await store.insert(make_cluster(), make_credentials(), [])

    assert await store.credentials(make_cluster().name) == make_credentials()
    assert await store.find_by_agent_token("secret-agent_token-1") == make_cluster().name
    assert await store.find_by_agent_token("secret-agent_token-2") is None
    assert "secret" not in repr(await store.credentials(make_cluster().name))


@pytest.mark.parametrize("end", [ClusterState.STOPPED, ClusterState.FAILED])
async def test_credentials_die_with_the_cluster(store: Store, end: ClusterState):
    """With the record of the end the secrets are gone and the agent's token opens nothing; the history stays."""
    first = await store.insert(make_cluster(), make_credentials(), [REQUESTED])
    stopping = await store.save(replace(first, state=ClusterState.STOPPING, target=Target.STOPPED))
    assert await store.credentials(first.name) is not None

    reason = Reason("killed", "The scheduler was killed", log_tail="\x00 \ud83d bytes of any kind")
    ended = await store.save(replace(stopping, state=end, stopped_at=NOW, reason=reason))

    assert await store.credentials(first.name) is None
    assert await store.find_by_agent_token("secret-agent_token-1") is None
    assert await store.load(first.name) == ended
    assert len(await store.events(clusters=[first.name])) == 1


async def test_pairs_of_clients_come_back_and_die_with_the_cluster(store: Store):
    """Each under its cluster and its serial number; nothing shows them, and another cluster's end leaves them."""
    first = await store.insert(make_cluster(1), make_credentials("1"), [])
    second = await store.insert(make_cluster(2), make_credentials("2"), [])
    pair = ClientPair("certificate", "secret-key")
    await store.add_client_pair(first.name, "ab", pair)
    await store.add_client_pair(second.name, "ab", replace(pair, certificate="another"))

    assert await store.client_pair(first.name, "ab") == pair
    assert await store.client_pair(first.name, "cd") is await store.client_pair("nonsense", "ab") is None
    assert "secret" not in repr(await store.client_pair(first.name, "ab"))

    await store.save(replace(first, state=ClusterState.STOPPED, target=Target.STOPPED, stopped_at=NOW))
    assert await store.client_pair(first.name, "ab") is None
    assert await store.client_pair(second.name, "ab") is not None


# -- events ----------------------------------------------------------------------------------------------------------


async def test_events_are_resumed_where_one_left_off(store: Store):
    """Events come in order, dated and numbered; who names the last number gets the rest, and no more than asked."""
    first = await store.insert(make_cluster(), make_credentials(), [REQUESTED])
    await store.save(first, [SCALED, replace(SCALED, message="again")])

    recorded = await store.events()
    assert [record.event for record in recorded] == [REQUESTED, SCALED, replace(SCALED, message="again")]
    assert {(record.at, record.cluster, record.owner) for record in recorded} == {(NOW, first.name, "alice")}
    assert [record.id for record in recorded] == sorted({record.id for record in recorded})
    assert await store.events(after=recorded[0].id) == recorded[1:]
    assert await store.events(after=recorded[0].id, limit=1) == recorded[1:2]
    assert await store.last_event_id() == recorded[-1].id
    assert await store.events(after=10**30) == []


async def test_events_are_chosen_by_owner_and_cluster(store: Store):
    """Nobody who asks for their own events gets those of another."""
    await store.insert(make_cluster(1, owner="alice"), make_credentials("1"), [REQUESTED])
    await store.insert(make_cluster(2, owner="bob"), make_credentials("2"), [REQUESTED])

    assert [record.cluster for record in await store.events(owner="alice")] == [make_cluster(1).name]
    assert [record.owner for record in await store.events(clusters=[make_cluster(2).name])] == ["bob"]
    assert await store.events(owner="alice", clusters=[make_cluster(2).name]) == []
    both = [make_cluster(2).name, make_cluster(1).name, "nonsense"]
    assert [record.owner for record in await store.events(clusters=both)] == ["alice", "bob"]
    assert await store.events(clusters=[]) == []


async def test_the_last_events_of_a_cluster_are_read_without_the_rest(store: Store):
    """In order, only those of this cluster, and no more than asked for."""
    mine = await store.insert(make_cluster(1), make_credentials("1"), [REQUESTED])
    await store.save(mine, [replace(SCALED, message=f"size {n}") for n in range(5)])
    await store.insert(make_cluster(2), make_credentials("2"), [REQUESTED])

    last = await store.last_events(mine.name, 2)

    assert [record.event.message for record in last] == ["size 3", "size 4"]
    assert await store.last_events(mine.name, 100) == await store.events(clusters=[mine.name])
    assert await store.last_events("nonsense", 2) == []


async def test_prune_forgets_what_ended_long_ago(store: Store):
    """What ended before that time goes, with events and key; the rest stays, and no event's number is used again."""
    assert await store.last_event_id() == 0
    old = make_cluster(1, state=ClusterState.STOPPED, stopped_at=NOW - 10)
    await store.insert(make_cluster(2), make_credentials("2"), [REQUESTED])
    await store.insert(make_cluster(3, state=ClusterState.FAILED, stopped_at=NOW), make_credentials("3"), [])
    await store.insert(old, make_credentials("1"), [REQUESTED], key="cell-1")
    newest = await store.last_event_id()

    assert await store.prune(NOW - 5) == [old.name]
    assert await store.prune(NOW - 5) == []

    assert [cluster.name for cluster in await store.find()] == [make_cluster(3).name, make_cluster(2).name]
    assert [record.cluster for record in await store.events()] == [make_cluster(2).name]
    await store.insert(make_cluster(4), make_credentials("4"), [REQUESTED], key="cell-1")
    assert await store.last_event_id() > newest


# -- tokens ----------------------------------------------------------------------------------------------------------


async def test_a_token_is_found_by_its_secret_alone(store: Store):
    """A secret finds its token, with the principal as it was; anything else finds nothing."""
    principal = Principal("alice", frozenset({"lab", "users"}), admin=True, method="token")
    token = Token("t1", principal, "laptop", created_at=NOW, expires_at=NOW + 60, scope=Scope.READ_ONLY)
    await store.add_token(token, "secret-of-alice")

    assert await store.find_token("secret-of-alice") == token
    for wrong in ("", "t1", "alice", "secret-of-alic", "SECRET-OF-ALICE", "\ud800"):
        assert await store.find_token(wrong) is None


async def test_the_last_use_of_a_token_is_kept(store: Store):
    """The latest, whichever is told last; of a token that is gone nothing is."""
    await store.add_token(Token("t1", Principal("alice"), "laptop", NOW), "s1")
    for at, kept in ((NOW, NOW), (NOW + 60, NOW + 60), (NOW + 30, NOW + 60)):
        await store.note_use("t1", at)
        assert (await store.find_token("s1")).used_at == kept
    await store.note_use("gone", NOW)

    assert [token.id for token in await store.list_tokens("alice")] == ["t1"]


async def test_a_token_is_listed_and_removed(store: Store):
    """The newest of one's own tokens stands first; a removed one opens nothing; ids and secrets are given once."""
    alice, bob = Principal("alice"), Principal("bob")
    await store.add_token(Token("t1", alice, "laptop", NOW), "s1")
    await store.add_token(Token("t2", alice, "desk", NOW + 1), "s2")
    await store.add_token(Token("t3", bob, "", NOW), "s3")
    with pytest.raises(AlreadyExists):
        await store.add_token(Token("t4", bob, "", NOW), "s1")

    assert [token.id for token in await store.list_tokens("alice")] == ["t2", "t1"]
    assert await store.remove_token("t1")
    assert not await store.remove_token("t1")
    assert await store.find_token("s1") is None
    assert [token.id for token in await store.list_tokens("alice")] == ["t2"]


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_every_change_has_a_number_and_can_be_asked_for(store: Store):
    """The latest number moves on with every insert and save; what was written after a number is given, and no more."""
    beginning = await store.latest_change()
    one, two = [await store.insert(make_cluster(n), make_credentials(str(n)), []) for n in (1, 2)]
    both = await store.changed_since(beginning)

    saved = await store.save(replace(one, host="node1"))
    rest = await store.changed_since(both.latest)

    assert sorted(c.name for c in both.clusters) == [one.name, two.name]
    assert beginning < both.latest < rest.latest == await store.latest_change()
    assert list(rest.clusters) == [saved]
    assert list((await store.changed_since(rest.latest)).clusters) == []


async def test_what_changes_nothing_has_no_number(store: Store):
    """A save over a stale revision, and a request repeated with its key, leave the latest number as it was."""
    first = await store.insert(make_cluster(), make_credentials(), [], key="k")
    await store.save(first)
    before = await store.latest_change()

    with pytest.raises(StaleRecord):
        await store.save(first)
    await store.insert(make_cluster(2), make_credentials("2"), [], key="k")

    assert await store.latest_change() == before


async def test_another_store_sees_a_change_at_once(database: Database):
    """The number moves on for everyone on the same database in the moment of the commit, whoever asks and how often."""
    async with database.open() as ours, database.open() as theirs:
        cluster = await ours.insert(make_cluster(), make_credentials(), [])
        for _ in range(20):
            before = await theirs.latest_change()
            cluster = await ours.save(cluster)
            answers = await asyncio.gather(*(theirs.latest_change() for _ in range(5)))
            assert min(answers) > before
            assert list((await theirs.changed_since(before)).clusters) == [cluster]


async def test_a_snapshot_holds_what_is_active_and_the_newest_of_the_rest(store: Store):
    """However long history is: all that has not ended, and so many that have."""
    for number in range(1, 7):
        cluster = await store.insert(make_cluster(number), make_credentials(str(number)), [])
        if number % 2:
            await store.save(replace(cluster, state=ClusterState.STOPPED, stopped_at=NOW))

    snapshot = await store.snapshot(2)

    assert sorted(int(c.name, 16) for c in snapshot.clusters) == [2, 3, 4, 5, 6]
    assert snapshot.latest == await store.latest_change()


async def test_pruning_is_a_change_that_says_how_far_it_went(store: Store):
    """Who holds clusters in memory learns which are gone; where nothing is pruned, there is nothing to learn."""
    cluster = await store.insert(make_cluster(), make_credentials(), [])
    await store.save(replace(cluster, state=ClusterState.STOPPED, stopped_at=NOW + 5))
    before = await store.latest_change()

    assert await store.prune(NOW + 5) == []
    assert await store.latest_change() == before

    assert await store.prune(NOW + 6) == [cluster.name]
    changes = await store.changed_since(before)
    assert (changes.latest > before, list(changes.clusters), changes.pruned_before) == (True, [], NOW + 6)


# -- restart ---------------------------------------------------------------------------------------------------------


async def test_a_restarted_store_knows_everything(database: Database):
    """Another process on the same database sees clusters, secrets, events and tokens, and can go on with them."""
    async with database.open() as store:
        first = await store.insert(make_cluster(workers=workers("a")), make_credentials(), [REQUESTED], key="k")
        saved = await store.save(replace(first, host="node1"), [SCALED])
        await store.add_token(Token("t1", Principal("alice"), "laptop", NOW), "s1")
        history = await store.events()

    async with database.open() as store:
        assert await store.active() == [saved]
        assert asdict(await store.credentials(first.name)) == asdict(make_credentials())
        assert await store.events() == history
        assert (await store.find_token("s1")).id == "t1"
        assert await store.insert(make_cluster(2), make_credentials("2"), [], key="k") == saved
        assert (await overwrite(store, replace(saved, workers=workers("a", "b")))).revision == 2


async def test_a_killed_writer_leaves_whole_changes(database: Database):
    """After a writer is killed, what it said was recorded is there, and every change is there whole or not at all."""
    name = make_cluster().name
    async with database.open() as store:
        await store.insert(make_cluster(workers=workers("a")), make_credentials(), [])

    for saves in (1, 40, 150):
        said = await asyncio.to_thread(write_and_be_killed, database, name, saves)

        async with database.open() as store:
            cluster = await store.load(name)
            assert cluster.revision >= said
            assert cluster.changed_at == cluster.workers[0].changed_at == cluster.revision
            assert len(await store.events(limit=10_000)) == 2 * cluster.revision
