"""How a client proves who it is: one small class for each way.

A credential is sent with every request at once; nobody waits for a 401 first. Classes that were written for
dask-gateway (``pre_request`` after a 401, ``post_response``) work too, by their dotted name or as an instance.
"""

from __future__ import annotations

import getpass
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from tidegate.client.errors import GatewayAuthError, GatewayValueError


class GatewayAuth:
    """Base of all ways to prove who one is; itself it sends nothing.

    A subclass overrides ``headers``; or, where the answer has to prove something too, ``begin`` and ``check``; or the
    two hooks of dask-gateway.
    """

    def headers(self, url: str) -> dict[str, str]:
        """Return the headers that go with every request to ``url``."""
        return {}

    def begin(self, url: str) -> tuple[dict[str, str], Any]:
        """Return the headers of one request to ``url``, and what ``check`` needs (None: there is nothing to check)."""
        return self.headers(url), None

    def check(self, resp: Any, context: Any) -> None:
        """Look at the answer to that request, before anybody believes it; refusals excepted (401, "come back")."""

    def pre_request(self, resp: Any) -> tuple[dict[str, str], Any]:
        """Return headers for the second try after the 401 answer ``resp``, and something for ``post_response``."""
        return {}, None

    def post_response(self, resp: Any, context: Any = None) -> None:
        """Look at the answer to the second try."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class TokenAuth(GatewayAuth):
    """A personal token, as ``tidegate serve`` leaves one in the configuration.

    Parameters
    ----------
    token : str
        The token.
    """

    def __init__(self, token: str) -> None:
        self._token = _check_header(token, "token")

    def headers(self, url: str) -> dict[str, str]:
        """Return the token in an ``Authorization: Bearer`` header."""
        return {"Authorization": f"Bearer {self._token}"}


class BasicAuth(GatewayAuth):
    """A user name and a password.

    Parameters
    ----------
    username : str, optional
        By default the name of the user who runs this process.
    password : str, optional
        By default empty.
    """

    def __init__(self, username: str | None = None, password: str | None = None) -> None:
        self.username = getpass.getuser() if username is None else str(username)
        self._password = "" if password is None else str(password)

    def headers(self, url: str) -> dict[str, str]:
        """Return both in an ``Authorization: Basic`` header, as UTF-8 (RFC 7617)."""
        return {"Authorization": "Basic " + b64encode(f"{self.username}:{self._password}".encode()).decode()}


class JupyterHubAuth(GatewayAuth):
    """The API token that JupyterHub gives to every notebook server.

    Parameters
    ----------
    api_token : str, optional
        By default what is in the environment variable ``JUPYTERHUB_API_TOKEN``.
    """

    def __init__(self, api_token: str | None = None) -> None:
        token = os.environ.get("JUPYTERHUB_API_TOKEN") if api_token is None else api_token
        if not token:
            raise GatewayValueError(
                "cannot log in with JupyterHub: no api_token was given, and JUPYTERHUB_API_TOKEN is not set, "
                "so this is probably not a notebook server of a JupyterHub"
            )
        self._token = _check_header(token, "api_token")

    def headers(self, url: str) -> dict[str, str]:
        """Return the token in the header that dask-gateway's client sends."""
        return {"Authorization": f"jupyterhub {self._token}"}


class KerberosAuth(GatewayAuth):
    """The Kerberos ticket of whoever runs this process (SPNEGO, RFC 4559). Needs the package ``gssapi``.

    The gateway has to prove itself too, by reading the ticket: an answer without that proof is not believed.
    """

    def begin(self, url: str) -> tuple[dict[str, str], Any]:
        """Return a ``Negotiate`` header for the service ``HTTP`` on the gateway's host. Each counts once."""
        gssapi, host = _import_gssapi(), urlsplit(url).hostname
        try:
            service = gssapi.Name(f"HTTP@{host}", name_type=gssapi.NameType.hostbased_service)
            mutual = gssapi.RequirementFlag.mutual_authentication
            context = gssapi.SecurityContext(name=service, usage="initiate", flags=mutual)
            message = context.step()
        except gssapi.exceptions.GSSError as error:
            raise GatewayAuthError(
                f"cannot log in at {host} with Kerberos: {error}. Is there a ticket? See klist, and get one with kinit"
            ) from None
        return {"Authorization": "Negotiate " + b64encode(message or b"").decode()}, context

    def check(self, resp: Any, context: Any) -> None:
        """Read the gateway's proof."""
        gssapi = _import_gssapi()
        _, _, proof = resp.headers.get("WWW-Authenticate", "").partition(" ")
        try:
            context.step(b64decode(proof))
            is_proved = context.complete
        except (ValueError, gssapi.exceptions.GSSError):
            is_proved = False
        if not is_proved:
            raise GatewayAuthError(
                f"cannot believe the answer of {resp.url.host} (HTTP status {resp.status}): it does not bear the proof "
                "that the gateway could read your Kerberos ticket. Is this the gateway's address?"
            )


def _import_gssapi() -> Any:
    try:
        return import_module("gssapi")
    except ImportError:
        raise GatewayAuthError(
            "cannot log in with Kerberos: the package gssapi is not installed. pip install gssapi"
        ) from None


KINDS: dict[str, type[GatewayAuth]] = {
    "basic": BasicAuth,
    "jupyterhub": JupyterHubAuth,
    "kerberos": KerberosAuth,
    "token": TokenAuth,
}
"""The names that ``auth`` and ``auth.type`` understand, besides dotted names of classes."""


def make_auth(kind: Any, kwargs: Mapping[str, Any], source: str) -> Any:
    """Return what logs in, from a name, a class or an instance.

    Raises
    ------
    GatewayValueError
        When there is nothing of that name, or it does not take these arguments; says where they were set.
    """
    if kind is None:
        return GatewayAuth()
    if isinstance(kind, str):
        kind = KINDS.get(kind) or _import_class(kind, source)
    if isinstance(kind, type):
        try:
            kind = kind(**kwargs)
        except TypeError as error:
            raise GatewayValueError(f"cannot log in with {kind.__name__} ({source}): {error}") from None
    if not hasattr(kind, "headers") and not hasattr(kind, "pre_request"):
        raise GatewayValueError(
            f"cannot log in with {type(kind).__name__} ({source}): give one of {', '.join(KINDS)}, a class, "
            "or an instance of GatewayAuth"
        )
    return kind


def _import_class(name: str, source: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError):
        raise GatewayValueError(
            f"cannot log in with {name!r} ({source}): it is none of {', '.join(KINDS)}, and no class of that name "
            "can be imported"
        ) from None


def _check_header(secret: Any, name: str) -> str:
    text = str(secret).strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        # The value itself is a secret, so it is not shown.
        raise GatewayValueError(f"cannot log in with this {name}: it must be one word of ASCII characters")
    return text
