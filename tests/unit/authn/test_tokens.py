"""Personal tokens: how they look, how long an answer is believed, and how they are presented."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.in_process import Clock
from tests.support import eventually
from tidegate.authn import tokens
from tidegate.authn.base import Accepted, Presented
from tidegate.authn.tokens import CACHE_SECONDS, SECRET, TokenAuthenticator, mint_token
from tidegate.model.errors import DiskFull
from tidegate.model.principal import Principal, Token
from tidegate.store.sql import SqlStore

ALICE = Principal("alice", frozenset({"astro"}))


class CountingStore:
    """The real store, with a count of how often it was asked."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.asked = 0
        self.noted = 0
        self.full = False

    async def add_token(self, token: Token, secret: str) -> None:
        """Pass on."""
        await self.store.add_token(token, secret)

    async def find_token(self, secret: str) -> Token | None:
        """Count and pass on."""
        self.asked += 1
        found = await self.store.find_token(secret)
        await self.meanwhile()
        return found

    async def list_tokens(self, principal: str) -> list[Token]:
        """Pass on."""
        return await self.store.list_tokens(principal)

    async def note_use(self, token_id: str, at: float) -> None:
        """Count and pass on, if there is room."""
        self.noted += 1
        if self.full:
            raise DiskFull("cannot write: the disk is full")
        await self.store.note_use(token_id, at)

    async def remove_token(self, token_id: str) -> bool:
        """Pass on."""
        return await self.store.remove_token(token_id)

    async def meanwhile(self) -> None:
        """Do what happens between the look and the answer: by default nothing."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[CountingStore]:
    """A store on disk."""
    store = SqlStore(tmp_path / "data")
    await store.start()
    yield CountingStore(store)
    await store.close()


@pytest.fixture
def clock() -> Clock:
    """Time that stands still."""
    return Clock()


def bearer(secret: str) -> Presented:
    """Present a secret as a program does."""
    return Presented("bearer", secret)


def basic(user: bytes, secret: str) -> Presented:
    """Present a secret as the official dask-gateway client does."""
    return Presented("basic", base64.b64encode(user + b":" + secret.encode()).decode())


async def test_a_secret_can_be_recognised_by_scanners_and_is_long(store: CountingStore) -> None:
    """Every secret has the prefix and 256 random bits, and no two are the same."""
    made = [(await mint_token(store, ALICE, "laptop", now=1.0))[1] for _ in range(20)]

    assert all(SECRET.fullmatch(secret) for secret in made)
    assert made[0].startswith("tdg_")
    assert len(set(made)) == 20


async def test_the_principal_comes_back_with_its_groups(store: CountingStore, clock: Clock) -> None:
    """What was recorded with the token is what the caller is taken for."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)

    assert token.label == "laptop"
    assert await TokenAuthenticator(store, clock).authenticate(bearer(secret)) == Accepted(token.bearer)


async def test_a_revoked_token_is_refused_within_five_seconds(store: CountingStore, clock: Clock) -> None:
    """An answer is believed for a few seconds and no longer."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    authenticator = TokenAuthenticator(store, clock)
    assert await authenticator.authenticate(bearer(secret)) is not None
    await store.store.remove_token(token.id)

    clock.now += 5.0

    assert CACHE_SECONDS < 5
    assert await authenticator.authenticate(bearer(secret)) is None


async def test_a_token_that_is_revoked_here_is_refused_at_once(store: CountingStore, clock: Clock) -> None:
    """When the call has returned, no remembered answer opens the door; other tokens are still remembered."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    _, another = await mint_token(store, ALICE, "desk", now=1.0)
    authenticator = TokenAuthenticator(store, clock)
    for known in (secret, another):
        assert await authenticator.authenticate(bearer(known)) is not None

    assert await authenticator.revoke(token.id)
    asked = store.asked

    assert await authenticator.authenticate(bearer(secret)) is None
    assert await authenticator.authenticate(bearer(another)) is not None
    assert store.asked == asked + 1


async def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered(
    store: CountingStore, clock: Clock
) -> None:
    """The request that found it before it was removed is answered, the next one is refused."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    authenticator = TokenAuthenticator(store, clock)

    async def revoke() -> None:
        await authenticator.revoke(token.id)

    store.meanwhile = revoke  # type: ignore[method-assign]

    assert await authenticator.authenticate(bearer(secret)) is not None
    assert await authenticator.authenticate(bearer(secret)) is None


async def test_the_store_is_asked_once_while_an_answer_is_fresh(store: CountingStore, clock: Clock) -> None:
    """Ten requests within the time cost one query."""
    _, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    authenticator = TokenAuthenticator(store, clock)

    for _ in range(10):
        assert await authenticator.authenticate(bearer(secret)) is not None

    assert store.asked == 1


async def test_an_expired_token_is_refused_at_once(store: CountingStore, clock: Clock) -> None:
    """Expiry does not wait for the cache."""
    _, secret = await mint_token(store, ALICE, "laptop", now=clock.now, expires_at=clock.now + 1)
    authenticator = TokenAuthenticator(store, clock)
    assert await authenticator.authenticate(bearer(secret)) is not None

    clock.now += 1

    assert await authenticator.authenticate(bearer(secret)) is None


async def test_wrong_secrets_are_neither_remembered_nor_looked_up_in_vain(store: CountingStore, clock: Clock) -> None:
    """Garbage costs no query, and a token that is minted after a failed attempt works at once."""
    authenticator = TokenAuthenticator(store, clock)
    for garbage in ("", "x", "tdg_short", "tdg_" + "é" * 43, "tdg_" + "a" * 44, "tdg_" + "a" * 42 + "\n"):
        assert await authenticator.authenticate(bearer(garbage)) is None
    assert store.asked == 0

    secret = "tdg_" + "b" * 43
    assert await authenticator.authenticate(bearer(secret)) is None
    token = Token("id", ALICE, "late", 1.0)
    await store.add_token(token, secret)

    assert await authenticator.authenticate(bearer(secret)) == Accepted(token.bearer)


async def test_the_cache_is_bounded(store: CountingStore, clock: Clock) -> None:
    """However many tokens there are, only so many answers are kept, and none of them holds a secret."""
    authenticator = TokenAuthenticator(store, clock)
    _, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    await authenticator.authenticate(bearer(secret))
    known = authenticator._known
    entry = next(iter(known.values()))
    for number in range(tokens.CACHE_SIZE - 1):
        known[number.to_bytes(32, "big")] = entry

    _, another = await mint_token(store, ALICE, "laptop", now=1.0)
    await authenticator.authenticate(bearer(another))

    assert len(known) == tokens.CACHE_SIZE
    assert secret not in repr(known)


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("alice", b"alice"),
        ("josé", "josé".encode("latin-1")),
        ("josé", "josé".encode()),
        ("service:dask", b"service:dask"),
    ],
)
async def test_basic_takes_the_owners_name_in_either_encoding(
    store: CountingStore, clock: Clock, name: str, sent: bytes
) -> None:
    """Clients do not agree on how a name becomes bytes."""
    _, secret = await mint_token(store, Principal(name), "laptop", now=1.0)

    accepted = await TokenAuthenticator(store, clock).authenticate(basic(sent, secret))

    assert accepted is not None
    assert accepted.principal.name == name


@pytest.mark.parametrize("user", [b"", b"mallory", b"Alice", b"alice ", b"\xff\xfe"])
async def test_basic_refuses_the_right_secret_under_another_name(
    store: CountingStore, clock: Clock, user: bytes
) -> None:
    """A notebook that is configured for somebody else must not silently act as the token's owner."""
    _, secret = await mint_token(store, ALICE, "laptop", now=1.0)

    assert await TokenAuthenticator(store, clock).authenticate(basic(user, secret)) is None


async def test_the_last_use_is_noted_once_a_day(store: CountingStore, clock: Clock) -> None:
    """However many requests there are, also of a gateway that was started anew meanwhile; a day later it is a write."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    await mint_token(store, ALICE, "unused", now=0.0)
    first = clock.now
    for _ in range(2):
        authenticator = TokenAuthenticator(store, clock)
        for _ in range(3):
            assert await authenticator.authenticate(bearer(secret)) is not None
            await eventually(lambda waiting=authenticator._noting: not waiting)
            clock.now += CACHE_SECONDS
    assert [(known.id == token.id, known.used_at) for known in await store.list_tokens("alice")] == [
        (True, first),
        (False, None),
    ]
    assert store.noted == 1

    clock.now += tokens.DAY
    assert await authenticator.authenticate(bearer(secret)) is not None
    await eventually(lambda: not authenticator._noting)
    assert (await store.list_tokens("alice"))[0].used_at == clock.now
    assert store.noted == 2


async def test_a_full_disk_keeps_nobody_out(store: CountingStore, clock: Clock) -> None:
    """Whoever only reads is served, and the disk is not tried with each request."""
    token, secret = await mint_token(store, ALICE, "laptop", now=1.0)
    authenticator = TokenAuthenticator(store, clock)
    store.full = True
    for _ in range(3):
        assert await authenticator.authenticate(bearer(secret)) == Accepted(token.bearer)
        clock.now += CACHE_SECONDS
    await eventually(lambda: store.noted)
    await authenticator.close()

    assert store.noted == 1


@pytest.mark.parametrize("why", ["expired", "wrong"])
async def test_what_opens_nothing_is_no_use(store: CountingStore, clock: Clock, why: str) -> None:
    """Only who was let in has used a token."""
    ends = 2.0 if why == "expired" else None
    _, secret = await mint_token(store, ALICE, "old", now=1.0, expires_at=ends)
    authenticator = TokenAuthenticator(store, clock)
    shown = bearer(secret) if why == "expired" else basic(b"mallory", secret)

    assert await authenticator.authenticate(shown) is None
    assert store.noted == 0
    assert not authenticator._noting
