"""JupyterHub: whoever has a token of a Hub, or can log in there, is known here by the same name.

A notebook server bears an API token of its user. The client sends it, and we ask the Hub whose it is, with that very
token: so nothing has to be copied between the two, and a token that the Hub revokes is soon worth nothing here either.
Browsers go by OAuth instead: the Hub logs the person in and hands us a token, which is asked about in the same way and
then forgotten.

A Hub has many services, and any of them may hold tokens of its users. So a token has to carry the *scope* that permits
access to this one. Where it is missing, the answer is the lines with which the Hub's administrator grants it.

When the Hub does not answer, nobody can say whether a token is right: callers are told to come back, not that they are
wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

from tidegate.authn.base import Accepted, Begun, NotAdmitted, Presented
from tidegate.authn.hub_api import HubApi, JupyterHubSettings
from tidegate.authn.tokens import SECRET_PREFIX
from tidegate.model.errors import Busy, Invalid, LoginFailed
from tidegate.model.hub import read_server
from tidegate.model.principal import Principal

SCHEMES = ("jupyterhub", "token", "bearer")
"""How tokens come: the first from dask-gateway's client and ours, the others are the Hub's own and everybody's."""

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}", re.ASCII)
"""What a token may look like (``b64token`` of RFC 6750). The Hub's own are 32 letters and digits; others are refused
without asking."""

CACHE_SIZE = 10_000
"""How many answers of the Hub are remembered at the most."""

log = logging.getLogger(__name__)


class JupyterHubAuthenticator:
    """Knows people by what a JupyterHub says of their tokens, and logs browsers in there.

    Parameters
    ----------
    data : Path
        The gateway's data folder; nothing is kept in it.
    settings : JupyterHubSettings
    clock : callable
        Returns the time in seconds since the epoch.
    """

    Settings = JupyterHubSettings
    scheme = "jupyterhub"
    label = "JupyterHub"

    def __init__(self, data: Path, settings: JupyterHubSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._api = HubApi(settings, "cannot check who you are")
        self._hub = settings.hub_url or _hub_url()
        self._service = self._api.service
        fallback = f"service-{self._service}" if self._service else None
        self._client = settings.client_id or os.environ.get("JUPYTERHUB_CLIENT_ID") or fallback
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def start(self) -> None:
        """Open a session, and see that what answers is a Hub, if anything does.

        Raises
        ------
        Invalid
            When something else answers, or a file cannot be read.
        """
        await self._api.start()
        try:
            await self._greet()
            self._api.own_token()
        except BaseException:
            await self.close()
            raise
        if self._service is None:
            log.warning("jupyterhub: any_token is set, so every token of the Hub is accepted, whatever it is for")

    async def close(self) -> None:
        """Close the connections to the Hub."""
        await self._api.close()

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return whose token of the Hub is presented, or None.

        Raises
        ------
        Busy
            When the Hub does not answer.
        NotAdmitted
            When the token is good but not for this service.
        """
        token = presented.value
        # Our own tokens have been asked about before, and are nobody else's business.
        if presented.scheme not in SCHEMES or not TOKEN.fullmatch(token) or token.startswith(SECRET_PREFIX):
            return None
        digest = hashlib.sha256(token.encode()).digest()
        principal, good_until = self._known.get(digest, (None, 0.0))
        if principal is None or good_until <= self._clock():
            self._known.pop(digest, None)
            asked_at = self._clock()
            user = await self._ask_who(token)
            if user is None:
                return None
            # The role is for the person at the browser: a token may be in a program's hands, or another service's.
            principal = replace(self._admit(user), admin=False)
            self._known[digest] = (principal, asked_at + self._settings.cache)
            if len(self._known) > CACHE_SIZE:
                self._known.popitem(last=False)
        return Accepted(principal)

    # -- logins in a browser -------------------------------------------------------------------------------------------

    async def begin(self, redirect_uri: str) -> Begun:
        """Return the Hub's page that asks the person, and what proves that it was us who sent them (state, PKCE).

        Raises
        ------
        LoginFailed
            When the gateway is no service of the Hub that can do this.
        """
        if not self._client or self._api.own_token() is None:
            raise LoginFailed(
                "cannot log in by JupyterHub in a browser: this gateway has no token of its own at the Hub. Log in "
                "another way; its administrator sets authentication.logins.jupyterhub.api_token_file"
            )
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self._client,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        page = urljoin(redirect_uri, f"{self._hub}/api/oauth2/authorize")
        return Begun(f"{page}?{urlencode(query)}", json.dumps([state, verifier]))

    async def complete(self, redirect_uri: str, secret: str, query: Mapping[str, str]) -> Principal:
        """Return who came back from there.

        Raises
        ------
        LoginFailed
            When the Hub did not let them in, or not to this service.
        Busy
            When the Hub does not answer.
        """
        state, verifier = json.loads(secret)
        if not hmac.compare_digest(state.encode(), query.get("state", "").encode("utf-8", "replace")):
            raise LoginFailed("This login began in another window: begin again.")
        code = query.get("code")
        if not code:
            log.info("jupyterhub: a login came back without a code: %r", query.get("error"))
            raise LoginFailed("JupyterHub did not let you in. Begin again, or ask its administrator.")
        token = await self._redeem(code, verifier, redirect_uri)
        user = await self._ask_who(token) if token else None
        if user is None:
            raise LoginFailed("JupyterHub no longer knows of this login: begin again.")
        try:
            return self._admit(user)
        except NotAdmitted as error:
            raise LoginFailed(error.message) from None

    # -- what the Hub says ---------------------------------------------------------------------------------------------

    def _admit(self, user: Mapping[str, Any]) -> Principal:
        """Return who that is, if their token is for this service.

        Raises
        ------
        NotAdmitted
        """
        principal = read_user(user)
        scopes = user.get("scopes") or ()
        if self._service and not {"access:services", f"access:services!service={self._service}"}.intersection(scopes):
            log.warning("jupyterhub: a token of %s lacks the scope for service %s", principal.name, self._service)
            raise NotAdmitted(explain_scope(self._service))
        return principal

    async def _ask_who(self, token: str) -> Mapping[str, Any] | None:
        """Return what the Hub says of the owner of a token, or None when it does not know the token."""
        status, user = await self._api.call("GET", "/user", headers={"Authorization": f"token {token}"})
        if status in (401, 403):
            return None
        if status != 200 or not isinstance(user, dict) or not isinstance(user.get("name"), str):
            raise self._api.silence(f"GET {self._api.url}/user was answered by {status}")
        return user

    async def _redeem(self, code: str, verifier: str, redirect_uri: str) -> str | None:
        """Return the token for which the Hub takes a login's code, or None when it does not take it."""
        form = {
            "client_id": self._client,
            "client_secret": self._api.own_token(),
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        status, answer = await self._api.call("POST", "/oauth2/token", data=form)
        told = answer if isinstance(answer, dict) else {}
        if status in (400, 401, 403):
            log.warning(
                "jupyterhub: the Hub did not take the code of a login as %s: %s", self._client, told.get("error")
            )
            return None
        if status != 200 or not TOKEN.fullmatch(str(told.get("access_token"))):
            raise self._api.silence(f"POST {self._api.url}/oauth2/token was answered by {status}")
        return str(told["access_token"])

    async def _greet(self) -> None:
        try:
            status, about = await self._api.call("GET", "/")
        except Busy as error:
            log.warning("jupyterhub: %s: %s", error.message, error.detail)
            return
        if status == 200 and isinstance(about, dict) and "version" in about:
            log.info("jupyterhub: the Hub at %s is JupyterHub %s", self._api.url, about["version"])
        elif status < 500:
            raise Invalid(
                f"cannot use authentication.logins.jupyterhub.api_url {self._api.url}: what answers there (with "
                f"{status}) is not the API of a JupyterHub. Its path ends with /hub/api"
            )


def read_user(user: Mapping[str, Any]) -> Principal:
    """Return whom the Hub describes. What is not a user, or might be taken for such, is named with its kind.

    >>> read_user({"kind": "user", "name": "alice", "groups": ["hydro"]}).name
    'alice'
    >>> read_user({"kind": "service", "name": "alice"}).name
    'service:alice'
    """
    name, kind = str(user["name"]), str(user.get("kind") or "user")
    if kind != "user" or ":" in name:
        name = f"{kind}:{name}"
    groups = frozenset(str(group) for group in user.get("groups") or ())
    server = read_server(name, [str(scope) for scope in user.get("scopes") or ()]) if kind == "user" else ""
    return Principal(name, groups, user.get("admin") is True, method="jupyterhub", server=server)


def explain_scope(service: str) -> str:
    """Return what a user reads whose token is not for this service: the lines that mend it."""
    scope = f"access:services!service={service}"
    return (
        f"JupyterHub knows you, but your token does not have the scope {scope}, without which it is not for this "
        "gateway. The Hub's administrator adds to jupyterhub_config.py, and restarts the Hub:\n\n"
        "c.JupyterHub.load_roles = [\n"
        f'    {{"name": "user", "scopes": ["self", "{scope}"]}},\n'
        f'    {{"name": "server", "scopes": ["users:activity!user", "access:servers!server", "{scope}"]}},\n'
        "]\n\n"
        "Then stop your notebook server and start it again: its token gets its scopes at the start."
    )


def _hub_url() -> str:
    """Return where browsers find the Hub, as it tells the services that it starts."""
    given = os.environ.get
    if public := given("JUPYTERHUB_PUBLIC_HUB_URL"):
        return public.rstrip("/")
    return given("JUPYTERHUB_HOST", "").rstrip("/") + given("JUPYTERHUB_BASE_URL", "/").rstrip("/") + "/hub"
