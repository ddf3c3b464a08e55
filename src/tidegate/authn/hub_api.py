"""The API of a JupyterHub, as a service of it may use it.

The gateway asks it with two credentials: with a user's own token, whose that is (``jupyterhub.py``); and with the token
that it has itself as a service of the Hub, about the Hub's users (``hub_users.py``).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
from pydantic import AfterValidator, Field, model_validator

from tidegate.model.errors import Busy, Invalid
from tidegate.settings import FilePath, Section, Unit

CONNECTIONS = 20
"""How many questions the Hub is asked at a time. It answers with one thread, so more would only wait there; and wrong
tokens can be made up without end."""

RETRY_SECONDS = 2.0
"""When callers shall come back while the Hub is silent: its restart takes a few seconds."""


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("write a URL such as http://127.0.0.1:8081/hub/api")
    return text.rstrip("/")


def _check_public(text: str) -> str:
    return text.rstrip("/") if re.fullmatch(r"/[^/?#\s][^?#\s]*", text) else _check_url(text)


class JupyterHubSettings(Section):
    """Tokens and logins of a JupyterHub, 2.0 or newer. A service that the Hub starts itself needs none of these."""

    api_url: Annotated[str, AfterValidator(_check_url)] | None = None
    """URL of the Hub's API as the gateway reaches it, such as ``http://127.0.0.1:8081/hub/api``. By default what the
    environment variable ``JUPYTERHUB_API_URL`` says."""
    hub_url: Annotated[str, AfterValidator(_check_public)] | None = None
    """URL of the Hub as browsers reach it, such as ``https://hub.example.org/hub``; or its path, where that is at the
    gateway's own address. By default ``JUPYTERHUB_PUBLIC_HUB_URL``, else the path ``hub`` below
    ``JUPYTERHUB_BASE_URL``."""
    service_name: Annotated[str, Field(pattern=r"^[^\s!=]+$")] | None = None
    """Name of the gateway among the Hub's services. Tokens need the scope ``access:services!service=<name>``. By
    default ``JUPYTERHUB_SERVICE_NAME``."""
    any_token: bool = False
    """Whether to do without ``service_name``: then every token of the Hub is accepted, also one that a user gave to
    another service, which could act as that user here."""
    client_id: str | None = None
    """What the Hub's OAuth calls the gateway. By default ``JUPYTERHUB_CLIENT_ID``, else ``service-<service_name>``."""
    api_token_file: FilePath | None = None
    """File with the service's own token (``api_token`` in the Hub's configuration), needed for logins in a browser.
    By default ``JUPYTERHUB_API_TOKEN``."""
    ca_file: FilePath | None = None
    """PEM file of the authority to trust for an ``api_url`` of https, besides the usual ones."""
    timeout: Annotated[float, Field(gt=0, le=60), Unit("seconds")] = 5
    """For an answer of the Hub, after which it counts as silent."""
    cache: Annotated[float, Field(ge=0, le=3600), Unit("seconds")] = 30
    """For how long an answer is remembered: so long does a token that the Hub has revoked still work. The Hub answers a
    hundred questions a second at the best, and every request needs an answer."""

    @model_validator(mode="after")
    def _has_a_hub(self) -> JupyterHubSettings:
        if not (self.api_url or os.environ.get("JUPYTERHUB_API_URL")):
            raise ValueError(
                "api_url is missing: write the URL of the Hub's API, such as http://127.0.0.1:8081/hub/api"
            )
        if not (self.service_name or os.environ.get("JUPYTERHUB_SERVICE_NAME") or self.any_token):
            raise ValueError(
                "service_name is missing: write the gateway's name among the Hub's services, or set any_token to true"
            )
        return self


class HubApi:
    """A connection to the Hub.

    Parameters
    ----------
    settings : JupyterHubSettings
    doing : str
        What cannot be done while the Hub is silent, as the beginning of a sentence.
    """

    def __init__(self, settings: JupyterHubSettings, doing: str) -> None:
        self.url = settings.api_url or os.environ.get("JUPYTERHUB_API_URL", "").rstrip("/")
        self.service = settings.service_name or os.environ.get("JUPYTERHUB_SERVICE_NAME") or None
        self._settings = settings
        self._doing = doing
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open a session.

        Raises
        ------
        Invalid
            When a file cannot be read.
        """
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=self._trust()),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            # A cookie that came with the answer to one user's token must never go along with another's.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Return status and JSON of an answer of the Hub (None for what is no JSON).

        Raises
        ------
        Busy
            It does not answer.
        """
        if self._session is None:
            raise self.silence("not started")
        try:
            # Wherever else the Hub points to, it gets no token.
            async with self._session.request(method, self.url + path, allow_redirects=False, **kwargs) as response:
                body = await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise self.silence(f"{method} {self.url}{path}: {error or type(error).__name__}") from None
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, None

    def silence(self, detail: str) -> Busy:
        """Return the error that says that the Hub does not answer as it should."""
        words = f"{self._doing}: JupyterHub does not answer. Try again in a moment"
        return Busy(words, retry_after=RETRY_SECONDS, detail=detail)

    def own_token(self) -> str | None:
        """Return the service's own token, or None. It is read each time, and never kept.

        Raises
        ------
        Invalid
        """
        file = self._settings.api_token_file
        if file is None:
            return os.environ.get("JUPYTERHUB_API_TOKEN") or None
        try:
            return file.read_text().strip() or None
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read authentication.logins.jupyterhub.api_token_file {file}: {error}") from None

    def _trust(self) -> ssl.SSLContext | bool:
        if self._settings.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self._settings.ca_file))
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                f"cannot read authentication.logins.jupyterhub.ca_file {self._settings.ca_file} as certificates in "
                f"PEM form: {error}"
            ) from None
