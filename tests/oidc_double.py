"""An OpenID provider for tests, whose every answer they write themselves.

What a provider does right is tested at a real one (``tests/identity/provider.mjs``): logins by browsers and terminals,
tokens of programs, refusals. That one never lies and never fails. Here a token may have any one claim, signature or
header that is wrong, an answer may be late, endless or an error, keys change in the midst of it, and time moves.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import Key, RSAKey

from tidegate.authn.oidc import OidcAuthenticator, OidcSettings

CLIENT = "tidegate"
SECRET = "s3cret:with/signs"
AUDIENCE = "https://dask.example.org"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class OidcDouble:
    """The provider. ``claims`` is what it says of whoever logs in."""

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {"sub": "1", "preferred_username": "alice"})
    metadata: dict[str, Any] = field(default_factory=dict)
    keys: list[RSAKey] = field(default_factory=lambda: [first_key()])
    alter: dict[str, Any] = field(default_factory=dict)
    """Claims of the next ID tokens that differ from what is right."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    """To each device code what the token endpoint answers; empty when the person has agreed."""
    asked: list[str] = field(default_factory=list)
    status: int = 200

    def sign(
        self,
        key: Key | None = None,
        alg: str = "RS256",
        header: Mapping[str, Any] = MappingProxyType({}),
        **claims: Any,
    ) -> str:
        """Return a token."""
        key = key or self.keys[0]
        return jwt.encode({"alg": alg, "kid": key.kid, **header}, claims, key, algorithms=[alg])

    def access_token(self, key: Key | None = None, **claims: Any) -> str:
        """Return an access token for the gateway; a claim that is None is left out."""
        now = int(time.time())
        right = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300, **self.claims, **claims}
        return self.sign(key, **{name: value for name, value in right.items() if value is not None})

    def agree(self, query: dict[str, str]) -> str:
        """Let the person of ``claims`` agree to a login; return the code."""
        code = secrets.token_urlsafe(8)
        self.codes[code] = query
        return code

    def _id_token(self, nonce: str | None) -> str:
        claims: dict[str, Any] = {"aud": CLIENT, "nonce": nonce, **self.alter}
        return self.access_token(**claims)

    # -- what it serves ------------------------------------------------------------------------------------------------

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[self._count])
        app.router.add_get("/.well-known/openid-configuration", self._describe)
        app.router.add_get("/jwks", self._show_keys)
        app.router.add_post("/token", self._token)
        app.router.add_post("/device", self._device)
        app.router.add_get("/userinfo", self._userinfo)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.status != 200:
            return web.Response(status=self.status)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _describe(self, request: web.Request) -> web.Response:
        here = self.issuer
        known = {"issuer": here, "authorization_endpoint": f"{here}/authorize", "token_endpoint": f"{here}/token"}
        known |= {"jwks_uri": f"{here}/jwks", "device_authorization_endpoint": f"{here}/device"}
        return web.json_response({k: v for k, v in {**known, **self.metadata}.items() if v is not None})

    async def _show_keys(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [key.as_dict(private=False) for key in self.keys]})

    async def _userinfo(self, request: web.Request) -> web.Response:
        return web.json_response(self.claims)

    async def _device(self, request: web.Request) -> web.Response:
        if not _is_client(request):
            return web.json_response({"error": "invalid_client"}, status=401)
        code = secrets.token_urlsafe(8)
        self.devices[code] = "authorization_pending"
        answer = {"device_code": code, "user_code": "ABCD-EFGH", "verification_uri": f"{self.issuer}/code"}
        return web.json_response({**answer, "expires_in": 60, "interval": 1})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not _is_client(request):
            return web.json_response({"error": "invalid_client"}, status=401)
        if form["grant_type"] == DEVICE_GRANT:
            return self._device_token(str(form["device_code"]))
        asked = self.codes.pop(str(form["code"]), None)
        proof = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest()).rstrip(b"=")
        if asked is None or asked["code_challenge"] != proof.decode() or asked["redirect_uri"] != form["redirect_uri"]:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"id_token": self._id_token(asked["nonce"]), "access_token": "opaque"})

    def _device_token(self, code: str) -> web.Response:
        error = self.devices.get(code, "invalid_grant")
        if error:
            return web.json_response({"error": error}, status=400)
        del self.devices[code]
        return web.json_response({"id_token": self._id_token(None), "access_token": "opaque"})


def _is_client(request: web.Request) -> bool:
    # As RFC 6749, 2.3.1 wants it: each part encoded as in a form.
    pair = b"tidegate:s3cret%3Awith%2Fsigns"
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(pair).decode()


def new_key(kid: str) -> RSAKey:
    """Return a key by which a provider signs."""
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


@cache
def first_key() -> RSAKey:
    """Return the key that providers begin with: to make one takes a while."""
    return new_key("first")


@asynccontextmanager
async def oidc_double() -> AsyncIterator[OidcDouble]:
    """Run the provider on a free port of loopback."""
    double = OidcDouble()
    runner = web.AppRunner(double.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    double.issuer = f"http://{host}:{port}"
    try:
        yield double
    finally:
        await runner.cleanup()


def authenticator_for(double: OidcDouble, folder: Path, clock: Any = time.time, **settings: Any) -> OidcAuthenticator:
    """Return an authenticator for this provider, not started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "client-secret").write_text(f"{SECRET}\n")
    given = {"issuer": double.issuer, "client_id": CLIENT, "audience": AUDIENCE, **settings}
    return OidcAuthenticator(folder, OidcSettings(client_secret_file=folder / "client-secret", **given), clock)
