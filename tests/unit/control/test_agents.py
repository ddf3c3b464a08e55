"""What agents say and ask: with their own token, about their own cluster."""

from __future__ import annotations

import asyncio
import time

import pytest
from cryptography import x509

from tests.support import eventually
from tests.unit.control.rig import ALICE, Rig
from tidegate.backends.simulation import ManualClock
from tidegate.control.agents import BURST, LONGEST_WAIT, REPORT_INTERVAL, Agents, ReportPace
from tidegate.model.cluster import SchedulerFacts, WorkerState
from tidegate.model.errors import Busy, Refused
from tidegate.model.principal import Principal
from tidegate.model.report import Report, Wanted
from tidegate.model.share import Right
from tidegate.wire.agent import WantedBody

REPORT = Report(SchedulerFacts(1, 40001))


def version(wanted: Wanted) -> str:
    """Return the version of a wanted state."""
    return WantedBody.from_model(wanted).version


@pytest.mark.parametrize("token", ["", "x", "token-of-another", None])
async def test_a_token_speaks_for_its_own_cluster(rig: Rig, token):
    """Not for another one, nor for none; the words are always the same."""
    mine, other = await rig.create(), await rig.create()
    token = rig.token(other) if token is None else token
    for name in (mine, "0" * 16, "\udcff"):
        with pytest.raises(Refused, match=r"^Authentication required$"):
            await rig.agents.check(name, token)
    await rig.agents.check(mine, rig.token(mine))


async def test_a_report_is_recorded_once(rig: Rig):
    """The answer is the whole wanted state; a report without news writes nothing."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 2)
    assert await rig.report(name) == Wanted(False, {"default": (2, None, None)})
    revision = rig.cluster(name).revision
    await rig.report(name)
    assert rig.cluster(name).revision == revision


async def test_a_report_wakes_the_loop_through_the_bus(rig: Rig):
    """What it changed is published."""
    name = await rig.create()
    heard: list[str] = []
    with rig.bus.subscribe(heard.append):
        await rig.report(name)
    assert heard == [name]


async def test_the_demand_of_the_load_is_wanted(rig: Rig):
    """Within the bounds, and told back in the same answer."""
    name = await rig.bring_up()
    await rig.clusters.adapt(ALICE, name, 1, 4)
    wanted = await rig.report(name, demand={"default": 9})
    assert wanted.groups["default"] == (4, 1, 4)


async def test_a_scheduler_of_an_earlier_attempt_is_told_to_exit(rig: Rig):
    """By the answer to its report, and by the wanted state."""
    name = await rig.create()
    wanted = await rig.agents.report(name, Report(SchedulerFacts(7, 40001)))
    assert wanted.exit
    assert (await rig.agents.wanted(name, 7, "", 30)).exit


async def test_the_wanted_state_comes_when_it_changes(rig: Rig):
    """At once for who has none or an old one; else as soon as it changes, and not for changes that are none."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 30)
    assert first == Wanted(False, {"default": (0, None, None)})

    waiting = asyncio.create_task(rig.agents.wanted(name, 1, version(first), 30))
    await rig.report(name, workers=frozenset({"nobody"}))
    await rig.records.change(name, lambda c: (c, [rig.tables.events[0].event]))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    await rig.clusters.scale(ALICE, name, 2)
    async with asyncio.timeout(20):
        assert (await waiting).groups["default"] == (2, None, None)


async def test_the_wanted_state_comes_when_the_time_is_over(rig: Rig):
    """The same as before, so that the agent asks again."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 0)
    assert await rig.agents.wanted(name, 1, version(first), 0.01) == first


async def test_a_stop_tells_the_agent_to_exit(rig: Rig):
    """While it waits."""
    name = await rig.bring_up()
    first = await rig.agents.wanted(name, 1, "", 0)
    waiting = asyncio.create_task(rig.agents.wanted(name, 1, version(first), 30))
    await asyncio.sleep(0)
    await rig.clusters.stop(ALICE, name)
    async with asyncio.timeout(20):
        assert (await waiting).exit


async def test_reports_that_come_at_the_same_time_all_count(rig: Rig):
    """Each is a change of the newest record."""
    name = await rig.bring_up()
    await rig.clusters.scale(ALICE, name, 3)
    await rig.turn(name)
    each = (rig.report(name, workers=frozenset({f"default-{n}"})) for n in (1, 2, 3))
    await asyncio.gather(*each)
    assert {w.state for w in rig.cluster(name).workers} == {WorkerState.RUNNING}


async def test_the_load_cannot_fill_the_history(rig: Rig):
    """An agent whose demand goes to and fro is slowed down, and what comes on top of that is refused.

    Bursts are free: ten workers that register make a few reports at once.
    """
    name = await rig.bring_up()
    await rig.clusters.adapt(ALICE, name, 1, 4)
    agents = Agents(rig.records, rig.bus, rig.clock, ReportPace(lambda: 0.0))
    toggles = [Report(SchedulerFacts(1, 40001, 40002), demand={"default": 1 + n % 2}) for n in range(1000)]

    reports = [asyncio.ensure_future(agents.report(name, report)) for report in toggles]
    began = time.monotonic()
    held = LONGEST_WAIT / REPORT_INTERVAL + 1
    await eventually(lambda: sum(report.done() for report in reports) >= len(reports) - held)

    waiting = [report for report in reports if not report.done()]
    taken = [report for report in reports if report.done() and report.exception() is None]
    # A busy machine takes its time, in which some more are taken.
    assert BURST <= len(taken) <= BURST + 1 + (time.monotonic() - began) / REPORT_INTERVAL
    assert all(isinstance(r.exception(), Busy) for r in reports if r.done() and r not in taken)
    other = await rig.bring_up()
    await asyncio.wait_for(agents.report(other, toggles[0]), 20)
    for report in waiting:
        report.cancel()


async def test_time_makes_room_for_reports():
    """Five a second, for as long as it goes on."""
    clock = ManualClock(1000.0)
    pace = ReportPace(clock)
    assert [pace.admit("one") for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)
    assert [pace.admit("one") for _ in range(2)] == pytest.approx([0.2, 0.4])
    clock.advance(0.6)
    assert [pace.admit("one") for _ in range(2)] == pytest.approx([0.0, 0.2], abs=1e-9)
    clock.advance(86400)
    assert [pace.admit("one") for _ in range(BURST)] == pytest.approx([0.0] * BURST, abs=1e-9)


async def test_a_withdrawn_certificate_is_told_at_once(rig: Rig):
    """An agent that waits hears of it as of a size, with lists that name it; without any, nothing is said."""
    name = await rig.bring_up()
    await rig.shares.give(ALICE, name, "user:bob", Right.USE)
    await rig.clusters.client_credentials(Principal("bob"), name)
    before = await rig.agents.wanted(name, 1, "", 30)
    assert (before.withdrawn, await rig.agents.revocations(name, before)) == ((), "")

    waiting = asyncio.create_task(rig.agents.wanted(name, 1, version(before), 30))
    await rig.shares.withdraw(ALICE, name, "user:bob")
    after = await asyncio.wait_for(waiting, 5)

    (leaf,) = rig.cluster(name).leaves
    assert after.withdrawn == (leaf.serial,)
    pem = await rig.agents.revocations(name, after)
    end = "-----END X509 CRL-----\n"
    lists = [x509.load_pem_x509_crl((part + end).encode()) for part in pem.split(end)[:-1]]
    assert [[revoked.serial_number for revoked in found] for found in lists] == [[int(leaf.serial, 16)], []]
