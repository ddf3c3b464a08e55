"""What an OpenID provider says of itself and of its tokens: its endpoints, its keys, whether a signature is its own.

The endpoints come from the discovery document (OpenID Connect Discovery 1.0), the keys from where that says. Both are
asked for again now and then; keys also when a token names one that is not known, for providers change them at will.
Such names can be made up, so that happens no more often than every ``REFETCH_SECONDS``.

When the provider does not answer, nobody can say whether a token is right: that is ``Busy``, never a refusal.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey, import_key

from tidegate.model.errors import Busy, Invalid

JWT = re.compile(r"([A-Za-z0-9_-]{1,2000})\.[A-Za-z0-9_-]{1,16000}\.[A-Za-z0-9_-]{1,2000}", re.ASCII)
"""A signed JSON Web Token in its compact form; its header is the first group. Without a signature it is none."""

REFRESH_SECONDS = 3600.0
"""How long endpoints and keys are believed. A key that the provider withdraws counts no longer than that, unless the
provider does not answer then."""

REFETCH_SECONDS = 10.0
"""Between two questions for keys because a token names one that is not known."""

RETRY_SECONDS = 2.0
"""Between two tries at a provider that does not answer, and when callers shall come back."""

ANSWER_BYTES = 2**20
"""Of an answer at the most."""

CONNECTIONS = 10
"""To the provider, at a time."""

Key = RSAKey | ECKey | OKPKey


def is_safe_url(text: Any) -> bool:
    """Return whether what is sent there cannot be read on the way: https, or this machine."""
    if not isinstance(text, str):
        return False
    parts = urlsplit(text)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))


class Provider:
    """An OpenID provider.

    Parameters
    ----------
    issuer : str
        Its URL, exactly as it writes it itself.
    timeout : float
        Seconds for an answer.
    ca_file : Path or None
        Authorities to trust besides the usual ones.
    clock : callable
        Returns the time in seconds since the epoch.
    """

    def __init__(
        self, issuer: str, *, timeout: float, ca_file: Path | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.issuer = issuer
        self._timeout = timeout
        self._ca_file = ca_file
        self._clock = clock
        self._metadata: Mapping[str, Any] = {}
        self._metadata_until = 0.0
        self._keys: list[Key] = []
        self._keys_at = float("-inf")
        self._failed_at = float("-inf")
        self._asking = asyncio.Lock()
        self._asking_keys = asyncio.Lock()  # another one: inside it, the endpoints are asked for
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open a session for requests."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._trust()),
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            cookie_jar=aiohttp.DummyCookieJar(),  # what came with one person's answer must not go with another's
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def metadata(self) -> Mapping[str, Any]:
        """Return what the provider says of itself.

        Raises
        ------
        Busy
            When it does not answer.
        Invalid
            When what answers is another one, or none.
        """
        if self._metadata_until <= self._clock():
            async with self._asking:
                if self._metadata_until <= self._clock():
                    try:
                        self._metadata = await self._discover()
                    except (Busy, Invalid):
                        if not self._metadata:
                            raise  # else the endpoints are probably still where they were
                    self._metadata_until = self._clock() + REFRESH_SECONDS
        return self._metadata

    async def endpoint(self, name: str) -> str:
        """Return the address of an endpoint, such as ``token_endpoint``."""
        address = (await self.metadata()).get(name)
        if not is_safe_url(address):
            raise Invalid(f"cannot log in by {self.issuer}: it has no {name}, or one without https")
        return str(address)

    async def _discover(self) -> Mapping[str, Any]:
        where = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        status, found = await self._request("GET", where)
        if status != 200 or not isinstance(found, dict):
            raise self._invalid(f"{where} is answered by {status}, and is no discovery document")
        if found.get("issuer") != self.issuer:
            raise self._invalid(f"it calls itself {found.get('issuer')!r}; the issuer must be written in the same way")
        return found

    def _invalid(self, why: str) -> Invalid:
        return Invalid(f"cannot use the OpenID provider {self.issuer} (authentication.logins.oidc.issuer): {why}")

    # -- tokens --------------------------------------------------------------------------------------------------------

    async def read_signed(self, token: str, algorithms: tuple[str, ...]) -> Mapping[str, Any] | None:
        """Return what a token says that bears the provider's signature, or None. What it says is not judged here."""
        shape = JWT.fullmatch(token)
        header = _read_part(shape[1]) if shape else None
        if header is None or header.get("alg") not in algorithms:
            return None
        for key in await self._keys_for(header.get("kid")):
            try:
                return jwt.decode(token, key, algorithms=list(algorithms)).claims
            except (JoseError, ValueError, TypeError):
                continue
        return None

    async def _keys_for(self, kid: Any) -> list[Key]:
        """Return the keys that a token may be signed by: the one of its name, or where it names none, each."""

        def found() -> list[Key]:
            return [key for key in self._keys if kid is None or key.kid == kid]

        def age() -> float:
            return self._clock() - self._keys_at

        if age() >= REFRESH_SECONDS or (not found() and age() >= REFETCH_SECONDS):
            async with self._asking_keys:
                if age() >= REFRESH_SECONDS or (not found() and age() >= REFETCH_SECONDS):
                    try:
                        await self._fetch_keys(await self.endpoint("jwks_uri"))
                    except Busy:
                        if not found():
                            raise
        return found()

    async def _fetch_keys(self, where: str) -> None:
        status, found = await self._request("GET", where)
        listed = found.get("keys") if isinstance(found, dict) else None
        if status != 200 or not isinstance(listed, list):
            raise self._silence(f"GET {where} was answered by {status}, without keys")
        self._keys = [key for one in listed if (key := _public_key(one)) is not None]
        self._keys_at = self._clock()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def post(
        self, endpoint: str, form: Mapping[str, str], client: str, secret: str | None
    ) -> tuple[int, Mapping[str, Any]]:
        """Send a form to an endpoint as the client ``client``; return status and JSON."""
        address = await self.endpoint(endpoint)
        offered = (await self.metadata()).get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        form, headers = dict(form), {}
        if secret is None:
            form["client_id"] = client
        elif "client_secret_basic" in offered or "client_secret_post" not in offered:
            # Encoded as in a form first, then as a pair (RFC 6749, 2.3.1).
            pair = f"{quote_plus(client)}:{quote_plus(secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form |= {"client_id": client, "client_secret": secret}
        status, answer = await self._request("POST", address, data=form, headers=headers)
        return status, answer if isinstance(answer, dict) else {}

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """Return what the provider says of the person whom an access token is for; nothing where it has no endpoint."""
        if "userinfo_endpoint" not in await self.metadata():
            return {}
        where = await self.endpoint("userinfo_endpoint")
        status, found = await self._request("GET", where, headers={"Authorization": f"Bearer {access_token}"})
        return found if status == 200 and isinstance(found, dict) else {}

    async def _request(self, method: str, url: str, **kwargs: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer (None for what is no JSON)."""
        if self._session is None:
            raise self._silence("not started")
        if self._clock() - self._failed_at < RETRY_SECONDS:
            raise self._silence("it did not answer a moment ago")
        try:
            # Wherever else it points to, it gets no secret.
            async with self._session.request(method, url, allow_redirects=False, **kwargs) as response:
                body = await _read_bounded(response)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            self._failed_at = self._clock()
            raise self._silence(f"{method} {url}: {error or type(error).__name__}") from None
        if response.status >= 500 or response.status == 429:
            raise self._silence(f"{method} {url} was answered by {response.status}")
        try:
            return response.status, json.loads(body)
        except (ValueError, RecursionError):
            return response.status, None

    def _silence(self, detail: str) -> Busy:
        words = "cannot check who you are: the login provider does not answer. Try again in a moment"
        return Busy(words, retry_after=RETRY_SECONDS, detail=detail)

    def _trust(self) -> ssl.SSLContext | bool:
        if self._ca_file is None:
            return True
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                f"cannot read authentication.logins.oidc.ca_file {self._ca_file} as certificates in PEM form: {error}"
            ) from None
        return context


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    """Return the body; what is longer than it may be is no body of an OpenID provider."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise aiohttp.ClientPayloadError(f"the answer is longer than {ANSWER_BYTES:,} bytes")
    return bytes(body)


def peek_claims(token: str) -> Mapping[str, Any]:
    """Return what a token says, whoever made it: good for setting aside what is not ours to judge, and nothing else."""
    return (_read_part(token.split(".")[1]) if JWT.fullmatch(token) else None) or {}


def _read_part(text: str) -> dict[str, Any] | None:
    try:
        part = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        return None
    return part if isinstance(part, dict) else None


def _public_key(described: Any) -> Key | None:
    """Return a key of the provider's; None for what is no key to check signatures with, a shared secret above all."""
    if not isinstance(described, dict) or described.get("use", "sig") != "sig":
        return None
    try:
        key = import_key(described)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None
