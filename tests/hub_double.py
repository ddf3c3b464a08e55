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
    """

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    answer: web.Response | None = None
    asked: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    api_url: str = ""

    def add(self, token: str, name: str, *scopes: str, kind: str = "user", **more: Any) -> str:
        """Make a token of a user, by default one for the gateway."""
        self.users[token] = {"kind": kind, "name": name, "scopes": list(scopes or (SCOPE,)), **more}
        return token

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.path)
        if self.answer is not None:
            return self.answer
        if request.path == "/hub/api/":
            return web.json_response({"version": "6.1.1"})
        if request.path == "/hub/api/oauth2/token":
            return self._redeem(await request.post())
        self.asked.append(request.headers["Authorization"])
        user = self.users.get(request.headers["Authorization"].removeprefix("token "))
        if user is None:
            return web.json_response({"status": 403, "message": "Forbidden"}, status=403)
        return web.json_response(user, headers={"Set-Cookie": f"who={user['name']}; Path=/"})

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
