"""Logging in at a real OpenID provider (``oidc-provider-mock``, on loopback), as a browser does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from oidc_provider_mock import User, run_server_in_thread

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.oidc import OidcAuthenticator, OidcSettings
from tidegate.authn.roster import Roster
from tidegate.model.audit import Deed, Outcome, Wanted
from tidegate.model.principal import Principal

CLAIMS = {"preferred_username": "alice", "groups": ["hydro", "operators"]}


@pytest.fixture
def issuer() -> Iterator[str]:
    """The provider's address; it knows alice, and insists on a nonce."""
    with run_server_in_thread(require_nonce=True, user_claims=[User(sub="17", claims=CLAIMS)]) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture
async def gateway(issuer: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that knows it, and whose administrators are in the group "operators"."""
    (tmp_path / "secret").write_text("s3cret")
    given = {"issuer": issuer, "client_id": "tidegate", "client_secret_file": tmp_path / "secret"}
    login = OidcAuthenticator(tmp_path, OidcSettings(**given, label="Our University"))
    await login.start()
    async with gateway_in_process(tmp_path, {"oidc": login}, roster=Roster(admin_groups=["operators"])) as gateway:
        yield gateway
    await login.close()


async def agree(page: str) -> str:
    """Log in as alice at the provider's page; return where the browser is sent back to."""
    async with httpx.AsyncClient() as elsewhere:
        assert (await elsewhere.get(page)).status_code == 200
        answer = await elsewhere.post(page, data={"sub": "17"})
    assert answer.status_code == 302
    return answer.headers["location"]


async def test_a_browser_goes_there_and_comes_back(gateway: Gateway, issuer: str) -> None:
    """Logged in, where it wanted to go, with groups and role; and makes a token, which has not the role."""
    browser = gateway.browser(**{"Sec-Fetch-Site": "none"})
    assert "Log in with Our University" in (await browser.get("/login")).text

    sent = await browser.get("/login/oidc", params={"next": "/tokens"})
    assert sent.headers["location"].startswith(f"{issuer}/")
    back = await agree(sent.headers["location"])
    landed = await browser.get(back, headers={"Sec-Fetch-Site": "cross-site"})
    assert (landed.status_code, landed.headers["location"]) == (303, "/tokens")

    same = {"Sec-Fetch-Site": "same-origin"}
    who = (await browser.get("/api/v2/whoami", headers=same)).json()
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], True)
    made = (await browser.post("/api/v2/tokens", json={}, headers=same)).json()
    who = (await gateway.client(made["secret"]).get("/api/v2/whoami")).json()
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], False)


async def test_a_return_counts_once_and_in_its_own_browser(gateway: Gateway) -> None:
    """Not without the cookie of the login, not with that of another, not again."""
    mine, theirs, nobody = (gateway.browser() for _ in range(3))
    back = await agree((await mine.get("/login/oidc")).headers["location"])
    await theirs.get("/login/oidc")

    for browser in (nobody, theirs):
        assert (await browser.get(back)).status_code == 401
    cookies = dict(mine.cookies)
    assert (await mine.get(back)).status_code == 303
    again = gateway.browser()
    again.cookies.update(cookies)
    assert (await again.get(back)).status_code == 401


async def test_who_says_no_there_is_told_here(gateway: Gateway) -> None:
    """On the login page, with the other ways to log in."""
    browser = gateway.browser()
    page = (await browser.get("/login/oidc")).headers["location"]
    state = parse_qs(urlsplit(page).query)["state"][0]

    answer = await browser.get("/login/oidc/return", params={"error": "access_denied", "state": state})

    assert answer.status_code == 401
    assert "did not let you in" in answer.text
    assert "Log in with Our University" in answer.text


async def test_over_https_no_other_host_can_replace_a_login(gateway: Gateway) -> None:
    """A dashboard on a host below the gateway's could else have the viewer come back as somebody else."""
    browser = gateway.browser(**{"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/services/dask"})

    sent = await browser.get("/login/oidc")

    name, _, attributes = sent.headers["set-cookie"].partition("=")
    assert name == "__Host-tidegate-login"
    parts = {part.lower() for part in attributes.split("; ")[1:]}
    assert {"path=/", "secure", "httponly", "samesite=lax"} <= parts
    assert not [part for part in parts if part.startswith("domain")]


async def test_returns_are_not_for_anybody_to_try_out(gateway: Gateway) -> None:
    """Each is shown to the provider, so they count like other wrong logins."""
    browser = gateway.browser(**{"X-Forwarded-For": "192.0.2.7"})
    sent = await browser.get("/login/oidc")
    state = parse_qs(urlsplit(sent.headers["location"]).query)["state"][0]

    statuses = []
    for number in range(101):
        reply = await browser.get("/login/oidc/return", params={"state": state + "x", "code": str(number)})
        statuses.append(reply.status_code)

    assert (set(statuses[:100]), statuses[100]) == ({401}, 429)


async def test_the_audit_log_tells_who_came_back(gateway: Gateway) -> None:
    """And that somebody did who was not let in; going there is nothing yet."""
    browser, refused = gateway.browser(), gateway.browser()
    back = await agree((await browser.get("/login/oidc")).headers["location"])
    await browser.get(back)
    page = (await refused.get("/login/oidc")).headers["location"]
    state = parse_qs(urlsplit(page).query)["state"][0]
    await refused.get("/login/oidc/return", params={"error": "access_denied", "state": state})

    found = await gateway.services.audit.find(Principal("root", admin=True), Wanted())
    assert [(r.entry.deed, r.entry.outcome, r.entry.principal, r.entry.method) for r in found] == [
        (Deed.LOGIN, Outcome.REFUSED, "", ""),
        (Deed.LOGIN, Outcome.DONE, "alice", "oidc"),
    ]
