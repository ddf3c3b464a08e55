"""Logging in and out, and where one goes from there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.in_process import Gateway, gateway_in_process
from tidegate.authn.codes import CODE_SECONDS
from tidegate.authn.roster import Roster
from tidegate.console.session import safe_next
from tidegate.model.principal import Principal


@pytest.mark.parametrize("path", ["/", "/clusters/x", "/clusters/x/status?theme=dark&a=%2F", "/a//b", "/@evil.test"])
def test_a_path_of_ours_is_kept(path: str) -> None:
    """With its query."""
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "evil.test",
        "https://evil.test/",
        "//evil.test/",
        "///evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "/a\\b",
        "/\t/evil.test",
        "/\n/evil.test",
        " /x",
        "/x y",
        "javascript:alert(1)",
        "/" + "x" * 3000,
    ],
)
def test_anything_else_leads_to_the_first_page(text: str | None) -> None:
    """No link of ours sends people to another host."""
    assert safe_next(text) == "/"


@given(st.text(alphabet=st.sampled_from("/\\:@.?#%evil \t\r\n"), max_size=12))
def test_next_never_names_another_host(text: str) -> None:
    """As browsers read it: they drop control characters, and take a backslash for a slash."""
    path = safe_next(text)
    read = path.replace("\t", "").replace("\n", "").replace("\r", "").replace("\\", "/")

    assert read.startswith("/")
    assert not read.startswith("//")


async def test_a_person_is_led_to_the_login_and_back(gateway: Gateway) -> None:
    """The page that was asked for is reached after the token was pasted."""
    cluster = await gateway.create()
    browser = gateway.browser()
    path = f"/clusters/{cluster.name}?x=1&y=2"

    asked = await browser.get(path)
    where = urlsplit(asked.headers["location"])
    shown = await browser.get(asked.headers["location"])
    logged_in = await browser.post(
        "/login", data={"token": f" {gateway.tokens['alice']}\n", "next": parse_qs(where.query)["next"][0]}
    )
    reached = await browser.get(logged_in.headers["location"])

    assert (asked.status_code, where.path) == (303, "/login")
    assert 'name="next" value="/clusters/' in shown.text
    assert (logged_in.status_code, logged_in.headers["location"]) == (303, path)
    assert reached.status_code == 200
    assert cluster.name in reached.text


@pytest.mark.parametrize("token", ["", "nonsense", "tdg_" + "x" * 43, "é"])
async def test_a_wrong_token_stays_on_the_page(gateway: Gateway, token: str) -> None:
    """401 with words, no cookie, and the way back is kept."""
    reply = await gateway.browser().post("/login", data={"token": token, "next": "/clusters/x"})

    assert reply.status_code == 401
    assert "does not know this token" in reply.text
    assert "set-cookie" not in reply.headers
    assert 'value="/clusters/x"' in reply.text


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_a_foreign_page_can_log_nobody_in_or_out(gateway: Gateway, site: str) -> None:
    """Else it could slip its own account under somebody's work."""
    browser = gateway.browser("alice", **{"Sec-Fetch-Site": site})

    logged_in = await browser.post("/login", data={"token": gateway.tokens["mallory"]})
    logged_out = await browser.post("/logout")

    assert logged_in.status_code == logged_out.status_code == 403
    assert "set-cookie" not in {*logged_in.headers, *logged_out.headers}


async def test_a_role_that_is_taken_away_is_gone_from_the_session(tmp_path: Path) -> None:
    """So is a group of the configuration: neither is sealed, and no token that is made then has it."""
    admins, members = ["alice"], ["alice"]
    async with gateway_in_process(tmp_path, roster=Roster(admins, groups={"ops": members})) as gateway:
        browser = gateway.browser()
        await browser.post("/login", data={"token": gateway.tokens["alice"]})
        before = (await browser.get("/api/v2/whoami")).json()
        admins.clear()
        members.clear()
        after = (await browser.get("/api/v2/whoami")).json()
        await browser.post("/api/v2/tokens", json={"label": "made then"})
        made = [token for token in await gateway.store.list_tokens("alice") if token.label == "made then"]

    assert (before["admin"], before["groups"]) == (True, ["ops"])
    assert (after["admin"], after["groups"]) == (False, [])
    assert [token.principal for token in made] == [Principal("alice")]


async def test_logging_out_forgets_the_session(gateway: Gateway) -> None:
    """The cookie goes, and the first page asks again."""
    browser = gateway.browser()
    await browser.post("/login", data={"token": gateway.tokens["alice"]})
    assert (await browser.get("/")).status_code == 200

    await browser.post("/logout")

    assert (await browser.get("/")).status_code == 303


async def test_the_link_from_the_terminal_works_once(gateway: Gateway) -> None:
    """It logs in and goes to the first page; afterwards, or too late, it is worth nothing."""
    code = gateway.services.codes.mint(Principal("alice", method="code"))
    late = gateway.services.codes.mint(Principal("alice", method="code"))
    from_a_link = {"Sec-Fetch-Site": "cross-site"}

    first = await gateway.browser(**from_a_link).get(f"/login?code={code}")
    again = await gateway.browser(**from_a_link).get(f"/login?code={code}")
    gateway.clock.now += CODE_SECONDS
    too_late = await gateway.browser().get(f"/login?code={late}")

    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert "set-cookie" in first.headers
    for reply in (again, too_late):
        assert reply.status_code == 401
        assert "used already or has expired" in reply.text
        assert "set-cookie" not in reply.headers


async def test_a_code_can_lead_somewhere(gateway: Gateway) -> None:
    """To a path of ours only."""
    codes = gateway.services.codes
    for after, expected in (("/clusters/x", "/clusters/x"), ("//evil.test", "/")):
        code = codes.mint(Principal("alice"))
        reply = await gateway.browser().get("/login", params={"code": code, "next": after})
        assert reply.headers["location"] == expected


@pytest.mark.parametrize(
    ("headers", "start", "parts"),
    [
        ({}, "tidegate-", {"Path=/", "HttpOnly", "SameSite=lax"}),
        ({"X-Forwarded-Proto": "https"}, "__Host-tidegate-", {"Path=/", "HttpOnly", "SameSite=lax", "Secure"}),
        (
            {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/services/dask"},
            "__Secure-tidegate-",
            {"Path=/services/dask", "HttpOnly", "SameSite=lax", "Secure"},
        ),
    ],
)
async def test_the_cookie_goes_nowhere_else(
    gateway: Gateway, headers: dict[str, str], start: str, parts: set[str]
) -> None:
    """Not to scripts, not to other services on the host, not to other hosts, not beyond a working day."""
    reply = await gateway.browser(**headers).post("/login", data={"token": gateway.tokens["alice"]})

    name, *attributes = reply.headers["set-cookie"].split("; ")
    assert name.startswith(start)
    assert set(attributes) == parts | {"Max-Age=43200"}
    assert reply.headers["location"] == headers.get("X-Forwarded-Prefix", "") + "/"


async def test_htmx_is_told_to_go_to_the_login(gateway: Gateway) -> None:
    """A redirect would be swapped into the page."""
    reply = await gateway.browser(**{"HX-Request": "true"}).get("/console/clusters/x/logs")

    assert reply.status_code == 401
    assert reply.headers["hx-redirect"].startswith("/login?next=")


async def test_a_program_gets_json_and_the_challenge(gateway: Gateway) -> None:
    """On the console's paths too."""
    reply = await gateway.client().get("/")

    assert (reply.status_code, reply.json()) == (401, {"error": "Authentication required"})
    assert "www-authenticate" in reply.headers
