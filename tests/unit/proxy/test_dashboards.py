"""Dashboards: who sees them, by which way, and what passes between a browser and a tenant's page."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from tests.proxy_rig import SECRET, TICKET_KEY, Authority, Rig, short_limits
from tests.support import eventually
from tidegate.proxy.access import Admitted
from tidegate.proxy.doors import Door
from tidegate.proxy.tickets import UsedTickets
from tidegate.wire.names import DASHBOARD_HEADER, TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import COOKIE_SECONDS, Ticket, session_mark, sign

NAME = "0123456789abcdef"
HOST = f"{NAME}.localhost"
NAVIGATE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


async def show(request: web.BaseRequest) -> web.StreamResponse:
    """Stand for a dashboard: tell what arrived."""
    if request.raw_path.startswith("/moved"):
        return web.Response(status=302, headers={"Location": request.query.get("to", "/status")})
    seen = {"path": request.raw_path, "headers": {key.lower(): value for key, value in request.headers.items()}}
    return web.Response(text=json.dumps(seen), content_type="text/html")


async def echo_socket(request: web.BaseRequest) -> web.StreamResponse:
    """Stand for Bokeh's WebSocket."""
    socket = web.WebSocketResponse(protocols=("bokeh",))
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            await socket.send_bytes(message.data[::-1])
        elif message.data == "close":
            await socket.close(code=4321, message=b"as you wish")
        else:
            await socket.send_str(message.data + "!")
    return socket


def cookie(secret: str = TICKET_KEY, cluster: str = NAME, expires_in: float = 60, once: str = "") -> dict[str, str]:
    """Return the header with a ticket in it."""
    ticket = sign(Ticket(cluster, "alice", time.time() + expires_in, once), secret)
    return {"Cookie": f"other=1; {TICKET_COOKIE}={ticket}"}


def link(following: str = "/status", *, secret: str = TICKET_KEY, expires_in: float = 60, once: str = "word") -> str:
    """Return the path of a link with a one-time ticket."""
    ticket = sign(Ticket(NAME, "alice", time.time() + expires_in, once), secret)
    return f"{TICKET_PATH}?ticket={ticket}&next={quote(following, safe='')}"


@pytest.fixture
async def shown(rig: Rig) -> Rig:
    """Return a proxy with one dashboard."""
    await rig.dashboard(NAME, show)
    rig.loaded()
    return rig


async def get(rig: Rig, path: str, host: str = HOST, **headers: str) -> aiohttp.ClientResponse:
    """Get a page, without following redirects; the body is read."""
    async with rig.browser() as browser:
        reply = await browser.get(rig.url(path, host), headers=headers, allow_redirects=False)
        await reply.read()
        return reply


# The ticket.


async def test_with_a_ticket_the_page_is_shown(shown: Rig):
    """It comes from the dashboard, which was asked with the secret header and for the client's own host."""
    reply = await get(shown, "/status?a=%20b", **cookie())
    seen = json.loads(await reply.text())

    assert reply.status == 200
    assert seen["path"] == "/status?a=%20b"
    assert seen["headers"][DASHBOARD_HEADER.lower()] == SECRET
    assert seen["headers"]["host"] == f"{HOST}:{shown.port}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": f"{TICKET_COOKIE}="},
        {"Cookie": f"{TICKET_COOKIE}=nonsense.nonsense"},
        {"Cookie": f"{TICKET_COOKIE}=é.ü"},
        cookie(secret="another cluster's"),
        cookie(secret=SECRET),
        cookie(cluster="another"),
        cookie(expires_in=-1),
        cookie(once="word"),
        {"Authorization": "Bearer whatever"},
    ],
)
async def test_without_a_ticket_nothing_is_shown(shown: Rig, headers: dict[str, str]):
    """No ticket, a forged, foreign or old one, or the one-time ticket of a link: a program gets 401."""
    reply = await get(shown, "/status", **headers)

    assert reply.status == 401
    assert "console" in (await reply.json())["error"]


async def test_a_browser_without_a_ticket_is_sent_to_the_console(shown: Rig):
    """... to the same page, where the login is; the port is the one that the browser used."""
    reply = await get(shown, "/status?x=1", **NAVIGATE)

    assert reply.status == 302
    assert reply.headers["Location"] == f"http://127.0.0.1:{shown.port}/clusters/{NAME}/status?x=1"


async def test_the_console_is_at_the_public_address(make_rig):
    """Where there is one, it is used, prefix and all."""
    rig = await make_rig(public_url="https://gw.example.org/services/dask-gateway")
    await rig.dashboard(NAME, show)

    reply = await get(rig, "/status", **NAVIGATE)

    assert reply.headers["Location"] == f"https://gw.example.org/services/dask-gateway/clusters/{NAME}/status"


async def test_strangers_cannot_tell_an_unknown_cluster_from_a_known_one(shown: Rig):
    """Without a valid ticket the answers are the same, but for the name that was asked for."""
    for headers in ({}, NAVIGATE, {"Cookie": f"{TICKET_COOKIE}=nonsense"}):
        known = await get(shown, "/status", **headers)
        unknown = await get(shown, "/status", "f" * 16 + ".localhost", **headers)

        assert known.status == unknown.status
        assert await known.text() == await unknown.text()
        assert list(known.headers) == list(unknown.headers)


async def test_over_https_no_other_host_can_replace_the_cookie(make_rig):
    """Browsers hold its name to that, also where TLS ends at another proxy; and then it opens the page."""
    rig = await make_rig(public_url="https://gateway.example.org")
    await rig.dashboard(NAME, show)
    rig.loaded()

    reply = await get(rig, link())

    name, _, rest = reply.headers["Set-Cookie"].partition("=")
    value, _, attributes = rest.partition(";")
    assert name == f"__Host-{TICKET_COOKIE}"
    assert {"Path=/", "HttpOnly", "SameSite=Lax", "Secure"} <= set(attributes.strip().split("; "))
    assert (await get(rig, "/status", Cookie=f"{name}={value}")).status == 200


async def test_strangers_cannot_tell_by_a_link_either(shown: Rig):
    """A link without a good ticket leads to the same place, whether the cluster is there or not."""
    for path in (f"{TICKET_PATH}?next=/x", f"{TICKET_PATH}?ticket=a.b&next=/x", TICKET_PATH):
        known = await get(shown, path, **NAVIGATE)
        unknown = await get(shown, path, "f" * 16 + ".localhost", **NAVIGATE)

        assert known.status == unknown.status == 302
        assert known.headers["Location"] == unknown.headers["Location"].replace("f" * 16, NAME)


async def test_a_link_is_exchanged_for_a_cookie(shown: Rig):
    """A browser that follows the link holds a cookie of this host alone, and sees the page that the link named."""
    async with shown.browser() as browser:
        async with browser.get(shown.url(link("/status?x=1"), HOST), allow_redirects=False) as reply:
            assert (reply.status, reply.headers["Location"]) == (302, "/status?x=1")
            attributes = reply.headers["Set-Cookie"].partition(";")[2]
            assert attributes == f" Max-Age={COOKIE_SECONDS:.0f}; Path=/; HttpOnly; SameSite=Lax"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
        async with browser.get(shown.url("/status", HOST)) as reply:
            assert reply.status == 200
        async with browser.get(shown.url("/status", "f" * 16 + ".localhost")) as reply:
            assert reply.status == 401


async def test_a_link_works_once(shown: Rig):
    """A second browser gets nothing from it; the first one, going back in its history, sees its page."""
    path = link()
    async with shown.browser() as browser:
        async with browser.get(shown.url(path, HOST), allow_redirects=False) as reply:
            assert "Set-Cookie" in reply.headers
        async with browser.get(shown.url(path, HOST), allow_redirects=False) as reply:
            assert (reply.status, reply.headers["Location"]) == (302, "/status")
            assert "Set-Cookie" not in reply.headers
    stranger = await get(shown, path, **NAVIGATE)
    assert stranger.headers["Location"] == f"http://127.0.0.1:{shown.port}/clusters/{NAME}/status"


@pytest.mark.parametrize(
    "path",
    [link(expires_in=-1), link(once=""), link(secret="another"), TICKET_PATH, f"{TICKET_PATH}?ticket=x&next=/status"],
)
async def test_a_bad_link_opens_nothing(shown: Rig, path: str):
    """Old, without the one-time word, forged, empty: back to the console, without a cookie."""
    reply = await get(shown, path, **NAVIGATE)

    assert reply.status == 302
    assert reply.headers["Location"].startswith(f"http://127.0.0.1:{shown.port}/clusters/{NAME}/")
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize(
    "following", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nSet-Cookie: x=1", "\\\\evil"]
)
async def test_a_link_leads_nowhere_else(shown: Rig, following: str):
    """Whatever ``next`` says, the browser stays on this host."""
    reply = await get(shown, link(following))
    assert (reply.status, reply.headers["Location"]) == (302, "/")

    refused = await get(shown, link(following, expires_in=-1), **NAVIGATE)
    assert refused.headers["Location"] == f"http://127.0.0.1:{shown.port}/clusters/{NAME}/"


async def test_a_cookie_over_https_stays_there(make_rig, tmp_path):
    """With TLS the cookie is Secure."""
    cert, key = Authority().leaf(tmp_path, "localhost")
    rig = await make_rig(tls_cert=cert, tls_key=key)
    await rig.dashboard(NAME, show)
    async with rig.browser() as browser:
        reply = await browser.get(rig.url(link(), HOST, "https"), ssl=False, allow_redirects=False)
        assert reply.headers["Set-Cookie"].endswith("; Secure")


async def test_another_cookie_of_that_name_does_no_harm(shown: Rig):
    """A neighbour may plant a cookie for the common domain; the right one counts."""
    right = cookie()["Cookie"].partition("; ")[2]

    reply = await get(shown, "/status", Cookie=f"{TICKET_COOKIE}=planted; {right}")

    assert reply.status == 200


# What does not pass.


async def test_the_viewers_secrets_do_not_reach_the_dashboard(shown: Rig):
    """Neither cookies nor credentials, nor a secret header of the client's own making."""
    headers = {"Authorization": "Bearer mine", DASHBOARD_HEADER: "guess", "X-Forwarded-For": "1.2.3.4", **cookie()}
    seen = json.loads(await (await get(shown, "/status", **headers)).text())

    assert "cookie" not in seen["headers"]
    assert "authorization" not in seen["headers"]
    assert "x-forwarded-for" not in seen["headers"]
    assert seen["headers"][DASHBOARD_HEADER.lower()] == SECRET


async def test_only_the_clusters_own_authority_is_trusted(rig: Rig):
    """Another process that has got hold of the port cannot pretend to be the dashboard."""
    await rig.dashboard(NAME, show, authority=Authority())

    assert (await get(rig, "/status", **cookie())).status == 502


async def test_the_name_in_the_certificate_counts(rig: Rig):
    """Another server of the same authority is not the dashboard."""
    route = await rig.dashboard("other", show)
    rig.publish(NAME, 1, dashboard_port=route.dashboard_port)

    assert (await get(rig, "/status", **cookie())).status == 502


async def test_our_own_address_is_no_dashboard(rig: Rig):
    """An agent that reports the gateway's port as its dashboard's gets no loop."""
    rig.publish(NAME, 1, dashboard_port=rig.port)

    assert (await get(rig, "/status", **cookie())).status == 404


async def test_a_cluster_without_a_dashboard_says_so(rig: Rig):
    """Bokeh may not be installed there."""
    rig.publish(NAME, 1)
    reply = await get(rig, "/status", **cookie(), **NAVIGATE)

    assert reply.status == 404
    assert "has no dashboard" in await reply.text()


async def test_a_withdrawn_cluster_is_explained_to_who_had_a_ticket(shown: Rig):
    """The page says what happened and leads to the console; without a ticket there is nothing to learn."""
    shown.proxy.routes.delete(NAME)

    reply = await get(shown, "/status", **cookie(), **NAVIGATE)
    assert reply.status == 404
    assert f'href="http://127.0.0.1:{shown.port}/"' in await reply.text()
    assert (await get(shown, "/status")).status == 401


async def test_a_scheduler_that_is_too_busy_to_answer(make_rig):
    """The page says so, after a while."""
    rig = await make_rig(limits=short_limits(upstream_seconds=0.2))

    async def never(request: web.BaseRequest) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    await rig.dashboard(NAME, never)
    reply = await get(rig, "/status", **cookie(), **NAVIGATE)

    assert reply.status == 504
    assert "busy" in await reply.text()


async def test_page_loads_have_a_pace(make_rig):
    """Too many pages would keep the scheduler from its work: 429 and when to come back; files and sockets are free."""
    rig = await make_rig(limits=short_limits(page_burst=2, pages_per_second=0.1))
    await rig.dashboard(NAME, show)
    statuses = [(await get(rig, "/status", **cookie())).status for _ in range(3)]
    refused = await get(rig, "/status", **cookie(), **NAVIGATE)

    assert statuses == [200, 200, 429]
    assert 1 <= int(refused.headers["Retry-After"]) <= 10
    assert "too often" in await refused.text()
    assert (await get(rig, "/statics/css/base.css", **cookie())).status == 200


# WebSockets.


@pytest.fixture
async def socketed(rig: Rig) -> Rig:
    """Return a proxy with a dashboard that is a WebSocket."""
    await rig.dashboard(NAME, echo_socket)
    return rig


def own_page(rig: Rig) -> dict[str, str]:
    """Return the headers of a WebSocket that the dashboard's own page opens."""
    return {"Origin": f"http://{HOST}:{rig.port}", **cookie()}


async def test_a_websocket_passes_both_ways(socketed: Rig):
    """Text, bytes, pings, the subprotocol and the reason of the end."""
    async with socketed.browser() as browser:
        socket = await browser.ws_connect(
            socketed.url("/status/ws", HOST), headers=own_page(socketed), protocols=("bokeh", "a-long-token")
        )
        assert socket.protocol == "bokeh"
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=20) == "hello!"
        await socket.send_bytes(b"\x00\xff" * 100_000)
        assert await socket.receive_bytes(timeout=20) == b"\xff\x00" * 100_000
        await socket.ping()
        await socket.send_str("close")
        message = await socket.receive(timeout=20)
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4321, "as you wish")


async def test_a_message_of_a_browser_has_a_size(socketed: Rig):
    """A megabyte is held for it until it is complete, and no more; a dashboard may say more."""
    async with socketed.browser() as browser:
        socket = await browser.ws_connect(socketed.url("/ws", HOST), headers=own_page(socketed))
        await socket.send_bytes(b"x" * (2**20 + 1))
        message = await socket.receive(timeout=20)

    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    assert message.data == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_a_cluster_has_so_many_websockets(make_rig):
    """One more is refused with the number; when one is closed there is room again, and others are not concerned."""
    rig = await make_rig(limits=short_limits(websockets_per_cluster=2))
    await rig.dashboard(NAME, echo_socket)
    async with rig.browser() as browser:
        sockets = [await browser.ws_connect(rig.url("/ws", HOST), headers=own_page(rig)) for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(rig.url("/ws", HOST), headers=own_page(rig))
        assert refused.value.status == 429

        await sockets[0].close()
        await eventually(lambda: rig.proxy.pages._sockets[NAME] < 2)
        await browser.ws_connect(rig.url("/ws", HOST), headers=own_page(rig))


async def test_a_websocket_is_not_compressed(rig: Rig):
    """On neither side, whatever the client offers: no message can swell in here."""
    offered: list[bool] = []

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        offered.append("Sec-WebSocket-Extensions" in request.headers)
        return await echo_socket(request)

    await rig.dashboard(NAME, note)
    async with rig.browser() as browser:
        socket = await browser.ws_connect(rig.url("/ws", HOST), headers=own_page(rig), compress=15)
        assert socket.compress == 0
        await socket.close()
    assert offered == [False]


@pytest.mark.parametrize(
    "change",
    [
        {"Cookie": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "http://ffffffffffffffff.localhost"},
        {"Origin": "null"},
        {"Origin": None},
    ],
)
async def test_a_websocket_needs_a_ticket_and_the_own_page(socketed: Rig, change: dict[str, str | None]):
    """Browsers send cookies with WebSockets of any page: the origin decides."""
    headers = {key: value for key, value in {**own_page(socketed), **change}.items() if value is not None}
    async with socketed.browser() as browser:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await browser.ws_connect(socketed.url("/ws", HOST), headers=headers)

    assert refused.value.status in (401, 403)


async def test_open_pages_end_with_their_cluster(socketed: Rig):
    """When the route is withdrawn, or its secret is another, WebSockets are cut."""
    async with socketed.browser() as browser:
        for end in (
            lambda: socketed.proxy.routes._on_secret_changed(NAME),
            lambda: socketed.proxy.routes.delete(NAME),
        ):
            socket = await browser.ws_connect(socketed.url("/ws", HOST), headers=own_page(socketed))
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=20) == "hello!"
            end()
            message = await socket.receive(timeout=20)
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)


async def open_socket(browser: aiohttp.ClientSession, rig: Rig, ticket: Ticket) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket with a ticket, and see that it works."""
    bears = {"Cookie": f"{TICKET_COOKIE}={sign(ticket, TICKET_KEY)}", "Origin": f"http://{HOST}:{rig.port}"}
    socket = await browser.ws_connect(rig.url("/ws", HOST), headers=bears)
    await socket.send_str("hello")
    assert await socket.receive_str(timeout=20) == "hello!"
    return socket


async def test_a_page_ends_with_what_vouched_for_its_viewer(socketed: Rig):
    """A session or a token that has ended: what is open is cut, and the ticket opens nothing more; others go on."""
    soon = time.time() + 60
    ended = Ticket(NAME, "alice", soon, by=("session 1", "token 1"))
    other = Ticket(NAME, "alice", soon, by=("session 2", "token 1"))
    async with socketed.browser() as browser:
        mine, another = await open_socket(browser, socketed, ended), await open_socket(browser, socketed, other)

        socketed.proxy.end_vouched("session 1")

        assert (await mine.receive(timeout=20)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        await another.send_str("still here")
        assert await another.receive_str(timeout=20) == "still here!"
        header = {"Cookie": f"{TICKET_COOKIE}={sign(ended, TICKET_KEY)}"}
        assert (await get(socketed, "/status", **header)).status == 401
        once = sign(replace(ended, once="word"), TICKET_KEY)
        assert (await get(socketed, f"{TICKET_PATH}?ticket={once}&next=%2Fstatus")).status == 401

        socketed.proxy.end_vouched("token 1")
        assert (await another.receive(timeout=20)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)


async def test_a_page_ends_when_its_session_would(socketed: Rig):
    """Not when its cookie does, which is renewed by the next page."""
    now = time.time()
    async with socketed.browser() as browser:
        ends = await open_socket(browser, socketed, Ticket(NAME, "alice", now + 60, until=now + 1.5))
        stays = await open_socket(browser, socketed, Ticket(NAME, "alice", now + 1.5, until=now + 60))

        assert (await ends.receive(timeout=20)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE)
        await stays.send_str("still here")
        assert await stays.receive_str(timeout=20) == "still here!"


async def test_a_client_that_leaves_closes_the_upstreams_socket(rig: Rig):
    """Nothing stays open at the scheduler for a tab that was closed."""
    ended = asyncio.Event()

    async def wait(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        ended.set()
        return socket

    await rig.dashboard(NAME, wait)
    async with rig.browser() as browser:
        socket = await browser.ws_connect(rig.url("/ws", HOST), headers=own_page(rig))
        socket._response.close()
    await asyncio.wait_for(ended.wait(), 20)
    await eventually(lambda: not rig.proxy.pages._viewers)


# Programs, and path mode.


def granting(status: int = 200, calls: list[Any] | None = None):
    """Stand for control: answer questions about access, and tell everything else apart."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/internal/dashboard-access":
            if calls is not None:
                calls.append((await request.json(), request.headers["Authorization"]))
            if status == 401:
                return web.json_response({"error": "no"}, status=401, headers={"WWW-Authenticate": "Basic"})
            return web.json_response({"user": "alice"} if status == 200 else {"error": "no"}, status=status)
        return web.Response(text="the console")

    return answer


async def test_a_program_shows_its_credential(shown: Rig):
    """On the gateway's own host, below the cluster's path; control is asked once and remembered."""
    calls: list[Any] = []
    await shown.api(granting(calls=calls))
    path = f"/clusters/{NAME}/status?x=1"
    for _ in range(2):
        reply = await get(shown, path, "127.0.0.1", Authorization="Bearer token")
        assert reply.status == 200
        seen = json.loads(await reply.text())

    assert seen["path"] == "/status?x=1"
    assert "authorization" not in seen["headers"]
    assert calls == [({"cluster": NAME, "client": "127.0.0.1"}, "Bearer token")]


async def test_a_ticket_of_kerberos_is_never_remembered(shown: Rig):
    """Control's protection against its replay sees each one."""
    calls: list[Any] = []
    await shown.api(granting(calls=calls))
    for scheme in ("Negotiate", "negotiate"):
        for _ in range(2):
            assert (await get(shown, f"/clusters/{NAME}/x", "127.0.0.1", Authorization=f"{scheme} abc")).status == 200

    assert len(calls) == 4


async def test_what_a_program_gets_is_a_sandbox(shown: Rig):
    """Should it be a browser after all, the page's scripts do not run on the console's origin."""
    await shown.api(granting())

    reply = await get(shown, f"/clusters/{NAME}/status", "127.0.0.1", Authorization="Basic x")

    assert "sandbox" in reply.headers.getall("Content-Security-Policy")


async def test_a_browser_with_a_remembered_password_is_no_program(shown: Rig):
    """It is sent to control, and from there to the dashboard's own host."""
    await shown.api(granting())

    reply = await get(shown, f"/clusters/{NAME}/status", "127.0.0.1", Authorization="Basic x", **NAVIGATE)

    assert await reply.text() == "the console"


@pytest.mark.parametrize("status", [401, 404])
async def test_controls_no_is_passed_on_and_asked_for_again(shown: Rig, status: int):
    """The words are control's own, and a second try may be right."""
    calls: list[Any] = []
    await shown.api(granting(status, calls))
    for _ in range(2):
        reply = await get(shown, f"/clusters/{NAME}/status", "127.0.0.1", Authorization="Bearer token")
        assert reply.status == status
        assert await reply.json() == {"error": "no"}
        assert ("WWW-Authenticate" in reply.headers) == (status == 401)

    assert len(calls) == 2


async def test_a_withdrawn_route_forgets_who_was_granted(shown: Rig):
    """A cluster of the same name later is another cluster."""
    calls: list[Any] = []
    await shown.api(granting(calls=calls))
    path = f"/clusters/{NAME}/status"
    await get(shown, path, "127.0.0.1", Authorization="Bearer token")
    shown.proxy.routes.delete(NAME)

    assert (await get(shown, path, "127.0.0.1", Authorization="Bearer token")).status == 404
    assert len(calls) == 2


async def test_without_control_a_program_is_told_to_come_back(make_rig):
    """Nobody can say whether it may."""
    rig = await make_rig(limits=short_limits(restart_seconds=0.1))
    await rig.dashboard(NAME, show)

    assert (await get(rig, f"/clusters/{NAME}/status", "127.0.0.1", Authorization="Bearer token")).status == 503


@pytest.mark.parametrize("origin", ["http://evil.test", f"http://{HOST}", "null"])
async def test_a_foreign_page_uses_no_remembered_password(shown: Rig, origin: str):
    """A browser too old to say that it is one still says where the page is from that makes it ask; nobody is asked."""
    calls: list[Any] = []
    await shown.api(granting(calls=calls))
    path = f"/clusters/{NAME}/status"

    foreign = await get(shown, path, "127.0.0.1", Authorization="Basic x", Origin=origin)
    own = await get(shown, path, "127.0.0.1", Authorization="Basic x", Origin=shown.url("").rstrip("/"))

    assert (foreign.status, own.status, len(calls)) == (403, 200, 1)


async def test_a_programs_websocket(rig: Rig):
    """It has no origin; its credential is enough."""
    await rig.dashboard(NAME, echo_socket)
    await rig.api(granting())
    async with rig.browser() as browser:
        socket = await browser.ws_connect(rig.url(f"/clusters/{NAME}/ws"), headers={"Authorization": "Bearer token"})
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=20) == "hello!"
        await socket.close()


@pytest.mark.parametrize("end", ["expires", "is revoked"])
async def test_a_programs_websocket_ends_with_its_token(rig: Rig, end: str):
    """At its end, or at once when it is revoked; the one that was opened by another token goes on."""
    route = await rig.dashboard(NAME, echo_socket)
    rig.proxy.routes.put(route)

    async def control(request: web.BaseRequest) -> web.Response:
        mine = request.headers["Authorization"] == "Bearer mine"
        until = time.time() + (1.0 if mine and end == "expires" else 60.0)
        return web.json_response({"user": "alice", "epoch": None, "until": until, "by": ["1" if mine else "2"]})

    await rig.api(control)
    url = rig.url(f"/clusters/{NAME}/ws")
    async with rig.browser() as browser:
        mine, other = [
            await browser.ws_connect(url, headers={"Authorization": f"Bearer {token}"}) for token in ("mine", "other")
        ]
        for socket in (mine, other):
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=20) == "hello!"
        if end == "is revoked":
            rig.proxy.end_vouched("1")
        message = await mine.receive(timeout=20)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
        await other.send_str("still here")
        assert await other.receive_str(timeout=20) == "still here!"
        await other.close()


def test_what_a_program_has_open_ends_in_any_case(tmp_path: Path):
    """With its credential if that is known, after a quarter of an hour if not, and never later than that."""
    door = Door(UsedTickets(tmp_path), lambda: 1000.0)
    open_for = {None: 900.0, 1060.0: 60.0, 5000.0: 900.0}
    for until, seconds in open_for.items():
        viewer = door.admit(Admitted(None, until))
        assert viewer is not None
        assert viewer.seconds == seconds
    assert door.admit(Admitted(None, 1000.0)) is None
    door.end("1")
    assert door.admit(Admitted(None, 1060.0, ("1",))) is None


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("/status", "{base}/status"),
        ("status", "status"),
        ("https://elsewhere.example/x", "https://elsewhere.example/x"),
        ("http://127.0.0.1:{port}/x?y", "{base}/x?y"),
    ],
)
async def test_redirects_below_a_path_are_translated(make_rig, to: str, location: str):
    """The dashboard does not know where it is mounted."""
    rig = await make_rig(prefix="/services/gw")
    await rig.dashboard(NAME, show)
    await rig.api(granting())
    base = f"/services/gw/clusters/{NAME}"
    to = quote(to.format(port=rig.port), safe="")

    reply = await get(rig, f"{base}/moved?to={to}", "127.0.0.1", Authorization="Bearer token")

    assert reply.headers["Location"] == location.format(base=base)


SESSION = "tidegate-0a1b2c3d"
OWNERS, BOBS = "YWxpY2U=.5e55", "Ym9i.5e55"
"""Values of session cookies."""


def below_ticket(session: str) -> str:
    """Return a ticket for a page below the gateway's own host, given in this session."""
    return sign(Ticket(NAME, "alice", time.time() + 60, session=session_mark(f"__Host-{SESSION}", session)), TICKET_KEY)


@pytest.mark.parametrize(
    "bearing",
    [
        {},
        {"Cookie": f"{SESSION}={BOBS}"},
        {"Cookie": f"{SESSION}={BOBS}; {SESSION}={OWNERS}"},
        {"Cookie": f"{SESSION}={OWNERS}; {SESSION}={BOBS}"},
        {"Cookie": f"{SESSION}={OWNERS}; __Host-{SESSION}={BOBS}"},
        {"Cookie": f"{SESSION}={OWNERS}; __Secure-{SESSION}={BOBS}"},
        {"Cookie": f"{SESSION}-x={OWNERS}"},
        {"Cookie": f"{SESSION}={OWNERS}", "Authorization": "Basic bob", "Sec-Fetch-Mode": "navigate"},
    ],
)
async def test_a_planted_ticket_shows_nothing_beside_another_session(make_rig, bearing: dict[str, str]):
    """Cookies ignore ports: the owner can plant theirs in anyone's browser, their whole session with it."""
    rig = await make_rig(dashboard_hosts=None)
    await rig.dashboard(NAME, show)
    await rig.api(granting())
    for ticket in (below_ticket(OWNERS), cookie()["Cookie"].partition(f"{TICKET_COOKIE}=")[2]):
        planted = f"{TICKET_COOKIE}-{NAME}={ticket}"
        headers = {**bearing, "Cookie": "; ".join(filter(None, (planted, bearing.get("Cookie"))))}

        reply = await get(rig, f"/clusters/{NAME}/status", "127.0.0.1", **headers)

        assert await reply.text() == "the console"


@pytest.mark.parametrize("sent", [f"{SESSION}={OWNERS}", f'{SESSION}="{OWNERS}"', f"__Secure-{SESSION}={OWNERS}"])
async def test_the_owners_session_is_known_however_its_cookie_is_written(make_rig, sent: str):
    """In quotes or without, by http or https."""
    rig = await make_rig(dashboard_hosts=None)
    await rig.dashboard(NAME, show)
    ticket = f"{TICKET_COOKIE}-{NAME}={below_ticket(OWNERS)}"

    assert (await get(rig, f"/clusters/{NAME}/status", "127.0.0.1", Cookie=f"{ticket}; {sent}")).status == 200


async def test_path_mode_shows_dashboards_to_ticket_holders(make_rig):
    """Without hosts of their own, dashboards are below the gateway's; who has no ticket is control's to answer."""
    rig = await make_rig(dashboard_hosts=None)
    await rig.dashboard(NAME, show)
    await rig.api(granting())
    ticket, path = below_ticket(OWNERS), f"/clusters/{NAME}/status"

    with_ticket = await get(rig, path, "127.0.0.1", Cookie=f"{SESSION}={OWNERS}; {TICKET_COOKIE}-{NAME}={ticket}")
    assert json.loads(await with_ticket.text())["path"] == "/status"
    assert "cookie" not in json.loads(await with_ticket.text())["headers"]
    for headers in ({}, {"Cookie": f"{TICKET_COOKIE}-{NAME}=nonsense"}, {"Cookie": f"{TICKET_COOKIE}={ticket}"}):
        assert await (await get(rig, path, "127.0.0.1", **headers)).text() == "the console"
    assert (await get(rig, "/status", HOST, **cookie())).status != 200


async def test_tickets_in_cookies_open_no_path_where_dashboards_have_hosts(shown: Rig):
    """The page must not run on the console's origin."""
    await shown.api(granting())
    ticket = cookie()["Cookie"].partition(f"{TICKET_COOKIE}=")[2]

    reply = await get(shown, f"/clusters/{NAME}/status", "127.0.0.1", Cookie=f"{TICKET_COOKIE}-{NAME}={ticket}")

    assert await reply.text() == "the console"
