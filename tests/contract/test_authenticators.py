"""What every authenticator promises (``authn/base.py``)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hub_double import hub_double
from tests.oidc_double import authenticator_for, new_key, oidc_double
from tidegate.authn.base import Authenticator, Presented, parse_authorization
from tidegate.authn.jupyterhub import JupyterHubAuthenticator, JupyterHubSettings
from tidegate.authn.passwords import PasswordAuthenticator
from tidegate.authn.tokens import TokenAuthenticator, mint_token
from tidegate.authn.users import User, UserFile, hash_password
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore

KINDS = ["tokens", "passwords", "jupyterhub", "oidc"]


@dataclass(frozen=True)
class Subject:
    """An authenticator, and the headers by which it knows alice."""

    authenticator: Authenticator
    good: tuple[str, ...]
    nearly: tuple[str, ...]


CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Hashes that can be checked hundreds of times in a test."""

NOBODY = ("Basic ====", "Basic YWxpY2U=", "Digest username=alice")
"""Credentials that are nobody's anywhere."""


def basic(user: str, secret: str) -> str:
    """Return a Basic header."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


@pytest.fixture(params=KINDS)
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """Each authenticator, with a credential of alice."""
    make = {"tokens": tokens, "passwords": passwords, "jupyterhub": jupyterhub, "oidc": oidc}[request.param]
    async with make(tmp_path / "data") as made:
        await made.authenticator.start()
        yield made
        await made.authenticator.close()


@asynccontextmanager
async def tokens(data: Path) -> AsyncIterator[Subject]:
    """Personal tokens."""
    store = SqlStore(data)
    await store.start()
    _, secret = await mint_token(store, Principal("alice"), "test", now=1.0)
    _, another = await mint_token(store, Principal("mallory"), "test", now=1.0)
    good = (f"Bearer {secret}", f"bearer {secret}", f"BEARER   {secret} ", basic("alice", secret))
    nearly = (
        f"Bearer {secret[:-1]}",
        f"Bearer {secret}x",
        f"Bearer {secret.upper()}",
        f"Bearer {secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        f"Token {secret}",
        basic("alice", another),
        basic("mallory", secret),
        basic("alice", ""),
        "Basic " + secret,
        *NOBODY,
    )
    yield Subject(TokenAuthenticator(store), good, nearly)
    await store.close()


@asynccontextmanager
async def passwords(data: Path) -> AsyncIterator[Subject]:
    """A file of users."""
    with UserFile(data / "users").changing() as users:
        for name, password in {"alice": "grüne Wüste", "mallory": "trockenes Meer"}.items():
            users[name] = User(name, hash_password(password, CHEAP))
    latin = "Basic " + base64.b64encode("alice:grüne Wüste".encode("latin-1")).decode()
    good = (basic("alice", "grüne Wüste"), latin, basic("alice", "grüne Wüste").replace("Basic", "bASIC  "))
    nearly = (
        basic("alice", "grüne Wüst"),
        basic("alice", "Grüne Wüste"),
        basic("alice", "trockenes Meer"),
        basic("mallory", "grüne Wüste"),
        basic("Alice", "grüne Wüste"),
        basic("alice", ""),
        basic("", "grüne Wüste"),
        basic("alice", "x" * 2000),
        basic("alice", "grüne Wüste").replace("Basic", "Bearer"),
        *NOBODY,
    )
    yield Subject(PasswordAuthenticator(data, hasher=CHEAP), good, nearly)


@asynccontextmanager
async def jupyterhub(data: Path) -> AsyncIterator[Subject]:
    """Tokens of a JupyterHub."""
    good = "0123456789abcdef0123456789abcdef"
    async with hub_double() as hub:
        hub.add(good, "alice")
        settings = JupyterHubSettings(api_url=hub.api_url, service_name="dask-gateway")
        nearly = (
            f"jupyterhub {good[:-1]}",
            f"jupyterhub {good}0",
            f"jupyterhub {good.upper()}",
            f"jupyterhub {good} {good}",
            f"jupyterhub token {good}",
            f"Negotiate {good}",
            basic("alice", good),
            *NOBODY,
        )
        headers = (f"jupyterhub {good}", f"token {good}", f"Bearer {good}", f"JUPYTERHUB   {good} ")
        yield Subject(JupyterHubAuthenticator(data, settings), headers, nearly)


@asynccontextmanager
async def oidc(data: Path) -> AsyncIterator[Subject]:
    """Access tokens of an OpenID provider."""
    async with oidc_double() as provider:
        good = provider.access_token()
        nearly = (
            f"Bearer {good[:-2]}",
            f"Bearer {good}x",
            f"Bearer {good.swapcase()}",
            f"Bearer {provider.access_token(new_key('first'))}",
            f"Bearer {provider.access_token(aud='another')}",
            f"Bearer {provider.access_token(exp=1)}",
            f"Token {good}",
            basic("alice", good),
            *NOBODY,
        )
        yield Subject(authenticator_for(provider, data), (f"Bearer {good}", f"bearer   {good} "), nearly)


def presented(header: str) -> Presented:
    """Parse a header that has the form of one."""
    parsed = parse_authorization(header)
    assert parsed is not None
    return parsed


async def test_a_right_credential_is_known_in_every_form(subject: Subject) -> None:
    """Schemes are compared without case, and spaces around do not matter."""
    for header in subject.good:
        accepted = await subject.authenticator.authenticate(presented(header))
        assert accepted is not None, header
        assert accepted.principal.name == "alice"


async def test_a_nearly_right_credential_is_not(subject: Subject) -> None:
    """One wrong character, another name, another scheme: None, without a word about which."""
    for header in subject.nearly:
        assert await subject.authenticator.authenticate(presented(header)) is None, header


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(scheme=st.sampled_from(["basic", "bearer", "negotiate", ""]), value=st.text())
async def test_nonsense_is_nobody(subject: Subject, scheme: str, value: str) -> None:
    """Whatever is presented, the answer is None and never an exception."""
    assert await subject.authenticator.authenticate(Presented(scheme, value)) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(raw=st.binary())
async def test_basic_nonsense_is_nobody(subject: Subject, raw: bytes) -> None:
    """Any bytes in base64, and any that only look like it."""
    for value in (base64.b64encode(raw).decode(), raw.decode("latin-1")):
        assert await subject.authenticator.authenticate(Presented("basic", value)) is None


async def test_no_secret_is_shown(subject: Subject) -> None:
    """Neither what was presented nor the authenticator shows a secret when it is printed."""
    secret = subject.good[0].split()[1]
    given_ = presented(subject.good[0])
    await subject.authenticator.authenticate(given_)

    assert secret not in repr(given_)
    assert secret not in repr(vars(subject.authenticator))


async def test_it_names_the_scheme_of_the_challenge(subject: Subject) -> None:
    """A refused program is told which scheme to come back with."""
    names: Callable[[str], bool] = str.isalnum
    assert names(subject.authenticator.scheme)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", " ", "é x"])
def test_a_header_that_is_none_is_not_presented(header: str | None) -> None:
    """A scheme without a value, or no scheme at all."""
    assert parse_authorization(header) is None
