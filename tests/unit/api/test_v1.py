"""The dask-gateway protocol, to the key: what the unmodified official client sends and expects."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from dask_gateway.client import ClusterReport, ClusterStatus
from dask_gateway.options import Options

from tests.contract.store_samples import make_credentials
from tests.in_process import NOW, Gateway
from tidegate.model.cluster import ClusterState, Target
from tidegate.store.sql import SqlStore

KEYS = {"name", "dashboard_route", "status", "start_time", "stop_time", "options", "tls_cert", "tls_key"}


def parse(report: dict[str, Any]) -> ClusterReport:
    """Let the official client parse a report."""
    return ClusterReport._from_json("http://public", "gateway://proxy:1", dict(report))


async def test_version_and_health_are_open(gateway: Gateway) -> None:
    """Both are asked before anybody logs in."""
    client = gateway.client()

    assert set((await client.get("/api/version")).json()) == {"version"}
    assert (await client.get("/api/health")).json() == {"status": "pass"}


async def test_the_official_client_understands_the_options(gateway: Gateway) -> None:
    """Numbers with bounds, a choice, a fixed text, a boolean: each has its widget and its default."""
    reply = await gateway.client("alice").get("/api/v1/options")

    options = Options._from_spec(reply.json()["cluster_options"])

    assert dict(options) == {
        "worker_cores": 1,
        "worker_memory": 2.0,
        "environment": "notebook",
        "queue": "long",
        "profile": False,
    }
    with pytest.raises(ValueError, match="must be <= 8"):
        options.worker_cores = 9
    with pytest.raises(ValueError, match="not a valid option"):
        options.queue = "short"


async def test_a_new_cluster_is_named_and_pending(gateway: Gateway) -> None:
    """201 with its name; its report has exactly the eight keys and never a null start time."""
    client = gateway.client("alice")

    created = await client.post("/api/v1/clusters/", json={"cluster_options": {"worker_cores": 2}})
    report = (await client.get(f"/api/v1/clusters/{created.json()['name']}")).json()

    assert created.status_code == 201
    assert set(report) == KEYS
    assert report["status"] == "PENDING"
    assert report["start_time"] == int(NOW * 1000)
    assert report["options"]["worker_cores"] == 2
    assert [report[key] for key in ("stop_time", "dashboard_route", "tls_cert", "tls_key")] == [None] * 4
    parsed = parse(report)
    assert (parsed.status, parsed.scheduler_address) == (ClusterStatus.PENDING, None)
    assert parsed.start_time == datetime.fromtimestamp(NOW)


@pytest.mark.parametrize("body", [{}, {"cluster_options": None}, {"cluster_options": {}}, {"cluster_options": []}])
async def test_no_options_mean_the_defaults(gateway: Gateway, body: dict[str, Any]) -> None:
    """Missing, null and empty are the same."""
    created = await gateway.client("alice").post("/api/v1/clusters/", json=body)

    assert created.status_code == 201


async def test_a_running_cluster_brings_its_credentials(gateway: Gateway) -> None:
    """The one certificate is authority and chain for the official client; the key is unencrypted."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)

    report = (await gateway.client("alice").get(f"/api/v1/clusters/{cluster.name}")).json()
    parsed = parse(report)

    assert set(report) == KEYS
    assert parsed.status is ClusterStatus.RUNNING
    assert parsed.scheduler_address == f"gateway://proxy:1/{cluster.name}"
    assert parsed.dashboard_link == f"http://public/clusters/{cluster.name}/status"
    assert report["tls_cert"].count("BEGIN CERTIFICATE") == 2
    assert parsed.security.get_connection_args("client")["require_encryption"]


async def test_a_cluster_without_a_dashboard_has_no_link(gateway: Gateway) -> None:
    """Where bokeh is missing there is nothing to link to."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name, dashboard=False)

    report = (await gateway.client("alice").get(f"/api/v1/clusters/{cluster.name}")).json()

    assert report["dashboard_route"] is None


async def test_the_list_has_the_active_ones_by_name_without_secrets(gateway: Gateway) -> None:
    """Keys are null in lists: the official client connects by reading the one cluster."""
    pending, running, failed = [(await gateway.create()).name for _ in range(3)]
    await gateway.become_running(running)
    await gateway.become_failed(failed)
    await gateway.create("mallory")

    listed = (await gateway.client("alice").get("/api/v1/clusters/")).json()

    assert set(listed) == {pending, running}
    assert all(set(report) == KEYS and report["tls_key"] is None for report in listed.values())
    assert parse(listed[running]).security is None
    assert parse(listed[running]).scheduler_address is not None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("PENDING", {"pending"}),
        ("pending,Running", {"pending", "running"}),
        ("STOPPING", {"leaving"}),
        ("FAILED,STOPPED", {"failed"}),
        ("RUNNING", {"running"}),
    ],
)
async def test_the_list_can_be_filtered(gateway: Gateway, query: str, expected: set[str]) -> None:
    """Names in any case, comma-separated; what is wanted away is stopping, whatever its record says."""
    names = {kind: (await gateway.create()).name for kind in ("pending", "running", "failed", "leaving")}
    await gateway.become_running(names["running"])
    await gateway.become_failed(names["failed"])
    await gateway.become_running(names["leaving"])
    await gateway.change(names["leaving"], target=Target.STOPPED)

    listed = (await gateway.client("alice").get(f"/api/v1/clusters/?status={query}")).json()

    assert set(listed) == {names[kind] for kind in expected}


async def test_an_unknown_status_is_refused_with_the_choice(gateway: Gateway) -> None:
    """422, which the official client shows."""
    reply = await gateway.client("alice").get("/api/v1/clusters/?status=PENDING,foo")

    assert reply.status_code == 422
    assert "'FOO'" in reply.json()["error"]
    assert "STOPPING" in reply.json()["error"]


async def test_the_slash_at_the_end_is_part_of_the_path(gateway: Gateway) -> None:
    """Without it 404, as in dask-gateway, and no redirect."""
    client = gateway.client("alice")

    assert (await client.get("/api/v1/clusters")).status_code == 404
    assert (await client.get("/api/v1/options/")).status_code == 404
    assert (await client.get("/api/v1/clusters")).json() == {"error": "There is nothing at this address"}


@pytest.mark.parametrize("query", ["?wait", "?wait=1", "?wait=7"])
async def test_waiting_for_a_failed_start_tells_the_reason(gateway: Gateway, query: str) -> None:
    """Of a report that says FAILED the official client prints fixed words, so the reason comes as an error."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)

    reply = await gateway.client("alice").get(f"/api/v1/clusters/{cluster.name}{query}")

    assert reply.status_code == 409
    error = reply.json()["error"]
    assert error.startswith(f"Cluster {cluster.name} failed to start: The scheduler ended by itself: exit code 1")
    assert "ModuleNotFoundError: no <dask>" in error
    assert "secret detail" not in error


@pytest.mark.parametrize("query", ["", "?wait=0", "?wait=no", "?wait=1e9"])
async def test_without_waiting_a_failed_cluster_is_a_report(gateway: Gateway, query: str) -> None:
    """Only ``?wait`` turns it into an error; what is no flag is no wait."""
    cluster = await gateway.create()
    await gateway.become_failed(cluster.name)

    reply = await gateway.client("alice").get(f"/api/v1/clusters/{cluster.name}{query}")

    assert reply.status_code == 200
    assert parse(reply.json()).status is ClusterStatus.FAILED
    assert parse(reply.json()).stop_time is not None


async def test_a_cluster_that_is_failing_is_told_before_it_is_gone(gateway: Gateway) -> None:
    """The reason is known while the remains are still being taken away; nobody has to wait for that."""
    cluster = await gateway.create()
    failed = await gateway.become_failed(cluster.name)
    other = await gateway.create()
    await gateway.change(other.name, state=ClusterState.STOPPING, target=Target.STOPPED, reason=failed.reason)

    reply = await gateway.client("alice").get(f"/api/v1/clusters/{other.name}?wait")

    assert reply.status_code == 409


async def test_stop_is_204_whatever_there_is(gateway: Gateway) -> None:
    """Own, again, unknown, foreign: the same empty answer, and only the own one stops."""
    own, foreign = await gateway.create(), await gateway.create("mallory")
    client = gateway.client("alice")

    replies = [await client.delete(f"/api/v1/clusters/{n}") for n in (own.name, own.name, "nonsense", foreign.name)]

    assert [(r.status_code, r.content) for r in replies] == [(204, b"")] * 4
    assert (await gateway.store.load(own.name)).target is Target.STOPPED
    assert (await gateway.store.load(foreign.name)).target is Target.RUNNING


async def test_scale_answers_ok_and_a_warning_when_clamped(gateway: Gateway) -> None:
    """Too many is not an error: as many as fit, and the words that the official client shows as a warning."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    client = gateway.client("alice")

    fits = await client.post(f"/api/v1/clusters/{cluster.name}/scale", json={"count": 3})
    clamped = await client.post(f"/api/v1/clusters/{cluster.name}/scale", json={"count": 10**9})

    assert fits.json() == {"ok": True, "msg": None}
    assert clamped.json()["ok"] is False
    assert clamped.json()["msg"].startswith(
        "Scale request of 1000000000 workers would exceed resource limit of 20 workers. Scaling to 20 instead."
    )
    assert (await gateway.store.load(cluster.name)).groups[0].wanted == 20


@pytest.mark.parametrize("count", [-1, "two", 1.5, True, None, [], {}, "3"])
async def test_scale_refuses_what_is_no_number_of_workers(gateway: Gateway, count: Any) -> None:
    """The words are dask-gateway's."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)

    reply = await gateway.client("alice").post(f"/api/v1/clusters/{cluster.name}/scale", json={"count": count})

    assert reply.status_code == 422
    assert reply.json() == {"error": f"Scale expects a non-negative integer, got {count!r}"}


async def test_adapt_sets_clears_and_clamps_the_bounds(gateway: Gateway) -> None:
    """Bounds beyond the limit are cut with a warning; ``active: false`` turns it off."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    client = gateway.client("alice")
    url = f"/api/v1/clusters/{cluster.name}/adapt"

    sets = await client.post(url, json={"minimum": 2, "maximum": 5, "active": True})
    group = (await gateway.store.load(cluster.name)).groups[0]
    clamped = await client.post(url, json={"minimum": None, "maximum": 200})
    off = await client.post(url, json={"active": False})

    assert sets.json() == {"ok": True, "msg": None}
    assert (group.adaptive.minimum, group.adaptive.maximum, group.wanted) == (2, 5, 2)
    assert clamped.json()["ok"] is False
    assert "Using `maximum=20, minimum=0` instead" in clamped.json()["msg"]
    assert off.json() == {"ok": True, "msg": None}
    assert (await gateway.store.load(cluster.name)).groups[0].adaptive is None


@pytest.mark.parametrize(
    "body",
    [
        {"minimum": 5, "maximum": 2},
        {"minimum": -1},
        {"minimum": "one"},
        {"maximum": True},
        {"active": 1},
        {"active": None},
    ],
)
async def test_adapt_refuses_bounds_that_are_none(gateway: Gateway, body: dict[str, Any]) -> None:
    """422 with a reason."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)

    reply = await gateway.client("alice").post(f"/api/v1/clusters/{cluster.name}/adapt", json=body)

    assert reply.status_code == 422
    assert reply.json()["error"].startswith("cannot adapt")


@pytest.mark.parametrize("what", ["scale", "adapt"])
async def test_what_is_not_running_has_no_size(gateway: Gateway, what: str) -> None:
    """409 in dask-gateway's words; 404 for what is not there."""
    cluster = await gateway.create()
    client = gateway.client("alice")

    pending = await client.post(f"/api/v1/clusters/{cluster.name}/{what}", json={"count": 1})
    absent = await client.post(f"/api/v1/clusters/nonsense/{what}", json={"count": 1})

    assert (pending.status_code, pending.json()) == (409, {"error": f"cluster {cluster.name} is not running"})
    assert (absent.status_code, absent.json()) == (404, {"error": "Cluster nonsense not found"})


async def test_an_unknown_option_is_named(gateway: Gateway) -> None:
    """422 with the name, and what exists."""
    reply = await gateway.client("alice").post("/api/v1/clusters/", json={"cluster_options": {"foo": 1}})

    assert reply.status_code == 422
    assert reply.json()["error"].startswith("Unknown fields ['foo']")


async def test_a_fixed_option_says_who_fixed_it(gateway: Gateway) -> None:
    """The sentence names the administrator."""
    reply = await gateway.client("alice").post("/api/v1/clusters/", json={"cluster_options": {"queue": "short"}})

    assert reply.status_code == 422
    assert "fixed at long by the administrator" in reply.json()["error"]


def test_httpx_sends_the_literal_query() -> None:
    """The official client asks with an empty ``wait``; make sure that these tests do."""
    assert str(httpx.URL("http://x/y?wait")) == "http://x/y?wait"


async def test_a_change_by_another_process_is_in_the_next_reply(gateway: Gateway, tmp_path: Path) -> None:
    """A cluster that a second store on the same database makes or ends is listed, or not, at once; so is its report."""
    client, other = gateway.client("alice"), SqlStore(tmp_path / "data", clock=gateway.clock)
    cluster = await gateway.create()
    assert list((await client.get("/api/v1/clusters/")).json()) == [cluster.name]
    await other.start()
    try:
        theirs = await other.insert(replace(cluster, name="theirs"), make_credentials("theirs"), [])
        assert set((await client.get("/api/v1/clusters/")).json()) == {cluster.name, "theirs"}

        await other.save(replace(theirs, state=ClusterState.STOPPED, target=Target.STOPPED, stopped_at=1.0))
        assert list((await client.get("/api/v1/clusters/")).json()) == [cluster.name]
        assert (await client.get("/api/v1/clusters/theirs")).json()["status"] == "STOPPED"
    finally:
        await other.close()
