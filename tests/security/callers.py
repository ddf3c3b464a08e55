"""Whoever calls the gateway in the access matrix: with every kind of credential, by program and by browser.

A ``House`` is a gateway in this process, with people in it; it makes clusters of alice's that are shared, and calls
routes as somebody.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any

from tests.in_process import DAY, Gateway
from tests.security.access_matrix import Row
from tidegate.authn.roster import Roster
from tidegate.authn.tokens import mint_token
from tidegate.model.cluster import Cluster
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import Right, ShareLink
from tidegate.wire.names import ON_BEHALF_HEADER

ROSTER = Roster(admins=("root",), groups={"viewers": ("gwen",), "users": ("gus",)})

SHARES = {"user:vera": Right.VIEW, "group:viewers": Right.VIEW, "user:ursula": Right.USE, "group:users": Right.USE}

LINK_SECONDS = 3600.0

PEOPLE = ("alice", "mallory", "wally", "vera", "gwen", "ursula", "gus", "root")

FROM_OURS = {"sec-fetch-site": "same-origin"}
FROM_ELSEWHERE = {"sec-fetch-site": "cross-site", "origin": "http://evil.test"}
FROM_A_DASHBOARD = {"sec-fetch-site": "same-site", "origin": "http://0123456789abcdef.gateway.test"}

Answer = tuple[int, bytes]
"""The status; and the head but for the date, with the body."""


@dataclass(frozen=True)
class Caller:
    """Somebody with a credential.

    Parameters
    ----------
    column : str
        Of the matrix.
    what : str
        Which of those in this column.
    headers : mapping
        What they send along.
    """

    column: str
    what: str
    headers: dict[str, str] = field(hash=False, default_factory=dict)

    def __str__(self) -> str:
        return f"{self.column} ({self.what})"


class House:
    """A gateway, and everybody who calls it.

    Parameters
    ----------
    gateway : Gateway
    """

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.callers: list[Caller] = []
        self.tokens: dict[str, str] = {}

    @classmethod
    async def open(cls, gateway: Gateway) -> House:
        """Give everybody their credentials."""
        house = cls(gateway)
        tokens = house.tokens = {name: await house._token(name) for name in PEOPLE}
        reading = await house._token("alice", scope=Scope.READ_ONLY)
        alice = {"authorization": f"Bearer {tokens['alice']}"}
        behalf = {ON_BEHALF_HEADER: "alice", "authorization": f"Bearer {tokens['root']}"}
        house.callers = [
            *await house._unknown(),
            *house._both("stranger", "mallory", tokens),
            *house._both("stranger", "wally", tokens),
            Caller("reader", "token", {"authorization": f"Bearer {reading}", **FROM_OURS}),
            Caller("reader", "session", {"cookie": house.session("alice", scope=Scope.READ_ONLY), **FROM_OURS}),
            *house._both("view", "vera", tokens),
            *house._both("view", "gwen", tokens),
            *house._both("use", "ursula", tokens),
            *house._both("use", "gus", tokens),
            *house._both("owner", "alice", tokens),
            Caller("foreign", "session, of another site", {"cookie": house.session("alice"), **FROM_ELSEWHERE}),
            Caller("foreign", "session, of a dashboard", {"cookie": house.session("alice"), **FROM_A_DASHBOARD}),
            Caller("foreign", "token, of another site", {**alice, **FROM_ELSEWHERE}),
            Caller("foreign", "password, of a dashboard", {**_basic("alice", tokens["alice"]), **FROM_A_DASHBOARD}),
            Caller("pageless", "session", {"cookie": house.session("alice")}),
            *house._both("admin", "root", tokens),
            Caller("behalf", "token", {**behalf, **FROM_OURS}),
            Caller("behalf", "session", {"cookie": house.session_for("root", "alice"), **FROM_OURS}),
        ]
        return house

    def _both(self, column: str, name: str, tokens: dict[str, str]) -> list[Caller]:
        return [
            Caller(column, f"{name}, token", {"authorization": f"Bearer {tokens[name]}", **FROM_OURS}),
            Caller(column, f"{name}, password", {**_basic(name, tokens[name]), **FROM_OURS}),
            Caller(column, f"{name}, session", {"cookie": self.session(name), **FROM_OURS}),
        ]

    async def _unknown(self) -> list[Caller]:
        """Return those whom nobody knows; what has expired expires here, so this comes before sessions are made."""
        expired = await self._token("alice", expires_at=self.gateway.clock.now + DAY)
        old_session = self.session("alice")
        self.gateway.clock.now += 2 * DAY
        revoked = await self._token("alice")
        (token, *_) = await self.gateway.store.list_tokens("alice")
        of_revoked = self.session("alice", token=token.id)
        await self.gateway.services.tokens.revoke(Principal("alice"), token.id)
        forged = self.session("alice").replace("=", "=x", 1)
        credentials: dict[str, dict[str, str]] = {
            "nobody": {},
            "wrong token": {"authorization": f"Bearer tdg_{'x' * 43}"},
            "expired token": {"authorization": f"Bearer {expired}"},
            "revoked token": {"authorization": f"Bearer {revoked}"},
            "wrong password": _basic("alice", f"tdg_{'x' * 43}"),
            "unknown scheme": {"authorization": "Digest username=alice"},
            "malformed": {"authorization": "\x7f"},
            "wrong token beside a session": {"authorization": "Bearer x", "cookie": self.session("alice")},
            "expired session": {"cookie": old_session},
            "forged session": {"cookie": forged},
            "session of a revoked token": {"cookie": of_revoked},
            "nobody on behalf": {ON_BEHALF_HEADER: "alice"},
        }
        return [Caller("unknown", what, {**headers, **FROM_OURS}) for what, headers in credentials.items()]

    async def _token(self, name: str, **settings: Any) -> str:
        now = self.gateway.clock.now
        _, secret = await mint_token(self.gateway.store, Principal(name), "test", now=now, **settings)
        return secret

    def session(self, name: str, **settings: Any) -> str:
        """Return the cookie of a session that begins now."""
        sessions = self.gateway.services.sessions
        return f"{sessions.cookie_name('http', '')}={sessions.seal(Principal(name, **settings))}"

    def session_for(self, admin: str, user: str) -> str:
        """Return the cookie of a session in which somebody has chosen to act on behalf of a user."""
        name, _, value = self.session(admin).partition("=")
        return f"{name}={self.gateway.services.sessions.change(value, user)}"

    async def cluster(self) -> Cluster:
        """Return a cluster of alice's that runs, and that she shares; not with wally any more."""
        made = await self.gateway.create("alice")
        await self.gateway.become_running(made.name, workers=1)
        alice, shares = Principal("alice"), self.gateway.services.shares
        for grantee, right in {"user:wally": Right.USE, **SHARES}.items():
            await shares.give(alice, made.name, grantee, right)
        await shares.withdraw(alice, made.name, "user:wally")
        return made

    async def link(self, cluster: str) -> tuple[ShareLink, str]:
        """Return a link to a cluster's dashboard, with its text."""
        return await self.gateway.services.shares.make_link(Principal("alice"), cluster, LINK_SECONDS, "")

    async def call(self, row: Row, caller: Caller, names: dict[str, str]) -> Answer:
        """Call a route as somebody, with ``names`` in the place of its ``{variables}``."""
        path, body = row.path.partition("#")[0], row.body
        for variable, name in names.items():
            path, body = path.replace(f"{{{variable}}}", name), body.replace(f"{{{variable}}}", name)
        kind = {"content-type": "application/json", "accept": "*/*"}
        if row.is_page:
            form = "application/x-www-form-urlencoded"
            kind = {"content-type": form, "accept": "text/html", "user-agent": "Mozilla/5.0"}
        return await _ask(self.gateway, row.method, path, {**kind, **caller.headers}, body.encode())


def _basic(name: str, secret: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"}


async def _ask(gateway: Gateway, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Ask the application; of an endless answer take what has come first."""
    raw = [(name.lower().encode(), value.encode()) for name, value in {"host": "gateway.test", **headers}.items()]
    where, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": where, "headers": raw, "scheme": "http"}
    scope |= {
        "query_string": query.encode(),
        "server": ("gateway.test", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "root_path": "",
    }
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "http.request", "body": body})
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    serving = asyncio.create_task(gateway.app(scope, received.get, sent.put))
    start = await asyncio.wait_for(sent.get(), 10)
    first = await asyncio.wait_for(sent.get(), 10)
    received.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(serving, 10)
    head = b"".join(name + b": " + value + b"\n" for name, value in start["headers"] if name.lower() != b"date")
    return start["status"], head + b"\n" + first["body"]
