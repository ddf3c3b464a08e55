"""How a caller proves who they are: header before session, and a session only from our own pages."""

from __future__ import annotations

import base64

import httpx
import pytest

from tests.in_process import Gateway
from tidegate.model.principal import Principal

WHOAMI = "/api/v2/whoami"


def session(gateway: Gateway, user: str = "alice", **headers: str) -> httpx.AsyncClient:
    """Return a client with a session cookie and nothing else of a browser."""
    client = gateway.client(**headers)
    sessions = gateway.services.sessions
    client.cookies.set(sessions.cookie_name("http", ""), sessions.seal(Principal(user)))
    return client


async def test_a_token_is_taken_as_bearer_and_as_basic(gateway: Gateway) -> None:
    """Our client sends the one, the official client the other."""
    pair = base64.b64encode(f"alice:{gateway.tokens['alice']}".encode()).decode()

    bearer = await gateway.client("alice").get(WHOAMI)
    basic = await gateway.client(Authorization=f"Basic {pair}").get(WHOAMI)

    assert bearer.json() == basic.json() == {"name": "alice", "groups": [], "admin": False, "method": "token"}


async def test_a_program_is_told_how_to_come_back(gateway: Gateway) -> None:
    """The official client retries once after exactly 401, and curl needs the challenge."""
    reply = await gateway.client().get("/api/v1/options")

    assert reply.status_code == 401
    assert reply.json() == {"error": "Authentication required"}
    assert reply.headers["www-authenticate"] == 'Basic realm="tidegate"'


@pytest.mark.parametrize("header", [{"Sec-Fetch-Mode": "cors"}, {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}])
async def test_a_browser_is_not_made_to_ask_with_a_dialog(gateway: Gateway, header: dict[str, str]) -> None:
    """With the challenge a browser would open its own window in front of the console."""
    reply = await gateway.client(**header).get(WHOAMI)

    assert reply.status_code == 401
    assert "www-authenticate" not in reply.headers
    assert reply.json()["error"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://gateway.test"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Sec-Fetch-Site": "none"}, 401),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://gateway.test"}, 401),
        ({"Origin": "http://x.gateway.test"}, 401),
        ({"Origin": "https://gateway.test"}, 401),
        ({"Origin": "null"}, 401),
        ({}, 401),
    ],
)
async def test_a_session_acts_only_from_our_own_pages(gateway: Gateway, headers: dict[str, str], status: int) -> None:
    """A page of a dashboard, on a sibling host or anywhere, cannot use the viewer's session."""
    client = session(gateway, **headers)

    assert (await client.get(WHOAMI)).status_code == status
    created = await client.post("/api/v2/clusters", json={})

    assert created.status_code == (201 if status == 200 else 401)


async def test_a_wrong_header_is_not_mended_by_a_session(gateway: Gateway) -> None:
    """Who presents a credential is judged by it alone."""
    client = session(gateway, **{"Sec-Fetch-Site": "same-origin"})

    for header in ("Bearer nonsense", "Basic ???", "nonsense", "Digest x"):
        assert (await client.get(WHOAMI, headers={"Authorization": header})).status_code == 401


async def test_the_header_counts_before_the_session(gateway: Gateway) -> None:
    """Mallory's session beside alice's token is alice."""
    client = session(gateway, "mallory", **{"Sec-Fetch-Site": "same-origin"})

    reply = await client.get(WHOAMI, headers={"Authorization": f"Bearer {gateway.tokens['alice']}"})

    assert reply.json()["name"] == "alice"


async def test_an_expired_session_is_nobody(gateway: Gateway) -> None:
    """The next day one logs in again."""
    client = session(gateway, **{"Sec-Fetch-Site": "same-origin"})
    assert (await client.get(WHOAMI)).status_code == 200

    gateway.clock.now += 86400

    assert (await client.get(WHOAMI)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Sec-Fetch-Site": "none"}, 201),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://gateway.test"}, 201),
        ({"Origin": "http://gateway.test"}, 201),
        ({"Sec-Fetch-Site": "same-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site"}, 401),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://gateway.test"}, 401),
        ({"Origin": "http://evil.test"}, 401),
        ({"Origin": "http://x.gateway.test"}, 401),
        ({"Origin": "null"}, 401),
    ],
)
async def test_a_foreign_page_cannot_use_a_credential(gateway: Gateway, headers: dict[str, str], status: int) -> None:
    """A browser that was once told a password sends it along with whatever any page makes it do; programs do not."""
    pair = base64.b64encode(f"alice:{gateway.tokens['alice']}".encode()).decode()
    client = gateway.client(Authorization=f"Basic {pair}", **headers)

    assert (await client.post("/api/v2/clusters", json={})).status_code == status
    assert (await client.get(WHOAMI)).status_code == (200 if status == 201 else 401)


async def test_credentials_come_before_the_body(gateway: Gateway) -> None:
    """Nobody learns from an error of validation what the API expects of those whom it knows."""
    for path in ("/api/v1/clusters/", "/api/v2/clusters"):
        reply = await gateway.client().post(path, content=b"not json")
        assert reply.status_code == 401


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "evil.test/<script>"),
        ("X-Forwarded-Host", "a b"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Prefix", "//evil.test"),
        ("X-Forwarded-Prefix", '/a"b'),
    ],
)
async def test_a_malformed_address_reaches_no_link(gateway: Gateway, header: str, value: str) -> None:
    """What cannot be part of an address is refused before it is written anywhere."""
    reply = await gateway.browser("alice", **{header: value}).get("/")

    assert reply.status_code == 422
    assert value not in reply.text
