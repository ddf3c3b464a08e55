"""What was used, as the API tells it: one's own, and for administrators everybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import NOW, Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.model.cluster import ClusterState, Target, WorkerState
from tidegate.model.prices import Prices

URL = "/api/v2/usage"
HOUR = 3600.0
TODAY, YESTERDAY = "2023-11-14", "2023-11-13"
"""The day of ``NOW``, which is at 22:13:20 UTC."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that mallory administers."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=("mallory",))) as gateway:
        yield gateway


async def use(gateway: Gateway, user: str, workers: int, hours: float, **values: Any) -> str:
    """Let a cluster of a user run for so many hours, end it, and return its name."""
    cluster = await gateway.create(user, worker_cores=2)
    await gateway.change(cluster.name, prices=Prices(core_hour=0.25), **values)
    running = await gateway.become_running(cluster.name, workers=workers)
    gateway.clock.now += hours * HOUR
    ended = tuple(replace(worker, state=WorkerState.ENDED) for worker in running.workers)
    await gateway.change(cluster.name, state=ClusterState.STOPPED, target=Target.STOPPED, workers=ended)
    return cluster.name


async def ask(gateway: Gateway, who: str, /, **query: Any) -> dict[str, Any]:
    """Return what somebody reads."""
    reply = await gateway.client(who).get(URL, params=query)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


async def test_a_user_reads_what_they_have_used(gateway: Gateway) -> None:
    """Day by day, of the last thirty, with what it cost; nobody else's is among it."""
    gateway.clock.now = NOW - 24 * HOUR
    await use(gateway, "alice", 1, 1)
    await use(gateway, "alice", 3, 2)
    await use(gateway, "bob", 5, 1)

    body = await ask(gateway, "alice")

    assert (body["since"], body["until"], body["by"]) == ("2023-10-16", TODAY, ["day"])
    assert (body["user"], body["currency"]) == ("alice", "EUR")
    assert [(line["day"], line["core_seconds"]) for line in body["lines"]] == [
        # The second cluster ran over midnight: it began at 23:13:20.
        (YESTERDAY, 2 * HOUR + 6 * 2800),
        (TODAY, 6 * (2 * HOUR - 2800)),
    ]
    assert body["total"]["core_seconds"] == 14 * HOUR
    assert body["total"]["cost"] == pytest.approx(14 * 0.25)
    assert body["total"]["gib_seconds"] == 14 * HOUR


async def test_days_and_clusters_can_be_chosen(gateway: Gateway) -> None:
    """A cluster also by what its owner calls it; days without use have no line."""
    name = await use(gateway, "alice", 1, 1, alias="training")
    await use(gateway, "alice", 1, 1)

    lines = (await ask(gateway, "alice", by="cluster", cluster="training"))["lines"]
    assert [(line["cluster"], line["alias"], line["day"]) for line in lines] == [(name, "training", None)]
    assert (await ask(gateway, "alice", since=TODAY, until=TODAY))["total"]["core_seconds"] > 0
    assert (await ask(gateway, "alice", until=YESTERDAY))["lines"] == []
    assert [line["day"] for line in (await ask(gateway, "alice", by="day,cluster", cluster=name))["lines"]] == [TODAY]


async def test_an_administrator_reads_everybodys(gateway: Gateway) -> None:
    """Of all, of one user, of a group; by themselves their own."""
    await use(gateway, "alice", 1, 1, owner_groups=("ice",))
    await use(gateway, "bob", 2, 1, owner_groups=("ice", "staff"))

    assert (await ask(gateway, "mallory"))["total"]["core_seconds"] == 0
    by_user = await ask(gateway, "mallory", of="all", by="user")
    assert [(line["user"], line["core_seconds"]) for line in by_user["lines"]] == [("alice", 7200), ("bob", 14400)]
    assert (await ask(gateway, "mallory", user="bob"))["total"]["core_seconds"] == 14400
    assert (await ask(gateway, "mallory", group="ice"))["total"]["core_seconds"] == 21600
    by_group = await ask(gateway, "mallory", of="all", by="group")
    assert [(line["group"], line["core_seconds"]) for line in by_group["lines"]] == [("ice", 21600), ("staff", 14400)]
    assert by_group["total"]["core_seconds"] == 21600


@pytest.mark.parametrize(
    "query", [{"user": "bob"}, {"user": "nobody"}, {"group": "ice"}, {"of": "all"}, {"of": "all", "user": "bob"}]
)
async def test_others_use_is_for_administrators(gateway: Gateway, query: dict[str, str]) -> None:
    """Whether they exist or not."""
    await use(gateway, "bob", 1, 1, owner_groups=("ice",))
    reply = await gateway.client("alice").get(URL, params=query)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "not-allowed"


async def test_all_that_a_user_may_read_is_their_own(gateway: Gateway) -> None:
    """Somebody else's cluster is one that used nothing, as one that never was."""
    theirs = await use(gateway, "bob", 1, 1)
    assert (await ask(gateway, "alice"))["lines"] == []
    assert (await ask(gateway, "alice", cluster=theirs)) == (await ask(gateway, "alice", cluster="0" * 16))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"by": "moon"}, "by"),
        ({"since": "2023-11-15", "until": "2023-11-14"}, "since"),
        ({"since": "1990-01-01"}, "since"),
        ({"since": "yesterday"}, None),
        ({"of": "theirs"}, None),
    ],
)
async def test_what_makes_no_sense_is_refused(gateway: Gateway, query: dict[str, str], field: str | None) -> None:
    """422, with the rule."""
    reply = await gateway.client("alice").get(URL, params=query)
    assert reply.status_code == 422
    assert field in (None, reply.json()["error"]["field"])
