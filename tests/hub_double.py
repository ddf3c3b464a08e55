"""What of a JupyterHub's API a gateway uses, in this process: for tests of everything that needs no real one.

It answers as JupyterHub 6.1 does; ``tests/identity`` has the real one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SCOPE = "access:services!service=dask-gateway"
SERVICE_TOKEN = "the-service-token"
PAGED = "application/jupyterhub-pagination+json"


@dataclass
class HubDouble:
    """A Hub.

    Parameters
    ----------
    users : dict
        To each token what the Hub says of its owner.
    codes : dict
        To each code of a login that it has sent back the token, and the challenge with which the login began.
    answer : web.Response or None
        What it answers to everything, when something is wrong with it.
    asked : list of str
        The credentials that it was asked about.
    calls : list of str
        The paths that were called at all.
    people : dict
        To each user the names of their notebook servers that run.
    page : int
        How many users it lists at a time; with 0 it lists none at all.
    """

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    answer: web.Response | None = None
    asked: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    people: dict[str, set[str]] = field(default_factory=dict)
    page: int = 2
    api_url: str = ""

    def add(self, token: str, name: str, *scopes: str, kind: str = "user", **more: Any) -> str:
        """Make a token of a user, by default one for the gateway."""
        self.users[token] = {"kind": kind, "name": name, "scopes": list(scopes or (SCOPE,)), **more}
        return token

    def add_service(self, *scopes: str) -> None:
        """Let the gateway be a service of the Hub, whose roles have these scopes."""
        self.add(SERVICE_TOKEN, "dask-gateway", *scopes, kind="service")

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        if self.answer is not None:
            return self.answer
        if request.path == "/hub/api/":
            return web.json_response({"version": "6.1.1"})
        if request.path == "/hub/api/oauth2/token":
            return self._redeem(await request.post())
        if request.path.startswith("/hub/api/users"):
            return self._tell_people(request)
        self.asked.append(request.headers["Authorization"])
        user = self.users.get(request.headers["Authorization"].removeprefix("token "))
        if user is None:
            return web.json_response({"status": 403, "message": "Forbidden"}, status=403)
        return web.json_response(user, headers={"Set-Cookie": f"who={user['name']}; Path=/"})

    def _tell_people(self, request: web.Request) -> web.Response:
        """List who has a server, in pages, or describe one user."""
        if request.headers["Authorization"] != f"token {SERVICE_TOKEN}":
            return web.json_response({"status": 403, "message": "Forbidden"}, status=403)
        name = request.path.removeprefix("/hub/api/users").strip("/")
        if name:
            if name not in self.people:
                return web.json_response({"status": 404, "message": "Not Found"}, status=404)
            return web.json_response(self._describe(name))
        active = [name for name, servers in self.people.items() if servers]
        offset, limit = int(request.query["offset"]), min(self.page, int(request.query["limit"]))
        rest = {"offset": offset + limit, "limit": limit} if 0 < offset + limit < len(active) else None
        items = [self._describe(name) for name in active[offset : offset + limit]]
        assert (request.query["state"], request.headers["Accept"]) == ("active", PAGED)
        return web.json_response({"items": items, "_pagination": {"next": rest}})

    def _describe(self, name: str) -> dict[str, Any]:
        servers = {server: {"name": server, "ready": True} for server in self.people[name]}
        readable = "read:servers" in self.users.get(SERVICE_TOKEN, {}).get("scopes", ())
        return {"kind": "user", "name": name} | ({"servers": servers} if readable else {})

    def _redeem(self, form: Any) -> web.Response:
        token, challenge = self.codes.pop(form["code"], ("", ""))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        proved = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge
        if form["client_secret"] != SERVICE_TOKEN or not proved:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"access_token": token, "token_type": "Bearer"})


@asynccontextmanager
async def hub_double() -> AsyncIterator[HubDouble]:
    """Run one on a free port of loopback."""
    hub = HubDouble()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", hub._respond)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        hub.api_url = f"http://{host}:{port}/hub/api"
        yield hub
    finally:
        await runner.cleanup()
