"""Use and names by commands and from a notebook, against a gateway that listens."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dask.config
import pytest

from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.authn.roster import Roster
from tidegate.cli.main import run
from tidegate.client.errors import GatewayValueError
from tidegate.client.gateway import Gateway as Client
from tidegate.model.cluster import ClusterState, Target, WorkerState
from tidegate.model.prices import Prices

HOUR = 3600.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that listens, which the configuration of this process names, with the token of alice, who administers
    it; she and bob have used something."""
    roster = Roster(admins=("alice",))
    async with gateway_in_process(tmp_path, roster=roster) as gateway, listening(gateway) as address:
        for user, hours in (("alice", 1), ("bob", 3)):
            cluster = await gateway.create(user, worker_cores=4)
            await gateway.change(cluster.name, prices=Prices(core_hour=0.5), alias=f"={user}")
            running = await gateway.become_running(cluster.name, workers=1)
            gateway.clock.now += hours * HOUR
            ended = tuple(replace(worker, state=WorkerState.ENDED) for worker in running.workers)
            over = {"state": ClusterState.STOPPED, "target": Target.STOPPED, "stopped_at": gateway.clock.now}
            await gateway.change(cluster.name, workers=ended, **over)
        auth = {"type": "token", "kwargs": {"token": gateway.tokens["alice"]}}
        with dask.config.set({"tidegate": {"address": address, "auth": auth}, "gateway": {}}):
            yield gateway


async def command(*arguments: str) -> int:
    """Run the command beside the gateway."""
    return await asyncio.to_thread(run, list(arguments))


async def usage(*arguments: str) -> int:
    """Run ``tidegate usage`` for the day on which the gateway stands."""
    return await command("usage", "--since", "2023-11-14", "--until", "2023-11-15", *arguments)


async def test_use_is_a_table(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one's own, with what is not zero; with several lines, what it is in all."""
    assert await usage() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["DAY", "CORE-HOURS", "GIB-HOURS", "COST", "(EUR)"]
    assert lines[1].split() == ["2023-11-14", "4.00", "2.00", "2.00"]

    assert await usage("--all", "--by", "user") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["alice", "bob"]
    assert lines[3].split() == ["in", "all", "16.00", "8.00", "8.00"]


async def test_use_is_for_spreadsheets_and_programs(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """As CSV, in which no name is a formula, and as JSON."""
    assert await usage("--by", "cluster", "--csv") == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["user"], row["alias"], row["core_hours"]) == ("alice", "'=alice", "4.0")

    assert await usage("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["since"], told["lines"][0]["day"], told["total"]["cost"]) == ("2023-11-14", "2023-11-14", 2.0)


async def test_where_nothing_was_used_that_is_said(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """With the days; a day that is none is refused in a sentence."""
    assert await command("usage", "--since", "2023-11-01", "--until", "2023-11-02") == 0
    assert "Nothing was used from 2023-11-01 to 2023-11-02" in capsys.readouterr().out
    assert await command("usage", "--since", "tomorrow") == 1
    assert "cannot understand the day 'tomorrow'" in capsys.readouterr().err


async def test_a_notebook_reads_the_same(gateway: Gateway) -> None:
    """As a sequence of lines with a total."""
    async with Client(asynchronous=True) as client:
        report = await client.usage(["day", "user"], date(2023, 11, 14), "2023-11-15", of="all")
        with pytest.raises(GatewayValueError, match="cannot tell use apart by 'moon'"):
            await client.usage("moon")

    assert [(line.day, line.user, line.core_hours) for line in report] == [
        (date(2023, 11, 14), "alice", 4.0),
        (date(2023, 11, 14), "bob", pytest.approx(4 * 2800 / 3600)),
        (date(2023, 11, 15), "bob", pytest.approx(12 - 4 * 2800 / 3600)),
    ]
    assert len(report) == 3
    assert report[0].cost == pytest.approx(2)
    assert repr(report) == "UsageReport<2023-11-14 to 2023-11-15, 16.00 core-hours, 8.00 EUR>"


async def test_a_cluster_is_made_and_found_by_a_name(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """By every command that names a cluster; its global name is printed, for scripts."""

    async def clusters(*arguments: str) -> str:
        assert await command("clusters", *arguments) == 0
        return capsys.readouterr().out

    made = ("create", "--no-wait", "--name", "training", "-l", "project=ice", "--label", "stage=")
    name = (await clusters(*made)).strip()
    shown = await clusters("show", "training")
    listed: Any = json.loads(await clusters("list", "--json"))

    assert len(name) == 16
    assert name in shown
    assert "project=ice, stage=" in shown
    assert [(one["name"], one["alias"], one["labels"]) for one in listed] == [
        (name, "training", {"project": "ice", "stage": ""})
    ]
    assert "training" in await clusters("list")
    assert "training: is being stopped" in await clusters("stop", "training")
    assert (await gateway.store.load(name)).target is Target.STOPPED


async def test_a_name_in_use_and_a_label_that_is_none_are_refused(
    gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence, with the cluster that has the name."""
    assert await command("clusters", "create", "--no-wait", "--name", "training") == 0
    name = capsys.readouterr().out.strip()
    assert await command("clusters", "create", "--no-wait", "--name", "training") == 1
    assert f"cannot call the cluster 'training': your cluster {name}" in capsys.readouterr().err
    assert await command("clusters", "create", "--no-wait", "--label", "ice") == 1
    assert "cannot read the label 'ice'" in capsys.readouterr().err


async def test_days_that_no_calendar_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the most that can be asked for, before anything is asked."""
    assert await command("usage", "--days", "99999999") == 2
    assert "3660" in capsys.readouterr().err
