"""Cleaning up: what nobody has on record is stopped, what ended long ago is forgotten, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.control.rig import ALICE, Rig
from tidegate.model.cluster import ClusterState
from tidegate.model.errors import BackendFailed

DAY = 86400.0


async def ended(rig: Rig) -> str:
    """Return a cluster that has just ended."""
    name = await rig.bring_up()
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name, times=2)
    assert rig.cluster(name).state is ClusterState.STOPPED
    return name


async def test_orphans_are_stopped_and_what_is_on_record_is_not(rig: Rig):
    """One that nobody knows, and one that came up after its cluster had ended."""
    mine, over = await rig.bring_up(), await ended(rig)
    rig.simulation.forget(over)
    rig.simulation.launch(over, 1)
    rig.simulation.launch("nobodys", 1)
    assert await rig.sweep.stop_orphans() == {over, "nobodys"}
    assert rig.simulation.remaining() == {mine}


async def test_a_cluster_that_is_just_being_made_is_not_swept(rig: Rig):
    """It is recorded and launched after the backend was asked, and before the records are read."""
    list_clusters = rig.backend.list_clusters

    async def list_and_then_one_is_made() -> set[str]:
        found = await list_clusters()
        await rig.turn(await rig.create())
        return found | {"other"}

    rig.backend.list_clusters = list_and_then_one_is_made
    assert await rig.sweep.stop_orphans() == {"other"}
    assert len(rig.simulation.remaining()) == 1


async def test_an_orphan_that_cannot_be_stopped_keeps_no_other(rig: Rig, caplog):
    """The next one is stopped all the same, and the failure is a line in the log."""
    stop = rig.backend.stop

    async def refuse_the_first(cluster: str) -> None:
        if cluster == "first":
            raise BackendFailed("cannot stop first: it hangs")
        await stop(cluster)

    rig.backend.stop = refuse_the_first
    rig.simulation.launch("first", 1)
    rig.simulation.launch("second", 1)
    assert await rig.sweep.stop_orphans() == {"second"}
    assert rig.simulation.remaining() == {"first"}
    assert "it hangs" in caplog.text


async def test_an_engine_that_is_away_is_swept_later(rig: Rig, caplog):
    """A failure is a line in the log."""
    rig.backend.failure = BackendFailed("cannot list: away", detail="refused")
    assert await rig.sweep.stop_orphans() == set()
    assert "cannot list: away (refused)" in caplog.text


async def test_history_is_kept_for_its_time(rig: Rig):
    """After thirty days record, events and traces are gone; what ended later and what runs stays."""
    old = await ended(rig)
    rig.clock.advance(20 * DAY)
    recent, running = await ended(rig), await rig.bring_up()
    rig.clock.advance(11 * DAY)

    assert await rig.sweep.prune() == [old]

    assert set(rig.tables.clusters) == {recent, running}
    assert rig.simulation.logs(old) == {}
    assert rig.simulation.logs(recent) != {}


async def test_more_history_than_a_page_is_forgotten(rig: Rig):
    """Every trace goes before its record does, however many there are."""
    names = [await ended(rig) for _ in range(3)]
    some = rig.cluster(names[0])
    for number in range(450):
        other = replace(some, name=f"{number:016x}", created_at=some.created_at + number / 1000)
        rig.tables.clusters[other.name] = replace(other, stopped_at=other.created_at)
    rig.clock.advance(31 * DAY)
    assert len(await rig.sweep.prune()) == 453
    assert all(rig.simulation.logs(name) == {} for name in names)


async def test_dying_between_traces_and_record_forgets_neither(rig: Rig):
    """Traces go first: if they cannot go, the record stays to tell of them."""
    old = await ended(rig)
    rig.clock.advance(31 * DAY)
    forget = rig.backend.forget

    async def refuse(cluster: str) -> None:
        raise BackendFailed("cannot forget now")

    rig.backend.forget = refuse
    assert await rig.sweep.prune() == []
    assert old in rig.tables.clusters
    rig.backend.forget = forget
    assert await rig.sweep.prune() == [old]
