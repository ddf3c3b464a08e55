"""Who sees a dashboard: every way to its pages and its WebSockets, by everybody, through the proxy.

The real application answers behind a real proxy. The table says what each viewer gets on each way:

console
    A browser with a session goes to the dashboard by the console, which gives a ticket and sends it on.
direct
    The same browser, without a ticket, goes to the dashboard's own host.
page, socket
    With the ticket (for a link: that it gave), to the dashboard's own host, from the dashboard's own page.
foreign socket, pageless socket
    The same WebSocket, opened by a page of the console, and by a program that names no page.
other page, other socket
    With the ticket, to the dashboard of another cluster.
program, program's socket
    With a token, below the gateway's own host.
page after, socket after
    With the same ticket, after the owner has withdrawn a share.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict

from tests.in_process import DAY, gateway_in_process
from tests.proxy_rig import SECRET, Rig
from tests.security.callers import ROSTER, House
from tests.security.front import unix_server
from tidegate.model.principal import Principal
from tidegate.proxy.limits import Limits
from tidegate.wire.proxy import Route

TABLE = """
#                nobody stranger withdrawn view group use owner admin link
console             303      404       404  302   302 302   302   302  302
direct              401      401       401  401   401 401   401   401  401
page                  -        -         -  200   200 200   200   200  200
socket                -        -         -  101   101 101   101   101  101
foreign_socket        -        -         -  403   403 403   403   403  403
pageless_socket       -        -         -  403   403 403   403   403  403
other_page            -        -         -  401   401 401   401   401  401
other_socket          -        -         -  401   401 401   401   401  401
program             401      404       404  200   200 200   200   200    -
program_socket      401      404       404  101   101 101   101   101    -
page_after            -        -         -  401   401 401   200   401  403
socket_after          -        -         -  401   401 401   101   401  403
"""

PEOPLE = {
    "nobody": "",
    "stranger": "mallory",
    "withdrawn": "wally",
    "view": "vera",
    "group": "gwen",
    "use": "ursula",
    "owner": "alice",
    "admin": "root",
    "link": "",
}

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def dashboard(request: web.BaseRequest) -> web.StreamResponse:
    """Stand for a scheduler's dashboard."""
    assert request.headers["X-Tidegate-Dashboard"] == SECRET
    if request.headers.get("Upgrade") != "websocket":
        return web.Response(text="the dashboard")
    opened = web.WebSocketResponse()
    await opened.prepare(request)
    await opened.receive()
    return opened


class Street:
    """A proxy with a house behind it, and two dashboards.

    Parameters
    ----------
    rig : Rig
    house : House
    """

    def __init__(self, rig: Rig, house: House) -> None:
        self.rig = rig
        self.house = house
        self.name = ""
        self.other = ""

    async def build(self) -> None:
        """Make two clusters of alice's, with their dashboards."""
        names = []
        for _ in range(2):
            names.append((await self.house.cluster()).name)
            way = await self.rig.dashboard(names[-1], dashboard)
            credentials = await self.house.gateway.store.credentials(names[-1])
            self.rig.proxy.routes.put(replace(way, ticket_key=credentials.ticket_key, share_epoch=1))
        self.rig.loaded()
        self.name, self.other = names

    async def end_epoch(self) -> None:
        """Withdraw something, as control does: the record first, then the way."""
        await self.house.gateway.services.shares.withdraw(Principal("alice"), self.name, "user:vera")
        cluster = await self.house.gateway.store.load(self.name)
        way = self.rig.proxy.routes.get(self.name)
        assert isinstance(way, Route)
        self.rig.proxy.routes.put(replace(way, share_epoch=cluster.share_epoch))

    async def ask(self, host: str, path: str, **headers: str) -> tuple[int, CIMultiDict[str], bytes]:
        """Ask the proxy, as a host of its own; of a WebSocket, for its opening."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        names["Host"] = f"{host}:{self.rig.port}"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            url = f"http://127.0.0.1:{self.rig.port}{path}"
            async with session.get(url, headers=names, allow_redirects=False) as reply:
                body = b"" if reply.status == 101 else await reply.read()
                told = CIMultiDict((k, v) for k, v in reply.headers.items() if k.lower() != "date")
                return reply.status, told, body

    def origin(self, host: str) -> str:
        """Return what a browser calls a page of that host."""
        return f"http://{host}:{self.rig.port}"


class Viewer:
    """Somebody with their credentials.

    Parameters
    ----------
    street : Street
    column : str
    session, token : str
        What they show, empty for nothing.
    link : str
        The path of a link.
    """

    def __init__(self, street: Street, column: str, session: str, token: str, link: str) -> None:
        self.street = street
        self.column = column
        self.session = {"Cookie": session} if session else {}
        self.token = {"Authorization": f"Bearer {token}"} if token else {}
        self.link = link
        self.ticket = ""

    async def go(self, way: str) -> str:
        """Take a way; return the status, or ``-`` where there is none for them."""
        street, host, other = self.street, f"{self.street.name}.localhost", f"{self.street.other}.localhost"
        ticket, own = {"Cookie": self.ticket}, {"Origin": street.origin(host)}
        asked: dict[str, tuple[str, str, dict[str, str]]] = {
            "direct": (host, "/status", self.session),
            "page": (host, "/status", ticket),
            "socket": (host, "/ws", {**ticket, **HANDSHAKE, **own}),
            "foreign_socket": (host, "/ws", {**ticket, **HANDSHAKE, "Origin": street.origin("localhost")}),
            "pageless_socket": (host, "/ws", {**ticket, **HANDSHAKE}),
            "other_page": (other, "/status", ticket),
            "other_socket": (other, "/ws", {**ticket, **HANDSHAKE, "Origin": street.origin(other)}),
            "program": ("localhost", f"/clusters/{street.name}/status", self.token),
            "program_socket": ("localhost", f"/clusters/{street.name}/ws", {**self.token, **HANDSHAKE}),
        }
        if way == "console":
            return await self._console()
        way = way.removesuffix("_after")
        at, path, headers = asked[way]
        if (way.startswith("program") and self.link) or not headers.get("Cookie", "nothing to show"):
            return "-"
        status, _, body = await street.ask(at, path, **headers)
        assert (status == 200) == (body == b"the dashboard"), (way, self.column, status, body)
        return str(status)

    async def _console(self) -> str:
        """Go there by the console, or by the link, and keep the ticket."""
        path = self.link or f"/clusters/{self.street.name}/status"
        status, headers, _ = await self.street.ask("localhost", path, Accept="text/html", **self.session)
        if status == 302:
            where = headers["Location"].partition("/_tidegate")
            assert where[0] == self.street.origin(f"{self.street.name}.localhost")
            opened = await self.street.ask(f"{self.street.name}.localhost", "/_tidegate" + where[2])
            self.ticket = opened[1]["Set-Cookie"].partition(";")[0]
        return str(status)


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    """A proxy, the real application behind it, and the dashboards of two clusters."""
    folder = tmp_path / "rig"
    folder.mkdir()
    rig = Rig(folder, limits=Limits(page_burst=2**30))
    async with gateway_in_process(tmp_path, roster=ROSTER) as gateway:
        # The proxy's clock is the machine's; while people get their credentials two days pass.
        gateway.clock.now = time.time() - 2 * DAY
        house = await House.open(gateway)
        async with unix_server(gateway.app, rig):
            street = Street(rig, house)
            await street.build()
            yield street
        await rig.close()


async def viewers(street: Street) -> list[Viewer]:
    """Return everybody, each with what they have."""
    _, link = await street.house.link(street.name)
    house = street.house
    return [
        Viewer(
            street,
            column,
            house.session(name) if name else "",
            house.tokens[name] if name else "",
            f"/shared/{link}" if column == "link" else "",
        )
        for column, name in PEOPLE.items()
    ]


async def test_everybody_sees_what_is_theirs_to_see(street: Street) -> None:
    """Way by way as the table says; and what is withdrawn ends at once, but for the owner."""
    head, *lines = TABLE.strip().splitlines()
    columns = head.removeprefix("#").split()
    assert columns == list(PEOPLE)
    people = await viewers(street)
    surprises = []
    for line in lines:
        way, *expected = line.split()
        if way == "page_after":
            await street.end_epoch()
        got = [await viewer.go(way) for viewer in people]
        if got != expected:
            surprises.append(f"{way}: {dict(zip(columns, got, strict=True))}, not {expected}")

    assert not surprises, "\n".join(surprises)


async def test_foreign_dashboards_are_told_in_the_same_bytes_as_absent_ones(street: Street) -> None:
    """On each way, to whoever may not see it: the name apart, which they have said themselves."""
    absent = "0123456789abcdef"
    for name in ("mallory", "wally"):
        session, token = street.house.session(name), {"Authorization": f"Bearer {street.house.tokens[name]}"}
        browser = {"Cookie": session, "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
        for way in (browser, token, {**token, **HANDSHAKE}, {"Cookie": session, **HANDSHAKE}, {}, HANDSHAKE):
            for host, path in (("localhost", "/clusters/NAME/status"), ("NAME.localhost", "/status")):
                told = []
                for cluster in (street.name, absent):
                    where = (host.replace("NAME", cluster), path.replace("NAME", cluster))
                    status, headers, body = await street.ask(*where, **way)
                    told.append(
                        (status, str(headers).replace(cluster, "NAME"), body.replace(cluster.encode(), b"NAME"))
                    )
                assert told[0] == told[1], (name, way, host)
