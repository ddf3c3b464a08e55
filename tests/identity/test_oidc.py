"""Logging in at a real OpenID provider (npm's ``oidc-provider``, on loopback): browsers, terminals and programs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import dask.config
import pytest

from tests.identity.provider import Person, Provider, running_provider
from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.authn.base import Presented, Waiting
from tidegate.authn.oidc import OidcAuthenticator
from tidegate.authn.roster import Roster
from tidegate.cli.main import run
from tidegate.model.audit import Deed, Outcome, Wanted
from tidegate.model.errors import LoginFailed
from tidegate.model.principal import Principal

BACK = "http://gateway.test/login/oidc/return"


@asynccontextmanager
async def authenticator(provider: Provider, folder: Path, client: str = "gateway", **more: Any) -> AsyncIterator[Any]:
    """Give a started authenticator of a gateway that is this client."""
    clock = more.pop("clock", time.time)
    made = OidcAuthenticator(folder, provider.settings(client, **more), clock)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def gateway(provider: Provider, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that knows it, and whose administrators are in the group "operators"."""
    roster = Roster(admin_groups=["operators"])
    async with (
        authenticator(provider, tmp_path, label="Our University") as login,
        gateway_in_process(tmp_path, {"oidc": login}, roster=roster) as gateway,
    ):
        yield gateway


@pytest.fixture
def alice(provider: Provider) -> Person:
    """Alice, who is in "hydro" and "operators", and says yes to everything."""
    return Person(provider)


async def whoami(gateway: Gateway, token: str) -> tuple[str, list[str], bool] | int:
    """Return who bears that token, with groups and role, or the status of the refusal."""
    answer = await gateway.client(token).get("/api/v2/whoami")
    if answer.status_code != 200:
        return answer.status_code
    who = answer.json()
    return who["name"], who["groups"], who["admin"]


# -- browsers ----------------------------------------------------------------------------------------------------------


async def test_a_browser_goes_there_and_comes_back(gateway: Gateway, provider: Provider, alice: Person) -> None:
    """Logged in, where it wanted to go, with groups and role; and makes a token, which has not the role."""
    browser = gateway.browser(**{"Sec-Fetch-Site": "none"})
    assert "Log in with Our University" in (await browser.get("/login")).text

    sent = await browser.get("/login/oidc", params={"next": "/tokens"})
    assert sent.headers["location"].startswith(f"{provider.issuer}/")
    back = alice.visit(sent.headers["location"]).url
    landed = await browser.get(back, headers={"Sec-Fetch-Site": "cross-site"})
    assert (landed.status_code, landed.headers["location"]) == (303, "/tokens")

    same = {"Sec-Fetch-Site": "same-origin"}
    who = (await browser.get("/api/v2/whoami", headers=same)).json()
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], True)
    made = (await browser.post("/api/v2/tokens", json={}, headers=same)).json()
    who = (await gateway.client(made["secret"]).get("/api/v2/whoami")).json()
    assert (who["name"], who["groups"], who["admin"]) == ("alice", ["hydro", "operators"], False)


async def test_a_return_counts_once_and_in_its_own_browser(gateway: Gateway, alice: Person) -> None:
    """Not without the cookie of the login, not with that of another, not again."""
    mine, theirs, nobody = (gateway.browser() for _ in range(3))
    back = alice.visit((await mine.get("/login/oidc")).headers["location"]).url
    await theirs.get("/login/oidc")

    for browser in (nobody, theirs):
        assert (await browser.get(back)).status_code == 401
    cookies = dict(mine.cookies)
    assert (await mine.get(back)).status_code == 303
    again = gateway.browser()
    again.cookies.update(cookies)
    assert (await again.get(back)).status_code == 401


async def test_who_says_no_there_is_told_here(gateway: Gateway, provider: Provider) -> None:
    """On the login page, with the other ways to log in."""
    browser = gateway.browser()
    page = (await browser.get("/login/oidc")).headers["location"]

    answer = await browser.get(Person(provider, agrees=False).visit(page).url)

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


async def test_the_audit_log_tells_who_came_back(gateway: Gateway, provider: Provider, alice: Person) -> None:
    """And that somebody did who was not let in; going there is nothing yet."""
    browser, refused = gateway.browser(), gateway.browser()
    back = alice.visit((await browser.get("/login/oidc")).headers["location"]).url
    await browser.get(back)
    page = (await refused.get("/login/oidc")).headers["location"]
    await refused.get(Person(provider, agrees=False).visit(page).url)

    found = await gateway.services.audit.find(Principal("root", admin=True), Wanted())
    assert [(r.entry.deed, r.entry.outcome, r.entry.principal, r.entry.method) for r in found] == [
        (Deed.LOGIN, Outcome.REFUSED, "", ""),
        (Deed.LOGIN, Outcome.DONE, "alice", "oidc"),
    ]


@pytest.mark.parametrize("client", ["gateway", "public-gateway"])
async def test_a_gateway_may_have_a_secret_or_none(provider: Provider, tmp_path: Path, client: str) -> None:
    """The secret is sent as the standard wants it, whatever is in it; without one PKCE vouches for the gateway."""
    async with authenticator(provider, tmp_path, client) as oidc:
        begun = await oidc.begin(BACK)
        back = dict(parse_qsl(urlsplit(Person(provider, "bob").visit(begun.url).url).query))
        assert back["iss"] == provider.issuer

        assert (await oidc.complete(BACK, begun.secret, back)).name == "bob"


async def test_groups_decide_who_may_come_in(provider: Provider, tmp_path: Path) -> None:
    """By what the provider says of them; who is in none is told in which they would have to be."""
    async with authenticator(provider, tmp_path, allowed_groups=["hydro"]) as oidc:
        for name in ("alice", "bob"):
            begun = await oidc.begin(BACK)
            back = dict(parse_qsl(urlsplit(Person(provider, name).visit(begun.url).url).query))
            if name == "alice":
                assert (await oidc.complete(BACK, begun.secret, back)).groups == {"hydro", "operators"}
            else:
                with pytest.raises(LoginFailed, match="cannot let bob use this gateway: it is for members of hydro"):
                    await oidc.complete(BACK, begun.secret, back)


async def test_a_wrong_secret_is_the_administrators_affair(provider: Provider, tmp_path: Path) -> None:
    """Who logs in is told whom to ask."""
    (tmp_path / "wrong").write_text("wrong")
    async with authenticator(provider, tmp_path, client_secret_file=tmp_path / "wrong") as oidc:
        begun = await oidc.begin(BACK)
        back = dict(parse_qsl(urlsplit(Person(provider).visit(begun.url).url).query))
        with pytest.raises(LoginFailed, match=r"does not accept this gateway\. Ask the gateway's administrator"):
            await oidc.complete(BACK, begun.secret, back)


# -- terminals: the command itself is in test_oidc_platform.py ---------------------------------------------------------


async def test_nobody_types_the_code_in_time(
    provider: Provider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """This provider gives them two seconds. Then the terminal says so and ends, and the code is worth nothing."""
    async with (
        authenticator(provider, tmp_path, "hasty-gateway") as oidc,
        gateway_in_process(tmp_path, {"oidc": oidc}) as gateway,
        listening(gateway) as address,
    ):
        begun = await oidc.begin_device()
        assert (begun.seconds, begun.interval) == (2, 1)
        assert await oidc.complete_device(begun.secret) == Waiting()

        with dask.config.set({"tidegate": {}, "gateway": {}}):
            assert await asyncio.to_thread(run, ["login", "--address", address, "--print"]) == 1
        # Whether the provider says so, or the terminal's own clock, is a matter of milliseconds.
        assert re.search("[Nn]obody typed the code in time[.:] [Bb]egin again", capsys.readouterr().err)
        with pytest.raises(LoginFailed, match="Nobody typed the code in time: begin again"):
            await oidc.complete_device(begun.secret)


# -- programs ----------------------------------------------------------------------------------------------------------


async def test_a_program_bears_a_token_of_the_providers(gateway: Gateway, provider: Provider, alice: Person) -> None:
    """Its own, or one that its owner got for it: the groups in it count, and with them the role."""
    assert await whoami(gateway, provider.program_token()) == ("pipeline", ["robots"], False)
    token = provider.tokens_of(alice)["access_token"]
    assert await whoami(gateway, token) == ("alice", ["hydro", "operators"], True)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Another provider, with the same users and clients."""
    with running_provider(tmp_path_factory.mktemp("elsewhere"), [BACK]) as started:
        yield started


async def test_tokens_that_are_not_for_this_gateway(gateway: Gateway, provider: Provider, elsewhere: Provider) -> None:
    """For another service, of another provider, or not meant for programs at all: what a gateway is shown is 401."""
    of_bob = provider.tokens_of(Person(provider, "bob"), None)
    wrong = {
        "another audience": provider.program_token("https://other.example.org"),
        "another issuer": elsewhere.program_token(),
        "no JSON Web Token": of_bob["access_token"],
        "an ID token": of_bob["id_token"],
        "half of one": provider.program_token()[:-20],
    }

    assert {what: await whoami(gateway, token) for what, token in wrong.items()} == dict.fromkeys(wrong, 401)


async def test_a_token_ends_when_it_says_so(provider: Provider, tmp_path: Path) -> None:
    """After ten minutes here, and the half that clocks may differ."""
    ahead = 0.0
    async with authenticator(provider, tmp_path, clock=lambda: time.time() + ahead) as oidc:
        token = Presented("bearer", provider.program_token())
        assert (await oidc.authenticate(token)).principal.name == "pipeline"

        ahead = 640.0
        assert await oidc.authenticate(token) is None
