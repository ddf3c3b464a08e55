"""The page of what was used: numbers, a plot, and whose it is."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.in_process import Gateway, gateway_in_process
from tests.unit.console.test_pages import text_of
from tidegate.authn.roster import Roster
from tidegate.console.chart import bar_chart
from tidegate.model.cluster import ClusterState, Target, WorkerState
from tidegate.model.prices import Prices

HOUR = 3600.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that root administers, where alice and bob have used something."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=("root",))) as gateway:
        for user, hours, groups in (("alice", 1, ("ice",)), ("bob", 3, ("ice", "staff"))):
            cluster = await gateway.create(user, worker_cores=4)
            naming = {"alias": f"{user}s-own", "owner_groups": groups, "prices": Prices(core_hour=0.5)}
            await gateway.change(cluster.name, **naming)
            running = await gateway.become_running(cluster.name, workers=1)
            gateway.clock.now += hours * HOUR
            ended = tuple(replace(worker, state=WorkerState.ENDED) for worker in running.workers)
            over = {"state": ClusterState.STOPPED, "target": Target.STOPPED, "stopped_at": gateway.clock.now}
            await gateway.change(cluster.name, workers=ended, **over)
        yield gateway


async def see(gateway: Gateway, user: str, query: str = "") -> str:
    """Return the page as a user sees it."""
    reply = await gateway.browser(user).get(f"/usage{query}")
    assert reply.status_code == 200
    return reply.text


async def test_a_user_sees_their_own_use(gateway: Gateway) -> None:
    """In all, as a plot with a bar for each day, and by cluster under the names that they gave."""
    page = await see(gateway, "alice")
    words = text_of(page)

    assert "Core-hours 4.0" in words
    assert "Cost 2.00 EUR" in words
    assert len(re.findall(r'<rect class="bar-of-day"', page)) == 30
    assert "2023-11-14: 4.00 core-hours" in words
    assert "alices-own" in words
    assert "bob" not in words
    assert "everybody" not in words


async def test_an_administrator_sees_everybodys(gateway: Gateway) -> None:
    """By user, by group, by cluster; of one user alone; and first of all their own."""
    assert "Nothing ran" in await see(gateway, "root")

    by_user = text_of(await see(gateway, "root", "?of=all"))
    assert "Core-hours 16.0" in by_user
    assert by_user.index("bob 12.0") < by_user.index("alice 4.0")
    by_group = text_of(await see(gateway, "root", "?of=all&by=group"))
    assert "ice 16.0" in by_group
    assert "staff 12.0" in by_group
    assert "bobs-own bob 12.0" in text_of(await see(gateway, "root", "?of=all&by=cluster"))
    assert "alices-own" not in text_of(await see(gateway, "root", "?of=all&user=bob"))


async def test_what_a_user_asks_beyond_their_own_is_not_asked(gateway: Gateway) -> None:
    """The page shows their own, as it does for periods that make no sense."""
    mine = await see(gateway, "alice")
    for query in ("?of=all", "?user=bob", "?of=all&by=user", "?days=1000000", "?days=x"):
        assert await see(gateway, "alice", query) == mine


async def test_it_can_be_downloaded(gateway: Gateway) -> None:
    """As a file of comma-separated values, by day and cluster, or by day and user."""
    reply = await gateway.browser("alice").get("/usage.csv?days=7")
    rows = list(csv.DictReader(io.StringIO(reply.text)))

    assert reply.headers["content-type"].startswith("text/csv")
    assert 'filename="usage-2023-11-09-2023-11-15.csv"' in reply.headers["content-disposition"]
    assert {row["alias"] for row in rows} == {"alices-own"}
    assert sum(float(row["core_hours"]) for row in rows) == pytest.approx(4)
    everybody = (await gateway.browser("root").get("/usage.csv?of=all&by=user")).text
    assert {row["user"] for row in csv.DictReader(io.StringIO(everybody))} == {"alice", "bob"}


@pytest.mark.parametrize("largest", [0, 0.004, 1, 7, 99.5, 100, 1234.5])
def test_a_bar_is_as_high_as_its_value(largest: float) -> None:
    """All within the drawing, on a scale of round numbers that ends at or above the largest."""
    chart = bar_chart([("a", 0.0), ("b", largest / 2), ("c", largest)], "h")
    none, half, whole = (bar.height for bar in chart.bars)

    assert none == 0
    assert half == pytest.approx(whole / 2, abs=0.02)
    assert all(0 <= bar.y <= chart.floor and bar.y + bar.height == pytest.approx(chart.floor) for bar in chart.bars)
    assert float(chart.scale[-1].text) >= largest
    assert 2 <= len(chart.scale) <= 7


def test_a_year_has_few_words_and_all_its_bars() -> None:
    """Words below the bars do not lie upon each other."""
    chart = bar_chart([(str(day), 1.0) for day in range(365)], "h")
    assert len(chart.bars) == 365
    assert len(chart.words) <= 8
