"""Dashboards that are shared: whoever sees one by a share, a link or a role, for as long as nothing was withdrawn."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web

from tests.proxy_rig import TICKET_KEY, Rig
from tests.support import eventually
from tests.unit.proxy.test_dashboards import HOST, NAME, NAVIGATE, echo_socket, get, show
from tidegate.wire.names import TICKET_COOKIE, TICKET_PATH
from tidegate.wire.tickets import LINK_USER, Ticket, session_mark, sign

OWNER = Ticket(NAME, "alice", 0.0)
GUEST = Ticket(NAME, "bob", 0.0, epoch=3)
VISITOR = Ticket(NAME, LINK_USER + "ab12", 0.0, epoch=3)


def holding(ticket: Ticket, seconds: float = 60.0) -> dict[str, str]:
    """Return the header of a browser that holds ``ticket`` for so long."""
    text = sign(replace(ticket, expires_at=time.time() + seconds), TICKET_KEY)
    return {"Cookie": f"{TICKET_COOKIE}={text}"}


def opening(ticket: Ticket, seconds: float = 60.0) -> str:
    """Return the path by which ``ticket`` is exchanged for a cookie."""
    once = replace(ticket, expires_at=time.time() + seconds, once=f"word {time.time()}")
    return f"{TICKET_PATH}?ticket={sign(once, TICKET_KEY)}&next={quote('/status', safe='')}"


async def raise_epoch(rig: Rig, epoch: int) -> None:
    """Say what control says when a share was withdrawn."""
    route = rig.proxy.routes.get(NAME)
    assert route is not None
    control = await rig.control()
    await control.ask("put", route=replace(route, share_epoch=epoch).to_json())
    control.close()


@pytest.fixture
async def shared(rig: Rig) -> Rig:
    """A proxy with one dashboard, of share epoch 3."""
    route = await rig.dashboard(NAME, show)
    rig.proxy.routes.put(replace(route, share_epoch=3))
    rig.loaded()
    return rig


async def test_a_ticket_of_the_epoch_shows_the_page(shared: Rig) -> None:
    """An older one does not; the owner's has no epoch, and is good in each. A newer one is not old."""
    expected = {OWNER: 200, GUEST: 200, replace(GUEST, epoch=4): 200, replace(GUEST, epoch=2): 401}
    for ticket, status in expected.items():
        assert (await get(shared, "/status", **holding(ticket))).status == status
    await raise_epoch(shared, 4)
    for ticket, status in (expected | {GUEST: 401}).items():
        assert (await get(shared, "/status", **holding(ticket))).status == status


async def test_an_old_ticket_leads_back_through_the_console(shared: Rig) -> None:
    """Where whoever may still see it gets another one; a visitor by a link is told to open the link again."""
    await raise_epoch(shared, 4)
    guest = await get(shared, "/status?x=1", **holding(GUEST), **NAVIGATE)
    visitor = await get(shared, "/status", **holding(VISITOR), **NAVIGATE)

    assert guest.headers["Location"] == f"http://127.0.0.1:{shared.port}/clusters/{NAME}/status?x=1"
    assert visitor.status == 403
    assert "Open the link again" in await visitor.text()


async def test_an_exchanged_ticket_keeps_its_epoch_and_its_end(shared: Rig) -> None:
    """The cookie ends with the link, and with the epoch; an exchange in a later epoch gives none."""
    ends = replace(VISITOR, until=time.time() + 30)
    async with shared.browser() as browser:
        async with browser.get(shared.url(opening(ends), HOST), allow_redirects=False) as reply:
            age = int(reply.headers["Set-Cookie"].partition("Max-Age=")[2].partition(";")[0])
            assert 25 <= age <= 30
        async with browser.get(shared.url("/status", HOST)) as reply:
            assert reply.status == 200
        late = opening(ends)
        await raise_epoch(shared, 4)
        async with browser.get(shared.url("/status", HOST)) as reply:
            assert reply.status == 403
    refused = await get(shared, late, **NAVIGATE)
    assert "Set-Cookie" not in refused.headers
    over = await get(shared, opening(replace(VISITOR, epoch=4, until=time.time() - 1)), **NAVIGATE)
    assert "Set-Cookie" not in over.headers


@pytest.fixture
async def socketed(rig: Rig) -> Rig:
    """The same with a dashboard that is a WebSocket."""
    route = await rig.dashboard(NAME, echo_socket)
    rig.proxy.routes.put(replace(route, share_epoch=3))
    rig.loaded()
    return rig


async def listen(rig: Rig, browser: aiohttp.ClientSession, headers: dict[str, str]) -> Any:
    """Open a WebSocket and see that it works."""
    origin = {"Origin": f"http://{HOST}:{rig.port}"}
    socket = await browser.ws_connect(rig.url("/status/ws", HOST), headers={**origin, **headers})
    await socket.send_str("hello")
    assert await socket.receive_str(timeout=20) == "hello!"
    return socket


async def test_open_sockets_of_others_end_when_something_is_withdrawn(socketed: Rig) -> None:
    """At once: a guest's and a visitor's; the owner's goes on, and nothing stays behind of those that ended."""
    async with socketed.browser() as browser:
        owner, guest, visitor = [await listen(socketed, browser, holding(ticket)) for ticket in (OWNER, GUEST, VISITOR)]
        await raise_epoch(socketed, 4)
        for socket in (guest, visitor):
            assert (await socket.receive(timeout=20)).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.ERROR,
            )
        await owner.send_str("still here")
        assert await owner.receive_str(timeout=20) == "still here!"
        await eventually(lambda: not socketed.proxy.pages._guests)
        assert socketed.proxy.pages._viewers.counts() == {NAME: 1}


async def test_a_page_that_is_being_loaded_ends_too(rig: Rig) -> None:
    """A guest's download that goes on for ever, too."""
    begun = asyncio.Event()

    async def pour(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 100_000)
        begun.set()
        await asyncio.Event().wait()
        return response

    route = await rig.dashboard(NAME, pour)
    rig.proxy.routes.put(replace(route, share_epoch=3))
    async with rig.browser() as browser:
        reply = await browser.get(rig.url("/status", HOST), headers=holding(GUEST))
        await begun.wait()
        await raise_epoch(rig, 4)
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(reply.content.read(), 20)


async def test_a_socket_ends_with_the_link_by_which_it_was_opened(socketed: Rig) -> None:
    """Nobody withdraws anything: it is over when it is over."""
    async with socketed.browser() as browser:
        socket = await listen(socketed, browser, holding(replace(VISITOR, until=time.time() + 1.0)))
        message = await socket.receive(timeout=20)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)


async def test_what_a_program_was_granted_is_asked_again(shared: Rig) -> None:
    """A yes of control is remembered for the epoch in which it was said: whoever may still look gets another at once,
    and an answer that was on its way meanwhile is none.
    """
    epoch, asked = 3, 0

    async def control(request: web.BaseRequest) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"user": "bob", "epoch": epoch})

    await shared.api(control)

    async def look() -> int:
        path = f"/clusters/{NAME}/status"
        return (await get(shared, path, "127.0.0.1", Authorization="Bearer token")).status

    assert [await look(), await look()] == [200, 200]
    assert asked == 1
    epoch = 4
    await raise_epoch(shared, 4)
    assert await look() == 200
    await raise_epoch(shared, 5)
    assert [await look(), await look()] == [403, 403]
    epoch = 5
    assert await look() == 200


async def test_below_the_gateways_own_host_only_the_owners_ticket_counts(make_rig: Any) -> None:
    """There a page could act with the viewer's session: no ticket of anybody else is taken, should there be one."""
    rig = await make_rig(dashboard_hosts=None)
    route = await rig.dashboard(NAME, show)
    rig.proxy.routes.put(replace(route, share_epoch=3))

    async def console(request: web.BaseRequest) -> web.Response:
        return web.Response(text="the console")

    await rig.api(console)
    mark = session_mark("tidegate-x", "word")
    for ticket, shown in ((replace(OWNER, session=mark), True), (replace(GUEST, session=mark), False)):
        text = sign(replace(ticket, expires_at=time.time() + 60), TICKET_KEY)
        cookies = {"Cookie": f"tidegate-x=word; {TICKET_COOKIE}-{NAME}={text}"}
        reply = await get(rig, f"/clusters/{NAME}/status", "127.0.0.1", **cookies, **NAVIGATE)
        assert ((await reply.text()) != "the console") == shown
