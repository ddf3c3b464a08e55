"""What agents say and ask: with their cluster's own token, and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.in_process import Gateway
from tidegate.wire.names import AGENT_PATH

REPORT = {"attempt": 1, "port": 40001, "dashboard_port": 40002, "versions": {"python": "3.12.1"}}


async def agent_of(gateway: Gateway, name: str) -> httpx.AsyncClient:
    """Return the HTTP client of a cluster's agent."""
    token = (await gateway.store.credentials(name)).agent_token
    return gateway.client(Authorization=f"token {token}")


async def test_a_report_is_answered_with_the_whole_wanted_state(gateway: Gateway) -> None:
    """The facts are in the record, the wanted size is in the answer."""
    cluster = await gateway.create()
    agent = await agent_of(gateway, cluster.name)

    reply = await agent.post(AGENT_PATH.format(name=cluster.name) + "/report", json=REPORT)

    assert reply.status_code == 200
    assert reply.json()["exit"] is False
    assert reply.json()["groups"] == {"default": {"wanted": 0, "minimum": None, "maximum": None}}
    recorded = await gateway.store.load(cluster.name)
    assert recorded.scheduler.port == 40001
    assert recorded.scheduler.versions == {"python": "3.12.1"}


async def test_an_older_attempt_is_told_to_exit(gateway: Gateway) -> None:
    """Names alone do not stop a late job."""
    cluster = await gateway.create()
    agent = await agent_of(gateway, cluster.name)

    reply = await agent.post(AGENT_PATH.format(name=cluster.name) + "/report", json=REPORT | {"attempt": 7})

    assert reply.json()["exit"] is True


async def test_a_change_of_size_is_told_at_once(gateway: Gateway) -> None:
    """An agent that has this version is held until there is another."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    agent = await agent_of(gateway, cluster.name)
    path = AGENT_PATH.format(name=cluster.name)
    have = (await agent.post(path + "/report", json=REPORT)).json()["version"]

    held = asyncio.create_task(agent.get(f"{path}/wanted?attempt=1&have={have}"))
    done, _ = await asyncio.wait({held}, timeout=0.05)
    assert not done
    await gateway.client("alice").patch(f"/api/v2/clusters/{cluster.name}", json={"workers": 3})
    reply = await asyncio.wait_for(held, 20)

    assert reply.json()["groups"]["default"]["wanted"] == 3
    assert reply.json()["version"] != have


async def test_an_agent_speaks_for_its_own_cluster_only(gateway: Gateway) -> None:
    """Another cluster's agent, a user's token, a wrong scheme: all refused in the same words."""
    cluster, other = await gateway.create("alice"), await gateway.create("mallory")
    token = (await gateway.store.credentials(other.name)).agent_token
    path = AGENT_PATH.format(name=cluster.name)
    for header in (f"token {token}", f"token {gateway.tokens['alice']}", f"Bearer {token}", "token", "token é"):
        client = gateway.client()
        headers = [(b"authorization", header.encode())]
        for reply in (
            await client.post(path + "/report", json=REPORT, headers=headers),
            await client.get(path + "/wanted?attempt=1", headers=headers),
        ):
            assert reply.status_code == 401
            assert reply.json() == {"error": "Authentication required"}
    assert (await gateway.store.load(cluster.name)).scheduler is None


async def test_the_token_is_checked_before_the_body_is_read(gateway: Gateway) -> None:
    """Nobody makes the gateway parse what they send it by calling themselves an agent."""
    cluster, other = await gateway.create("alice"), await gateway.create("mallory")
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"not JSON"

    for agent in (await agent_of(gateway, other.name), gateway.client(Authorization="token nonsense")):
        reply = await agent.post(AGENT_PATH.format(name=cluster.name) + "/report", content=body())
        assert reply.status_code == 401
    assert read == []


async def test_an_agents_token_opens_nothing_else(gateway: Gateway) -> None:
    """It is no user's token, in any scheme."""
    cluster = await gateway.create()
    token = (await gateway.store.credentials(cluster.name)).agent_token
    for scheme in ("Bearer", "token"):
        reply = await gateway.client(Authorization=f"{scheme} {token}").get("/api/v2/whoami")
        assert reply.status_code == 401


@pytest.mark.parametrize(
    "body",
    [
        {"attempt": 0, "port": 1},
        {"attempt": 1, "port": 65536},
        {"attempt": 1},
        {"attempt": 1, "port": 1, "workers": "x"},
        {"attempt": 1, "port": 1, "workers": ["x" * 201]},
        {"attempt": 1, "port": 1, "demand": {"default": -1}},
        {"attempt": 1, "port": 1, "versions": {"a": "b" * 201}},
        [],
    ],
)
async def test_a_hostile_report_is_refused(gateway: Gateway, body: object) -> None:
    """Every field is bounded."""
    cluster = await gateway.create()
    agent = await agent_of(gateway, cluster.name)

    reply = await agent.post(AGENT_PATH.format(name=cluster.name) + "/report", json=body)

    assert reply.status_code == 422
    assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize("query", ["", "?attempt=x", "?attempt=0", "?attempt=1&have=" + "x" * 65])
async def test_a_wrong_question_is_refused(gateway: Gateway, query: str) -> None:
    """422, not a guess."""
    cluster = await gateway.create()
    agent = await agent_of(gateway, cluster.name)

    assert (await agent.get(AGENT_PATH.format(name=cluster.name) + "/wanted" + query)).status_code == 422
