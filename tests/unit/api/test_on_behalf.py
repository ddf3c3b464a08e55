"""An administrator acts on behalf of a user, and both stand in what comes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.in_process import DAY, Gateway, gateway_in_process
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.model.audit import Deed, Wanted
from tidegate.model.principal import Principal, Scope

BOB = {"Tidegate-On-Behalf-Of": "bob"}
ROSTER = Roster(admins=("root", "rita"), groups={"hydro": ("bob",)})


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with root, who administers it, with tokens of every kind."""
    async with gateway_in_process(tmp_path, roster=ROSTER) as gateway:
        for name, settings in {"root": {}, "reading": {"scope": Scope.READ_ONLY}, "bob": {}}.items():
            who = Principal("root" if name == "reading" else name)
            _, gateway.tokens[name] = await mint_token(
                gateway.store,
                who,
                "test",
                now=gateway.clock.now,
                expires_at=gateway.clock.now + DAY,
                **settings,  # type: ignore[arg-type]
            )
        yield gateway


async def root(gateway: Gateway, method: str, path: str, **request: object) -> httpx.Response:
    """Let root do something for bob."""
    return await gateway.client("root", **BOB).request(method, path, **request)  # type: ignore[arg-type]


async def test_the_request_is_judged_as_the_users(gateway: Gateway) -> None:
    """Name and groups are the user's; the role is nobody's."""
    who = (await root(gateway, "GET", "/api/v2/whoami")).json()

    assert (who["name"], who["groups"], who["admin"]) == ("bob", ["hydro"], False)


@pytest.mark.parametrize("path", ["/api/v2/clusters", "/api/v1/clusters/"])
async def test_what_comes_of_it_names_both(gateway: Gateway, path: str) -> None:
    """The cluster is bob's; its history and the audit log name root beside him."""
    name = (await root(gateway, "POST", path, json={})).json()["name"]
    await gateway.become_running(name)
    await root(gateway, "DELETE", f"/api/v2/clusters/{name}")

    cluster = await gateway.store.load(name)
    assert cluster.owner == "bob"
    assert cluster.reason.message == "Stopped by administrator root, on behalf of bob"
    assert (await gateway.store.last_events(name, 10))[0].event.message == (
        "The cluster was requested (administrator root, on behalf of bob)"
    )
    found = await gateway.services.audit.find(Principal("root", admin=True), Wanted(user="root"))
    assert [(r.entry.deed, r.entry.principal, r.entry.actor) for r in found] == [
        (Deed.CLUSTER_STOP, "bob", "root"),
        (Deed.CLUSTER_CREATE, "bob", "root"),
    ]


async def test_what_only_the_owner_may_works_too(gateway: Gateway) -> None:
    """An administrator cannot connect to a cluster; on behalf of its owner they can."""
    name = (await gateway.create("bob")).name
    await gateway.become_running(name)

    path = f"/api/v2/clusters/{name}/credentials"
    refused = await gateway.client("root").get(path)
    assert refused.status_code == 403
    assert "on behalf of bob" in refused.json()["error"]["message"]
    assert (await root(gateway, "GET", path)).status_code == 200


@pytest.mark.parametrize("name", ["alice", "reading"])
async def test_only_administrators_with_full_scope_do(gateway: Gateway, name: str) -> None:
    """Whoever else sends the header is refused, and that they tried is on record."""
    reply = await gateway.client(name, **BOB).get("/api/v2/clusters")

    assert reply.status_code == 403
    assert "for administrators" in reply.json()["error"]["message"]
    (found,) = await gateway.services.audit.find(Principal("root", admin=True), Wanted())
    assert found.entry.principal == ("alice" if name == "alice" else "root")
    assert (found.entry.code, found.entry.detail) == ("not-allowed", "on behalf of bob")


async def test_it_makes_nobody_an_administrator(gateway: Gateway) -> None:
    """Not on behalf of another administrator either, nor of oneself."""
    for name in ("rita", "root"):
        client = gateway.client("root", **{"Tidegate-On-Behalf-Of": name})
        assert (await client.get("/api/v2/whoami")).json()["admin"] is False
        assert (await client.get("/api/v2/audit")).status_code == 404


async def test_no_token_is_made_on_behalf(gateway: Gateway) -> None:
    """It would go on acting as the user without a trace; a link to a dashboard ends by itself."""
    name = (await gateway.create("bob")).name
    refused = await root(gateway, "POST", "/api/v2/tokens", json={"label": "x"})

    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "cannot make a token on behalf of bob: only bob can"
    assert (await root(gateway, "POST", f"/api/v2/clusters/{name}/links", json={})).status_code == 201


async def test_the_end_of_the_administrators_token_stays(gateway: Gateway) -> None:
    """Acting on behalf lasts no longer than the credential."""
    gateway.clock.now += 2 * DAY

    assert (await root(gateway, "GET", "/api/v2/clusters")).status_code == 401


@pytest.mark.parametrize(
    ("written", "name"), [("Zo%C3%AB", "Zoë"), ("bob%20b", "bob b"), ("bob@example.org", "bob@example.org")]
)
async def test_a_name_is_percent_encoded(gateway: Gateway, written: str, name: str) -> None:
    """Names have letters that no header carries."""
    client = gateway.client("root", **{"Tidegate-On-Behalf-Of": written})

    assert (await client.get("/api/v2/whoami")).json()["name"] == name


@pytest.mark.parametrize("written", ["", "%20", "bob%0a", "b" * 256, "%00", " bob%20"])
async def test_what_is_no_name_is_refused(gateway: Gateway, written: str) -> None:
    """And not taken for no header at all: the administrator would act as themselves."""
    reply = await gateway.client("root", **{"Tidegate-On-Behalf-Of": written}).get("/api/v2/whoami")

    assert reply.status_code == 422


@pytest.mark.parametrize("path", ["/api/v2/clusters", "/", "/tokens"])
async def test_never_from_a_page_of_somebody_else(gateway: Gateway, path: str) -> None:
    """A foreign page cannot lend itself an administrator's session."""
    browser = gateway.browser("root", **BOB, **{"Sec-Fetch-Site": "cross-site"})

    assert (await browser.get(path)).status_code in (401, 303)
