"""OpenID Connect: people log in at their organisation's provider (Keycloak, Entra ID, Okta, GitLab, ...).

Three ways lead here:

* A browser is sent to the provider and comes back with a code, which we exchange for an ID token (authorization code
  flow). That it is the same login that began here is proved thrice: ``state`` ties the return to this browser, the
  ``nonce`` the ID token to this login, PKCE the code to us (RFC 9700, 2.1).
* A terminal shows a code, which the person types into the provider's page in any browser (device flow, RFC 8628).
* A program bears an access token that the provider signed for this gateway (RFC 9068), where ``audience`` is set.

What a token says counts if its signature is the provider's own, by an asymmetric algorithm that the settings allow, and
it is from this issuer, for this audience, and of this time. Who that is here is a matter of the settings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeGuard
from urllib.parse import urlencode, urlsplit

from pydantic import AfterValidator, Field

from tidegate.authn.base import Accepted, Begun, BegunDevice, NotAdmitted, Presented, Waiting
from tidegate.authn.oidc_provider import JWT, Provider, is_safe_url, peek_claims
from tidegate.authn.tokens import SECRET_PREFIX
from tidegate.authn.users import NAME
from tidegate.model.errors import Busy, Invalid, LoginFailed, NotAllowed
from tidegate.model.principal import Principal
from tidegate.settings import FilePath, Section, Unit

CLOCK_SKEW = 30.0
"""Seconds by which the provider's clock may differ from ours."""

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"

SECRET_VARIABLE = "TIDEGATE_OIDC_CLIENT_SECRET"  # noqa: S105 - the name of the variable

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]  # fmt: skip

log = logging.getLogger(__name__)


def _check_issuer(text: str) -> str:
    parts = urlsplit(text)
    if not is_safe_url(text) or parts.query or parts.fragment or parts.username:
        raise ValueError("write the provider's URL, such as https://login.example.org/realms/science")
    return text


class OidcSettings(Section):
    """Logins at an OpenID Connect provider."""

    issuer: Annotated[str, AfterValidator(_check_issuer)]
    """The provider's URL, exactly as its discovery document (``/.well-known/openid-configuration`` below it) writes
    it: https, except on this machine."""
    client_id: Annotated[str, Field(min_length=1)]
    """What the provider calls this gateway. Register it there with the redirect URI ``<public
    address>/login/oidc/return``."""
    client_secret_file: FilePath | None = None
    """File with the secret that the provider has given to the gateway. By default what is in the environment variable
    ``TIDEGATE_OIDC_CLIENT_SECRET``; without either it is a public client, for which PKCE alone vouches."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What the provider is asked for. Many tell groups only where a scope such as ``groups`` is asked for."""
    username_claim: str = "preferred_username"
    """Which claim is the user's name here. It must be one that nobody can change or give to somebody else by
    themselves: not all providers promise that of ``preferred_username`` and ``email``. ``sub`` always is. An ``email``
    counts only where the provider says that it is verified (``email_verified``)."""
    groups_claim: str = "groups"
    """Which claim lists the user's groups."""
    allowed_groups: tuple[str, ...] = ()
    """Who may use the gateway: members of any of these. Empty: everybody whom the provider knows."""
    audience: str | None = None
    """The ``aud`` of access tokens with which programs may call the gateway (JSON Web Tokens, RFC 9068). Without it
    programs use personal tokens."""
    algorithms: tuple[Algorithm, ...] = ("RS256", "PS256", "ES256", "EdDSA")
    """By which tokens may be signed."""
    label: str = "single sign-on"
    """What the login page says: "Log in with <label>"."""
    ca_file: FilePath | None = None
    """PEM file of the authority to trust for the provider, besides the usual ones."""
    timeout: Annotated[float, Field(gt=0, le=60), Unit("seconds")] = 5
    """For an answer of the provider, after which it counts as silent."""


class OidcAuthenticator:
    """Knows people by what an OpenID provider says of them.

    Parameters
    ----------
    data : Path
        The gateway's data folder; nothing is kept in it.
    settings : OidcSettings
    clock : callable
        Returns the time in seconds since the epoch.
    """

    Settings = OidcSettings
    scheme = "Bearer"

    def __init__(self, data: Path, settings: OidcSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._provider = Provider(settings.issuer, timeout=settings.timeout, ca_file=settings.ca_file, clock=clock)
        self.label = settings.label

    async def start(self) -> None:
        """Ask the provider what it is. If it is silent now, it may answer later.

        Raises
        ------
        Invalid
            When something else answers, or a file cannot be read.
        """
        await self._provider.start()
        try:
            self._secret()
            await self._provider.metadata()
        except Busy as error:
            log.warning("oidc: %s does not answer: %s", self._settings.issuer, error.detail)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections to the provider."""
        await self._provider.close()

    async def authenticate(self, presented: Presented) -> Accepted | None:
        """Return who bears an access token of the provider's for this gateway, or None.

        Raises
        ------
        Busy
            When the provider does not answer, and its keys are not known.
        NotAdmitted
            When the token is good, but its owner may not use this gateway.
        """
        token, audience = presented.value, self._settings.audience
        if audience is None or presented.scheme != "bearer" or token.startswith(SECRET_PREFIX):
            return None
        if not JWT.fullmatch(token) or peek_claims(token).get("iss") != self._settings.issuer:
            return None
        claims = await self._read(token, audience)
        # An ID token says who has logged in somewhere; it is no permission to act for them.
        if claims is None or "nonce" in claims:
            return None
        return Accepted(replace(self._admit(claims), until=claims["exp"]))

    # -- logins in a browser -------------------------------------------------------------------------------------------

    async def begin(self, redirect_uri: str) -> Begun:
        """Return the provider's page, and what proves on the return that it was this login."""
        state, nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        page = await self._provider.endpoint("authorization_endpoint")
        return Begun(f"{page}{'&' if '?' in page else '?'}{urlencode(query)}", json.dumps([state, nonce, verifier]))

    async def complete(self, redirect_uri: str, secret: str, query: Mapping[str, str]) -> Principal:
        """Return who came back from there.

        Raises
        ------
        LoginFailed
            When the provider did not let them in, or this is not the login that began here.
        Busy
            When the provider does not answer.
        """
        state, nonce, verifier = json.loads(secret)
        if not hmac.compare_digest(state.encode(), query.get("state", "").encode("utf-8", "replace")):
            raise LoginFailed("This login began in another window: begin again.")
        await self._check_sender(query)
        code = query.get("code")
        if not code:
            log.info("oidc: a login came back without a code: %r", query.get("error", "")[:200])
            raise LoginFailed("The login provider did not let you in. Begin again, or ask its administrator.")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        status, answer = await self._post("token_endpoint", form)
        if status != 200:
            log.warning("oidc: the provider did not take a code: %s %r", status, answer.get("error"))
            if answer.get("error") in ("invalid_client", "unauthorized_client"):
                raise LoginFailed("The login provider does not accept this gateway. Ask the gateway's administrator.")
            raise LoginFailed("The login provider no longer knows of this login: begin again.")
        return await self._who(answer, nonce)

    async def _check_sender(self, query: Mapping[str, str]) -> None:
        """See that the answer is from this provider, where it says so in its answers (RFC 9207)."""
        says = (await self._provider.metadata()).get("authorization_response_iss_parameter_supported") is True
        if (says or "iss" in query) and query.get("iss") != self._settings.issuer:
            log.warning("oidc: a login came back from %r", query.get("iss", "")[:200])
            raise LoginFailed("This login came back from another provider: begin again.")

    # -- logins in a terminal ------------------------------------------------------------------------------------------

    async def begin_device(self) -> BegunDevice | None:
        """Return what the terminal shows and what ``complete_device`` needs; None where the provider cannot do that."""
        if "device_authorization_endpoint" not in await self._provider.metadata():
            return None
        form = {"client_id": self._settings.client_id, "scope": " ".join(self._settings.scopes)}
        status, answer = await self._post("device_authorization_endpoint", form)
        code, user_code, page = (answer.get(key) for key in ("device_code", "user_code", "verification_uri"))
        whole = answer.get("verification_uri_complete")
        if status != 200 or not isinstance(code, str) or not isinstance(user_code, str) or not is_safe_url(page):
            log.warning("oidc: the provider began no login for a terminal: %s %r", status, answer.get("error"))
            raise LoginFailed("The login provider does not let this gateway log terminals in. Ask its administrator.")
        return BegunDevice(
            user_code=user_code,
            page=str(page),
            whole_page=whole if is_safe_url(whole) else None,
            seconds=_number(answer.get("expires_in"), 600.0),
            interval=_number(answer.get("interval"), 5.0),  # RFC 8628, 3.2
            secret=code,
        )

    async def complete_device(self, secret: str) -> Principal | Waiting:
        """Return who has typed the code, or that nobody has yet.

        Raises
        ------
        LoginFailed
            When nobody will.
        """
        form = {"grant_type": DEVICE_GRANT, "device_code": secret}
        status, answer = await self._post("token_endpoint", form)
        if status == 200:
            return await self._who(answer, None)
        error = answer.get("error")
        if error in ("authorization_pending", "slow_down"):
            return Waiting(slower=error == "slow_down")
        log.info("oidc: a login of a terminal came to nothing: %s %r", status, error)
        words = {
            "access_denied": "The login was denied at the provider's page.",
            "expired_token": "Nobody typed the code in time: begin again.",
        }
        raise LoginFailed(words.get(str(error), "The login provider does not know of this login: begin again."))

    # -- what tokens say -----------------------------------------------------------------------------------------------

    async def _who(self, answer: Mapping[str, Any], nonce: str | None) -> Principal:
        """Return whom the provider's answer to a login names."""
        token, client = answer.get("id_token"), self._settings.client_id
        claims = await self._read(token, client) if isinstance(token, str) else None
        if claims is None or (nonce is not None and not _same(claims.get("nonce"), nonce)):
            log.warning("oidc: the provider's ID token is not right: %s", "another nonce" if claims else "not for us")
            raise LoginFailed("The login provider answered with something else than this login: begin again.")
        wanted = {self._settings.username_claim, self._settings.groups_claim}
        if self._settings.username_claim == "email":
            wanted.add("email_verified")
        access = answer.get("access_token")
        if not wanted <= claims.keys() and isinstance(access, str):
            more = await self._provider.userinfo(access)
            # The answer is somebody else's if it is not about the same subject (OpenID Connect Core, 5.3.2).
            if _same(more.get("sub"), claims["sub"]):
                claims = {**more, **claims}
        try:
            return self._admit(claims)
        except NotAllowed as error:
            raise LoginFailed(error.message) from None

    async def _read(self, token: str, audience: str) -> Mapping[str, Any] | None:
        """Return what a token says that is the provider's, for this audience and of this time, or None."""
        claims = await self._provider.read_signed(token, self._settings.algorithms)
        if claims is None or claims.get("iss") != self._settings.issuer or not isinstance(claims.get("sub"), str):
            return None
        meant = claims.get("aud")
        meant = [meant] if isinstance(meant, str) else meant
        if not isinstance(meant, list) or audience not in meant:
            return None
        # Who asked for it, where that is said, must be us if it is for us (OpenID Connect Core, 3.1.3.7).
        if audience == self._settings.client_id and claims.get("azp", audience) != audience:
            return None
        now, ends, begins = self._clock(), claims.get("exp"), claims.get("nbf", 0)
        if not _is_number(ends) or not _is_number(begins):
            return None
        return claims if begins - CLOCK_SKEW <= now < ends + CLOCK_SKEW else None

    def _admit(self, claims: Mapping[str, Any]) -> Principal:
        """Return who is meant here, if they may use this gateway.

        Raises
        ------
        NotAdmitted
        """
        claim = self._settings.username_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            log.warning("oidc: cannot use the claim %s of subject %r as a name", claim, str(claims.get("sub"))[:200])
            raise NotAdmitted(
                f"cannot log you in: what the login provider says of you has no usable {claim}, which is your name "
                "here. Ask the administrator of this gateway"
            )
        # Silence is no proof, and some providers write the truth as a string.
        if claim == "email" and claims.get("email_verified") is not True and claims.get("email_verified") != "true":
            raise NotAdmitted("cannot log you in: the login provider does not say that it verified your email address")
        told = claims.get(self._settings.groups_claim)
        groups = frozenset(group for group in told if isinstance(group, str)) if isinstance(told, list) else frozenset()
        if self._settings.allowed_groups and groups.isdisjoint(self._settings.allowed_groups):
            raise NotAdmitted(
                f"cannot let {name} use this gateway: it is for members of {', '.join(self._settings.allowed_groups)}"
            )
        return Principal(name, groups, method="oidc")

    # -- what the gateway is to the provider ---------------------------------------------------------------------------

    async def _post(self, endpoint: str, form: Mapping[str, str]) -> tuple[int, Mapping[str, Any]]:
        return await self._provider.post(endpoint, form, self._settings.client_id, self._secret())

    def _secret(self) -> str | None:
        """Return the client's secret, or None. It is read each time, and never kept."""
        file = self._settings.client_secret_file
        if file is None:
            return os.environ.get(SECRET_VARIABLE) or None
        try:
            return file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"cannot read authentication.logins.oidc.client_secret_file {file}: {error}") from None


def _same(told: Any, known: str) -> bool:
    return isinstance(told, str) and hmac.compare_digest(told.encode("utf-8", "replace"), known.encode())


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: Any, default: float) -> float:
    return min(max(float(value), 1.0), 3600.0) if _is_number(value) else default
