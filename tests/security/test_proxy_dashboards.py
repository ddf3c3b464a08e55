"""Hostile dashboards: pages of a tenant that try to reach beyond their own host."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.proxy_rig import SECRET, TICKET_KEY, Rig
from tidegate.proxy.limits import Limits
from tidegate.wire.names import DASHBOARD_HEADER, TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import Ticket, sign

NAME = "0123456789abcdef"
HOST = f"{NAME}.localhost"
EVIL = {
    "Set-Cookie": "session=stolen; Domain=localhost; Path=/",
    "Set-Cookie2": "a=b",
    "Service-Worker-Allowed": "/",
    "Clear-Site-Data": '"*"',
    "Strict-Transport-Security": "max-age=99999999; includeSubDomains",
    "Alt-Svc": 'h2="evil.example:443"',
    "NEL": "{}",
    "Report-To": "{}",
    "WWW-Authenticate": "Basic",
    "Referrer-Policy": "unsafe-url",
    "Keep-Alive": "timeout=9999",
    "Proxy-Authenticate": "Basic",
}


async def hostile(request: web.BaseRequest) -> web.Response:
    """Stand for a dashboard that tries everything."""
    return web.Response(text="<script>", headers={**EVIL, DASHBOARD_HEADER: request.headers.get(DASHBOARD_HEADER, "")})


@pytest.fixture
async def viewed(rig: Rig) -> Rig:
    """Return a proxy with a hostile dashboard, and a control that must not be reached from there."""

    async def control(request: web.BaseRequest) -> web.Response:
        return web.Response(text="control")

    await rig.api(control)
    await rig.dashboard(NAME, hostile)
    rig.loaded()
    return rig


def ticket() -> dict[str, str]:
    """Return the header of a viewer with a ticket."""
    return {"Cookie": f"{TICKET_COOKIE}={sign(Ticket(NAME, 'alice', time.time() + 60), TICKET_KEY)}"}


async def test_a_dashboard_can_set_nothing_in_the_browser(viewed: Rig):
    """No cookie, no service worker, no policy for a domain, no password prompt; and its secret stays inside."""
    async with viewed.browser() as browser, browser.get(viewed.url("/status", HOST), headers=ticket()) as reply:
        assert await reply.text() == "<script>"
        for name in (*EVIL, DASHBOARD_HEADER):
            if name != "Referrer-Policy":
                assert name not in reply.headers, name
        assert reply.headers.getall("Referrer-Policy") == ["no-referrer"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Content-Security-Policy"] == "frame-ancestors 'self'"


@pytest.mark.parametrize(
    "path", ["/api/v2/clusters", "/api/v1/clusters/", "/", "/login", "/internal/stop-all", "/clusters/x/status"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_nothing_on_a_dashboards_host_reaches_control(viewed: Rig, path: str, method: str):
    """With a ticket or without, with the viewer's credential or not: control is not behind this host."""
    for headers in ({}, ticket(), {"Authorization": "Bearer x"}, {"Cookie": "session=1"}):
        async with viewed.browser() as browser:
            reply = await browser.request(method, viewed.url(path, HOST), headers=headers, allow_redirects=False)
            assert await reply.text() != "control"


async def test_no_service_worker_is_installed(viewed: Rig):
    """It would stay in the browser after the cluster has gone."""
    headers = {**ticket(), "Service-Worker": "script", "Sec-Fetch-Dest": "serviceworker"}
    async with viewed.browser() as browser, browser.get(viewed.url("/sw.js", HOST), headers=headers) as reply:
        assert reply.status == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("mode", "status"), [("no-cors", 403), ("cors", 403), ("navigate", 200)])
async def test_other_pages_load_no_pieces_of_a_dashboard(viewed: Rig, site: str, mode: str, status: int):
    """A neighbour's page has the viewer's cookies sent along, but gets no answer; a link works."""
    headers = {**ticket(), "Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    async with viewed.browser() as browser, browser.get(viewed.url("/json/x", HOST), headers=headers) as reply:
        assert reply.status == status


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://ffffffffffffffff.localhost", "null"])
async def test_other_pages_change_nothing(viewed: Rig, origin: str | None):
    """A form of another page, sent with the viewer's ticket, is refused; the dashboard's own is not."""
    headers = ticket() if origin is None else {**ticket(), "Origin": origin}
    async with viewed.browser() as browser:
        async with browser.post(viewed.url("/api/v1/retire_workers", HOST), headers=headers) as reply:
            assert reply.status == 403
        own = {**ticket(), "Origin": f"http://{HOST}:{viewed.port}"}
        async with browser.post(viewed.url("/api/v1/retire_workers", HOST), headers=own) as reply:
            assert reply.status == 200


@pytest.mark.parametrize(("status", "passed"), [(101, 502), (199, 504), (999, 999)])
async def test_an_answer_without_sense_is_not_passed_on(tmp_path: Path, status: int, passed: int):
    """A switch of protocols that nobody asked for, or an interim answer without a final one, ends here."""
    rig = Rig(tmp_path, limits=Limits(upstream_seconds=0.3))

    async def strange(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, text="x")

    await rig.dashboard(NAME, strange)
    async with rig.browser() as browser, browser.get(rig.url("/status", HOST), headers=ticket()) as reply:
        assert reply.status == passed
    await rig.close()


async def test_a_redirect_of_a_dashboard_is_followed_by_nobody_here(rig: Rig):
    """The proxy fetches nothing else on a dashboard's word."""
    asked: list[str] = []

    async def redirecting(request: web.BaseRequest) -> web.Response:
        asked.append(request.raw_path)
        return web.Response(status=307, headers={"Location": "http://169.254.169.254/latest"})

    await rig.dashboard(NAME, redirecting)
    async with rig.browser() as browser:
        reply = await browser.get(rig.url("/status", HOST), headers=ticket(), allow_redirects=False)
        assert reply.headers["Location"] == "http://169.254.169.254/latest"

    assert asked == ["/status"]


async def test_a_swelling_answer_is_passed_as_it_is(rig: Rig):
    """Compressed bytes are not looked into: a small body that becomes a gigabyte is the browser's own affair."""

    async def bomb(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"\x1f\x8bbomb", headers={"Content-Encoding": "gzip"})

    await rig.dashboard(NAME, bomb)
    async with rig.browser() as browser, browser.get(rig.url("/status", HOST), headers=ticket()) as reply:
        assert await reply.read() == b"\x1f\x8bbomb"


async def test_the_ticket_path_is_not_the_dashboards(viewed: Rig):
    """A page of the tenant cannot stand where tickets are opened."""
    async with viewed.browser() as browser:
        reply = await browser.get(viewed.url(TICKET_PATH, HOST), headers=ticket(), allow_redirects=False)
        assert (reply.status, reply.headers["Location"]) == (302, "/")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 two hundred\r\n\r\n", b"\x00\r\n\r\n", b""])
async def test_the_secret_is_not_in_the_log(rig: Rig, answer: bytes, caplog: pytest.LogCaptureFixture):
    """What a broken dashboard answers is told, and not what it was asked."""

    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()

    route = await rig.scheduler(NAME, broken)
    rig.publish(NAME, 1, dashboard_port=route.port)
    with caplog.at_level(logging.DEBUG):
        async with rig.browser() as browser, browser.get(rig.url("/x?word=hidden", HOST), headers=ticket()) as reply:
            assert reply.status == 502

    assert "no answer from its dashboard" in caplog.text
    for secret in (SECRET, TICKET_KEY, "hidden"):
        assert secret not in caplog.text
