"""Watching budgets: what is spent is refused, noted in the record and told, and a restart forgets nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import NOW, Gateway, gateway_in_process
from tidegate.control.budgets import INTERVAL, BudgetWatch
from tidegate.control.bus import Bus
from tidegate.control.records import Records
from tidegate.model.budgets import Budget, Budgets, Measure
from tidegate.model.cluster import Cluster
from tidegate.model.errors import Busy, LimitReached
from tidegate.model.limits import Subject
from tidegate.model.principal import Principal

HOUR, DAY = 3600.0, 86400.0
BUDGETS = Budgets(
    [
        Budget(Subject.parse("user"), Measure.CORE_HOURS, 10, 30),
        Budget(Subject.parse("group:ice"), Measure.CORE_HOURS, 15, 30),
    ],
    grace=HOUR,
)
URL = "/api/v2/clusters"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with these budgets."""
    async with gateway_in_process(tmp_path, budgets=BUDGETS) as gateway:
        yield gateway


def watch_of(gateway: Gateway) -> BudgetWatch:
    """Return who watches there."""
    return BudgetWatch(BUDGETS, gateway.records, gateway.clock)


async def work(gateway: Gateway, user: str, hours: float, *groups: str) -> str:
    """Let a worker of four cores run for so many hours, and return the name of its cluster, which goes on."""
    made = await gateway.services.clusters.create(Principal(user, frozenset(groups)), {"worker_cores": 4})
    await gateway.become_running(made.name, workers=1)
    gateway.clock.now += hours * HOUR
    return made.name


async def test_who_has_spent_their_budget_gets_nothing_new(gateway: Gateway) -> None:
    """No cluster and no worker, with the budget and what is used of it; others do."""
    name, watch = await work(gateway, "alice", 2), watch_of(gateway)
    await watch.look()
    alice = gateway.client("alice")
    assert (await alice.patch(f"{URL}/{name}", json={"workers": 2})).json()["note"] is None
    await gateway.become_running(name, workers=2)
    gateway.clock.now += HOUR

    await watch.look()
    refused = await alice.post(URL, json={})
    assert refused.status_code == 409
    words = "the budget is spent: 10 core-hours in 30 days for each user, of which 16.0 are used"
    assert words in refused.json()["error"]["message"]
    scaled = (await alice.patch(f"{URL}/{name}", json={"workers": 5})).json()
    assert scaled["workers"]["wanted"] == 2
    assert words in scaled["note"]
    assert (await alice.patch(f"{URL}/{name}", json={"workers": 1})).json()["workers"]["wanted"] == 1
    assert (await gateway.client("mallory").post(URL, json={})).status_code == 201


async def test_it_is_noted_once_in_what_runs(gateway: Gateway) -> None:
    """With the time of the first look: neither another look nor a restart gives a new time of grace."""
    name = await work(gateway, "alice", 3)
    await watch_of(gateway).look()
    noted = await gateway.store.load(name)
    gateway.clock.now += 60
    await watch_of(gateway).look()

    assert (noted.activity.spent_since, noted.activity.spent_grace) == (gateway.clock.now - 60, HOUR)
    assert noted.activity.spent_why == "10 core-hours in 30 days for each user"
    assert await gateway.store.load(name) == noted
    ending = (await gateway.client("alice").get(f"{URL}/{name}")).json()["ending"]
    assert (ending["code"], ending["at"]) == ("budget", noted.activity.spent_since + HOUR)


async def test_what_rolls_out_of_the_window_no_longer_counts(gateway: Gateway) -> None:
    """When the first of thirty days is over, there is something left again, and what was to end goes on."""
    name = await work(gateway, "alice", 3)
    idle = await gateway.store.load(name)
    await gateway.change(name, workers=(), groups=tuple(replace(group, wanted=0) for group in idle.groups))
    await watch_of(gateway).look()
    gateway.clock.now += 28 * DAY
    await watch_of(gateway).look()
    assert (await gateway.store.load(name)).activity.spent_since is not None

    gateway.clock.now += DAY
    await watch_of(gateway).look()
    assert (await gateway.store.load(name)).activity.spent_since is None
    assert (await gateway.client("alice").post(URL, json={})).status_code == 201


async def test_a_group_spends_its_budget_together(gateway: Gateway) -> None:
    """Whoever makes a cluster as its member counts for it, also in what they are told."""
    await work(gateway, "alice", 2, "ice")
    await work(gateway, "bob", 2, "ice")
    await watch_of(gateway).look()
    clusters = gateway.services.clusters

    with pytest.raises(LimitReached, match=r"for the group ice together, of which 24\.0 are used"):
        await clusters.create(Principal("carol", frozenset({"ice"})), {})
    assert await clusters.create(Principal("carol"), {})


async def test_users_read_how_their_budgets_stand(gateway: Gateway) -> None:
    """Up to this moment, beside what they have used; in the console too."""
    await work(gateway, "alice", 1.5)
    (budget,) = (await gateway.client("alice").get("/api/v2/usage?by=")).json()["budgets"]
    assert (budget["scope"], budget["measure"], budget["amount"], budget["used"]) == (
        "user:alice", "core_hours", 10, 6,
    )  # fmt: skip
    assert budget["words"] in (await gateway.browser("alice").get("/usage")).text


async def test_who_has_nothing_left_reads_when_some_is_left_again(gateway: Gateway) -> None:
    """By what was used on each day; to stop something would not help them, and it is not said."""
    name = await work(gateway, "alice", 2)
    await gateway.change(name, workers=())
    gateway.clock.now += 3 * DAY
    await gateway.become_running(name, workers=1)
    gateway.clock.now += HOUR
    await watch_of(gateway).look()

    first = date.fromtimestamp(NOW)
    refused = (await gateway.client("alice").post(URL, json={})).json()["error"]["message"]
    assert f"some is left again on {first + timedelta(days=30)} (UTC)" in refused
    assert "Stop what" not in refused
    assert "administrator" in refused


async def test_a_cluster_that_cannot_be_changed_holds_up_no_other(gateway: Gateway) -> None:
    """A look goes on behind one that others change all the time."""
    made = [await work(gateway, "alice", 3) for _ in range(3)]

    class Busily(Records):
        async def change(self, name: str, alter: Any) -> Cluster | None:
            if name == made[0]:
                raise Busy("cannot change it now")
            return await super().change(name, alter)

    await BudgetWatch(BUDGETS, Busily(gateway.store, Bus()), gateway.clock).look()
    assert [(await gateway.store.load(n)).activity.spent_since is None for n in made] == [True, False, False]


async def test_asking_how_budgets_stand_does_not_add_everything_up_each_time(gateway: Gateway) -> None:
    """What the last look saw is told for as long as looks are apart; a look reads each record once."""
    await work(gateway, "alice", 1)
    watch, asked = watch_of(gateway), []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            return getattr(gateway.store, name)

    watch._records = Records(Counting(), Bus())  # type: ignore[arg-type]
    await watch.look()
    assert sorted(asked) == ["active", "usage", "usage"]
    asked.clear()
    gateway.clock.now += INTERVAL
    assert [one.used for one in await watch.standings("alice", ())] == [4]
    assert asked == []
    gateway.clock.now += 1
    assert (await watch.standings("alice", ()))[0].used > 4
    assert asked == ["usage", "usage"]
