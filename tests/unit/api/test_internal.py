"""What only the gateway's own processes reach."""

from __future__ import annotations

import pytest

from tests.in_process import Gateway
from tidegate.authn.tokens import mint_token
from tidegate.model.cluster import Target
from tidegate.model.principal import Principal
from tidegate.model.share import Right

PATHS = [("POST", "/internal/dashboard-access")]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded"])
async def test_what_came_through_a_proxy_finds_nothing(gateway: Gateway, header: str) -> None:
    """Should a path ever slip past the proxy's own check, this one still says 404, also to the owner."""
    cluster = await gateway.create("alice")
    client = gateway.client("alice", **{header: "gateway.test"})
    for method, path in PATHS:
        reply = await client.request(method, path, json={"cluster": cluster.name})
        assert reply.status_code == 404
    assert (await gateway.store.load(cluster.name)).target is Target.RUNNING


async def test_a_proxy_learns_who_may_look_at_a_dashboard(gateway: Gateway) -> None:
    """The owner by name; a stranger and nonsense alike 404; nobody 401, with the challenge for the program behind."""
    cluster = await gateway.create("alice")
    path = "/internal/dashboard-access"

    owner = await gateway.client("alice").post(path, json={"cluster": cluster.name})
    stranger = await gateway.client("mallory").post(path, json={"cluster": cluster.name})
    nonsense = await gateway.client("mallory").post(path, json={"cluster": "nonsense"})
    nobody = await gateway.client().post(path, json={"cluster": cluster.name})
    session = await gateway.browser("alice").post(path, json={"cluster": cluster.name})

    (token,) = await gateway.services.tokens.list(Principal("alice"))
    assert owner.status_code == 200
    assert owner.json() == {"user": "alice", "epoch": None, "until": None, "by": [token.id]}
    assert stranger.status_code == nonsense.status_code == 404
    assert stranger.text.replace(cluster.name, "nonsense") == nonsense.text
    assert nobody.status_code == session.status_code == 401
    assert "www-authenticate" in nobody.headers


async def test_a_proxy_learns_until_when(gateway: Gateway) -> None:
    """The token's end is that of what it opens; in their role of an owner or by a share."""
    cluster = await gateway.create("alice")
    await gateway.services.shares.give(Principal("alice"), cluster.name, "user:mallory", Right.VIEW)
    now = gateway.clock.now
    for user in ("alice", "mallory"):
        _, secret = await mint_token(gateway.store, Principal(user), "short", now=now, expires_at=now + 60)
        reply = await gateway.client(secret).post(PATHS[0][1], json={"cluster": cluster.name})
        assert reply.json()["until"] == now + 60
