"""What every store promises of the audit log (``store/base.py``)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.store_samples import NOW, Database, make_cluster, make_credentials
from tidegate.model.audit import Deed, Entry, Outcome, RecordedEntry, Wanted
from tidegate.store.base import Store

STOP = Entry(
    NOW,
    Deed.CLUSTER_STOP,
    Outcome.DONE,
    principal="bob",
    actor="root",
    method="session",
    token="t1",
    cluster="c1",
    detail="Zoë's",
    address="2001:db8::7",
)
REFUSED = Entry(NOW + 1, Deed.READ, Outcome.REFUSED, "unauthenticated", principal="eve", address="192.0.2.7", times=5)
SCALE = Entry(NOW + 2, Deed.CLUSTER_SCALE, Outcome.DONE, principal="alice", method="token", cluster="c1")


async def entries(store: Store, wanted: Wanted = Wanted(), **page: int) -> list[Entry]:
    """Return what is found, without the numbers."""
    return [recorded.entry for recorded in await store.find_audit(wanted, **page)]


async def test_an_entry_comes_back_as_it_was_written(store: Store):
    """Every field of it, newest first."""
    await store.add_audit([STOP, REFUSED])
    await store.add_audit([SCALE])

    assert await entries(store) == [SCALE, REFUSED, STOP]


async def test_nothing_is_written_for_nothing(store: Store):
    """An empty list is no error."""
    await store.add_audit([])

    assert await entries(store) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(user="bob"), [STOP]),
        (Wanted(user="root"), [STOP]),
        (Wanted(user="nobody"), []),
        (Wanted(cluster="c1"), [SCALE, STOP]),
        (Wanted(deed=Deed.READ), [REFUSED]),
        (Wanted(outcome=Outcome.DONE), [SCALE, STOP]),
        (Wanted(since=NOW + 1), [SCALE, REFUSED]),
        (Wanted(user="alice", cluster="c1", deed=Deed.CLUSTER_SCALE, outcome=Outcome.DONE, since=NOW), [SCALE]),
        (Wanted(user="alice", cluster="c2"), []),
    ],
)
async def test_what_is_wanted_is_found(store: Store, wanted: Wanted, found: list[Entry]):
    """By whom, for whom, to what, which deed, with which outcome, since when; and all of that together."""
    await store.add_audit([STOP, REFUSED, SCALE])

    assert await entries(store, wanted) == found


async def test_it_is_read_in_pages_and_followed(store: Store):
    """Backwards by ``before``, forwards by ``after``; numbers ascend and a number of 10**30 is no error."""
    many = [replace(SCALE, detail=str(n)) for n in range(7)]
    await store.add_audit(many)

    newest = await store.find_audit(Wanted(), limit=3)
    assert [r.id for r in newest] == sorted((r.id for r in newest), reverse=True)
    older = await store.find_audit(Wanted(), before=newest[-1].id, limit=3)
    assert [r.entry.detail for r in (*newest, *older)] == ["6", "5", "4", "3", "2", "1"]
    after = await store.find_audit(Wanted(), after=older[-1].id, limit=2)
    assert [r.entry.detail for r in after] == ["2", "3"]
    assert await store.find_audit(Wanted(), after=10**30) == []
    assert len(await store.find_audit(Wanted(), before=10**30)) == 7


async def test_old_entries_are_pruned_piece_by_piece(store: Store):
    """The oldest first, so many at a time; the numbers of what is gone are not given again."""
    await store.add_audit([replace(SCALE, at=NOW + n) for n in (3, 1, 2, 4)])
    newest: RecordedEntry = (await store.find_audit(Wanted(), limit=1))[0]

    assert await store.prune_audit(NOW + 4, 2) == 2
    assert [entry.at for entry in await entries(store)] == [NOW + 4, NOW + 3]
    assert await store.prune_audit(NOW + 9, 10) == 2
    assert await store.prune_audit(NOW + 9, 10) == 0

    await store.add_audit([SCALE])
    assert (await store.find_audit(Wanted()))[0].id > newest.id


async def test_what_was_done_to_a_cluster_outlives_it(store: Store):
    """Pruning the clusters leaves the log as it is."""
    cluster = await store.insert(make_cluster(), make_credentials(), [])
    await store.add_audit([replace(SCALE, cluster=cluster.name)])
    await store.save(replace(cluster, state=type(cluster.state).STOPPED, stopped_at=NOW))

    assert await store.prune(NOW + 1) == [cluster.name]

    assert len(await entries(store, Wanted(cluster=cluster.name))) == 1


async def test_a_restarted_store_has_the_log(database: Database):
    """Another process on the same database reads what this one wrote."""
    async with database.open() as store:
        await store.add_audit([STOP])

    async with database.open() as store:
        assert await entries(store) == [STOP]
