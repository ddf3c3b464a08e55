"""What an administrator can do to a cluster of somebody else, by both protocols."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal, Scope
from tidegate.wire.names import ON_BEHALF_HEADER


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that root administers, with a read-only token of root's too."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=["root"])) as gateway:
        for name, scope in (("root", Scope.FULL), ("reading", Scope.READ_ONLY)):
            _, gateway.tokens[name] = await mint_token(
                gateway.store, Principal("root"), name, now=gateway.clock.now, scope=scope
            )
        yield gateway


@pytest.fixture
async def name(gateway: Gateway) -> str:
    """A cluster of alice's that runs with three workers."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name, workers=3)
    return cluster.name


async def limit(gateway: Gateway, name: str, most: object, user: str = "root") -> tuple[int, dict[str, Any]]:
    """Ask for a limit."""
    reply = await gateway.client(user).patch(f"/api/v2/clusters/{name}", json={"max_workers": most})
    return reply.status_code, reply.json()


async def test_sees_and_sizes_by_version_2(gateway: Gateway, name: str) -> None:
    """The cluster, its logs, its size; alice reads who it was."""
    client = gateway.client("root")
    assert (await client.get(f"/api/v2/clusters/{name}")).json()["owner"] == "alice"
    assert (await client.get(f"/api/v2/clusters/{name}/logs")).status_code == 200
    assert (await client.patch(f"/api/v2/clusters/{name}", json={"workers": 5})).json()["workers"]["wanted"] == 5

    (event,) = await gateway.store.last_events(name, 1)
    assert (event.event.message, event.event.data["by"]) == ("5 workers are wanted (administrator root)", "root")


async def test_sizes_by_version_1(gateway: Gateway, name: str) -> None:
    """With the unmodified client's requests."""
    client = gateway.client("root")

    assert (await client.post(f"/api/v1/clusters/{name}/scale", json={"count": 4})).json()["ok"] is True
    assert (await client.post(f"/api/v1/clusters/{name}/adapt", json={"minimum": 1, "maximum": 2})).json()["ok"] is True
    assert (await gateway.store.load(name)).groups[0].adaptive is not None


async def test_is_told_by_version_1_to_act_on_behalf(gateway: Gateway, name: str) -> None:
    """Its report carries the key to connect, which the owner alone has, or who acts for them and leaves a trace."""
    path = f"/api/v1/clusters/{name}"
    refused = await gateway.client("root").get(path)
    behalf = await gateway.client("root", **{ON_BEHALF_HEADER: "alice"}).get(path)

    assert refused.status_code == 409
    assert "An administrator does that on behalf of alice" in refused.json()["error"]
    assert "PRIVATE KEY" in behalf.json()["tls_key"]


@pytest.mark.parametrize(("version", "status"), [("v1", 204), ("v2", 202)])
async def test_stops_and_the_owner_reads_who_did(gateway: Gateway, name: str, version: str, status: int) -> None:
    """In the cluster's reason, by both protocols."""
    assert (await gateway.client("root").delete(f"/api/{version}/clusters/{name}")).status_code == status

    shown = (await gateway.client("alice").get(f"/api/v2/clusters/{name}")).json()
    assert shown["reason"] == {"code": "stopped-by", "message": "Stopped by administrator root", "log_tail": ""}
    waiting = await gateway.client("alice").get(f"/api/v1/clusters/{name}?wait")
    assert waiting.json()["error"] == f"Cluster {name} was stopped: Stopped by administrator root"


async def test_limits_a_cluster(gateway: Gateway, name: str) -> None:
    """What runs goes on; what alice asks for next is cut, and she reads why, also by version 1."""
    status, shown = await limit(gateway, name, 2)

    assert status == 200
    assert (shown["max_workers"], shown["max_workers_reason"]) == (2, "set by administrator root")
    assert shown["workers"]["wanted"] == 3
    sized = await gateway.client("alice").patch(f"/api/v2/clusters/{name}", json={"workers": 3})
    assert sized.json()["workers"]["wanted"] == 2
    assert "resource limit of 2 workers" in sized.json()["note"]
    by_v1 = await gateway.client("alice").post(f"/api/v1/clusters/{name}/scale", json={"count": 9})
    assert by_v1.json()["msg"].endswith("(set by administrator root)")


async def test_raises_a_limit(gateway: Gateway, name: str) -> None:
    """Beyond what the gateway gives by itself, too: the administrator knows their machines."""
    assert (await limit(gateway, name, 50))[1]["max_workers"] == 50


@pytest.mark.parametrize("user", ["alice", "reading"])
async def test_others_limit_nothing(gateway: Gateway, name: str, user: str) -> None:
    """Neither the owner nor an administrator's read-only token."""
    status, reply = await limit(gateway, name, 50, user)

    assert status == 403
    assert ("read-only" if user == "reading" else "only an administrator") in reply["error"]["message"]
    assert (await gateway.store.load(name)).spec.max_workers == 20


@pytest.mark.parametrize("most", [-1, 1.5, "4", None, True, 10**9])
async def test_a_limit_is_a_number(gateway: Gateway, name: str, most: object) -> None:
    """The field is named, with the rule."""
    status, reply = await limit(gateway, name, most)

    assert (status, reply["error"]["field"]) == (422, "max_workers")


async def test_a_limit_and_a_size_are_two_requests(gateway: Gateway, name: str) -> None:
    """Which of them came first would be anybody's guess."""
    both = {"max_workers": 2, "workers": 2}

    assert (await gateway.client("root").patch(f"/api/v2/clusters/{name}", json=both)).status_code == 422


async def test_whoever_is_taken_off_the_list_is_none(tmp_path: Path) -> None:
    """The role is the configuration's of today, whatever the token was made with."""
    async with gateway_in_process(tmp_path) as gateway:
        _, gateway.tokens["root"] = await mint_token(
            gateway.store, Principal("root", admin=False), "old", now=gateway.clock.now
        )
        name = (await gateway.create("alice")).name

        assert (await gateway.client("root").delete(f"/api/v2/clusters/{name}")).status_code == 404
