"""``GET /metrics``: who may read it, and what a monitoring system finds there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.control import figures
from tidegate.model.cluster import WorkerState
from tidegate.model.prices import Prices
from tidegate.model.principal import Principal, Scope
from tidegate.telemetry.metrics import OTHERS, Metrics

DAY = 86400.0


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that mallory administers."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=("mallory",))) as gateway:
        yield gateway


async def read(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """Return every sample, by its name and the values of its labels."""
    reply = await gateway.client("mallory").get("/metrics")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("text/plain")
    found = {}
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            found[(sample.name, *sample.labels.values())] = sample.value
    return found


async def test_what_there_is(gateway: Gateway) -> None:
    """Clusters and workers by state, and what they hold; what there is none of is told as none."""
    cluster = await gateway.create("alice", worker_cores=2)
    await gateway.become_running(cluster.name, workers=3)
    await gateway.create("bob")

    found = await read(gateway)

    assert (found["tidegate_clusters", "running"], found["tidegate_clusters", "requested"]) == (1, 1)
    assert (found["tidegate_workers", "running"], found["tidegate_workers", "stopping"]) == (3, 0)
    assert (found["tidegate_held", "workers"], found["tidegate_held", "cores"]) == (3, 6)
    assert found["tidegate_waiting_clusters", "asked"] == found["tidegate_longest_wait_seconds",] == 0
    assert found["process_resident_memory_bytes",] > 0


async def test_use_is_counted_as_it_grows(gateway: Gateway) -> None:
    """From the first reading on, to the second, over midnights; by user, and by group for every group."""
    cluster = await gateway.create("alice", worker_cores=2)
    await gateway.change(cluster.name, owner_groups=("ice", "sea"), prices=Prices(core_hour=36.0))
    running = await gateway.become_running(cluster.name, workers=3)
    gateway.clock.now += 100
    assert ("tidegate_user_core_seconds_total", "alice") not in await read(gateway)

    gateway.clock.now += 50
    found = await read(gateway)
    assert found["tidegate_user_core_seconds_total", "alice"] == 6 * 50
    assert found["tidegate_group_core_seconds_total", "ice"] == found["tidegate_group_core_seconds_total", "sea"] == 300
    assert found["tidegate_user_cost_total", "alice"] == pytest.approx(3)

    gateway.clock.now += 2 * DAY
    ended = tuple(replace(worker, state=WorkerState.ENDED) for worker in running.workers)
    await gateway.change(cluster.name, workers=ended)
    for _ in range(2):
        assert (await read(gateway))["tidegate_user_core_seconds_total", "alice"] == 6 * (50 + 2 * DAY)


async def test_a_name_that_comes_too_late_is_one_of_the_others(gateway: Gateway) -> None:
    """So there are so many series, whoever comes; and whoever was told by name goes on being."""
    sink = Metrics()
    reading = figures.Figures(gateway.store, sink, gateway.clock)
    await reading.read()
    users = [f"user{number:03}" for number in range(figures.MOST_NAMES)]
    reading._users._names.update(users[1:])
    for user in ("alice", "bob"):
        await gateway.become_running((await gateway.create(user)).name, workers=1)
    gateway.clock.now += 10

    for _ in range(2):
        text = (await reading.read()).decode()
        gateway.clock.now += 10

    told = {line.split('"')[1] for line in text.splitlines() if line.startswith("tidegate_user_core_seconds_total{")}
    assert told == {"alice", OTHERS}


async def test_what_was_asked_is_counted(gateway: Gateway) -> None:
    """Requests by route, as it is declared and not as it was asked; and by code what was not done."""
    for _ in range(3):
        assert (await gateway.client("alice").get("/api/v2/clusters/nonsense")).status_code == 404
    assert (await gateway.client("alice").post("/api/v2/clusters", json={"x": 1})).status_code == 422

    found = await read(gateway)

    assert found["tidegate_request_seconds_count", "GET", "/api/v2/clusters/{name}"] == 3
    assert (found["tidegate_errors_total", "not-found"], found["tidegate_errors_total", "invalid"]) == (3, 1)
    assert not [key for key in found if "nonsense" in "".join(key)]


async def test_a_token_of_scope_metrics_is_good_for_nothing_else(gateway: Gateway) -> None:
    """Of an administrator it reads the figures, of nobody else's anything; and no other route takes it."""
    replies = {}
    for user in ("mallory", "alice"):
        _, secret = await mint_token(gateway.store, Principal(user), "monitoring", now=0.0, scope=Scope.METRICS)
        bearer = {"authorization": f"Bearer {secret}"}
        for path in ("/metrics", "/api/v2/clusters", "/api/v1/clusters/", "/api/v2/whoami", "/clusters"):
            reply = await gateway.client(None).get(path, headers=bearer)
            replies[user, path] = reply.status_code
        reply = await gateway.client(None).post("/api/v2/tokens", headers=bearer, json={})
        replies[user, "make a token"] = reply.status_code
    assert replies.pop(("mallory", "/metrics")) == 200
    assert set(replies.values()) <= {403, 404, 409}, replies
