"""A hostile dashboard in a real browser: what its scripts can reach, and what they cannot."""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.proxy_rig import TICKET_KEY, Rig
from tidegate.wire.names import TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import Ticket, sign

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]

NAME = "0123456789abcdef"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


class Console:
    """Stands for control: a session in a cookie, a secret for its bearer, and the way to the dashboard."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        if request.path == "/login":
            return web.Response(headers={"Set-Cookie": "session=alice; HttpOnly; SameSite=Lax; Path=/"})
        if "session=alice" not in request.headers.get("Cookie", ""):
            return web.Response(status=401)
        if request.path.startswith(f"/clusters/{NAME}/"):
            ticket = sign(Ticket(NAME, "alice", time.time() + 60, once=str(time.time())), TICKET_KEY)
            page = request.path.removeprefix(f"/clusters/{NAME}")
            location = self.rig.url(f"{TICKET_PATH}?ticket={ticket}&next={page}", f"{NAME}.localhost")
            return web.Response(status=302, headers={"Location": location})
        return web.Response(text="the viewer's clusters")


async def hostile(request: web.BaseRequest) -> web.StreamResponse:
    """Stand for a dashboard of a tenant with bad intentions."""
    if request.path == "/ws":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("from the dashboard")
        await socket.receive()
        return socket
    if request.path == "/sw.js":
        return web.Response(text="self.onfetch = () => {}", content_type="text/javascript")
    return web.Response(
        text="<title>hostile</title>",
        content_type="text/html",
        headers={"Set-Cookie": "session=planted; Domain=localhost", "Service-Worker-Allowed": "/"},
    )


@pytest.fixture
async def console(rig: Rig) -> Console:
    """Return what stands for control."""
    console = Console(rig)
    await rig.api(console)
    await rig.dashboard(NAME, hostile)
    rig.loaded()
    return console


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    """Return a tab of a fresh Chromium."""
    async_api = pytest.importorskip("playwright.async_api")
    async with async_api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        try:
            yield await browser.new_page()
        finally:
            await browser.close()


async def attempt(page: Any, script: str) -> str:
    """Run an attack in the page; return what it got, or the name of what stopped it."""
    return str(await page.evaluate(f"(async () => {{ try {{ {script} }} catch (e) {{ return 'stopped' }} }})()"))


async def test_a_hostile_dashboard_stays_on_its_host(rig: Rig, console: Console, page: Any):
    """Logged in, sent through a ticket to the dashboard's own host; from there no script reaches the API."""
    main = rig.url("")
    await page.goto(f"{main}/login")
    await page.goto(f"{main}/clusters/{NAME}/status")
    assert page.url == rig.url("/status", f"{NAME}.localhost")
    assert await page.title() == "hostile"

    for host in ("127.0.0.1", "localhost"):
        url = rig.url("/api/v2/clusters", host)
        read = f"return await (await fetch('{url}', {{credentials: 'include'}})).text()"
        assert await attempt(page, read) == "stopped"
    own = await attempt(page, "const r = await fetch('/api/v2/clusters'); return r.status + await r.text()")
    assert own == "200<title>hostile</title>"  # its own page again: nothing else is behind this host
    assert "alice" not in await attempt(page, "return document.cookie")
    assert TICKET_COOKIE not in await attempt(page, "return document.cookie")
    worker = "await navigator.serviceWorker.register('/sw.js'); return 'registered'"
    assert await attempt(page, worker) == "stopped"
    frame = f"""const f = document.createElement('iframe'); f.src = '{main}/';
        document.body.append(f); await new Promise(r => f.onload = r); return f.contentDocument.body.innerText"""
    assert await attempt(page, frame) == "stopped"

    cookies = {cookie["name"]: cookie for cookie in await page.context.cookies()}
    assert cookies["session"]["value"] == "alice"
    assert cookies[TICKET_COOKIE]["domain"] == f"{NAME}.localhost"
    assert cookies[TICKET_COOKIE]["httpOnly"]


async def test_a_dashboards_websocket_in_a_browser(rig: Rig, console: Console, page: Any):
    """The dashboard's own page opens it; a page of the gateway, or of another host, does not."""
    await page.goto(rig.url("/login"))
    await page.goto(rig.url(f"/clusters/{NAME}/status"))
    url = rig.url("/ws", f"{NAME}.localhost", "ws")
    listen = f"""return await new Promise((done, failed) => {{
        const s = new WebSocket('{url}'); s.onmessage = m => done(m.data); s.onerror = failed }})"""

    assert await attempt(page, listen) == "from the dashboard"
    await page.goto(rig.url("/login"))
    assert await attempt(page, listen) == "stopped"


async def test_a_closed_dashboard_leads_back_to_the_console(rig: Rig, console: Console, page: Any):
    """A reload after the cluster has ended tells what happened."""
    await page.goto(rig.url("/login"))
    await page.goto(rig.url(f"/clusters/{NAME}/status"))
    rig.proxy.routes.delete(NAME)

    await page.reload()

    assert "no dashboard" in await page.inner_text("body")
    await page.click("text=To the console")
    assert page.url == rig.url("/")
    assert await page.inner_text("body") == "the viewer's clusters"
