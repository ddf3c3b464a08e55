"""Session cookies: they say who, they end, and they cannot be made by anyone else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.in_process import Clock
from tidegate.authn.sessions import SESSION_SECONDS, Session, Sessions
from tidegate.model.principal import Principal

ALICE = Principal("alicé", frozenset({"astro", "geo"}), admin=True, method="session", origin="oidc")


@pytest.fixture
def sessions() -> Sessions:
    """Sessions of a gateway whose time stands still."""
    return Sessions(lambda: b"k" * 32, Clock())


def test_a_session_says_who_logged_in() -> None:
    """Name, groups and admin come back; the method is the session, which knows how it began."""
    clock = Clock()
    sessions = Sessions(lambda: b"k" * 32, clock, 3600.0)
    value = sessions.seal(Principal("alicé", frozenset({"geo", "astro"}), admin=True, method="oidc"), "entry")

    assert sessions.read(value) == Session(ALICE, clock.now + 3600.0, "entry")


def test_a_session_ends_by_itself() -> None:
    """After a working day it is worth nothing."""
    clock = Clock()
    sessions = Sessions(lambda: b"k" * 32, clock)
    cookie = sessions.seal(ALICE)

    clock.now += SESSION_SECONDS - 1
    assert sessions.read(cookie) is not None
    clock.now += 1

    assert sessions.read(cookie) is None


def test_a_session_of_another_gateway_is_no_session() -> None:
    """The key decides."""
    clock = Clock()

    assert Sessions(lambda: b"k" * 32, clock).read(Sessions(lambda: b"K" * 32, clock).seal(ALICE)) is None


def test_no_byte_of_a_session_can_be_changed() -> None:
    """Every altered cookie is refused, and never an error."""
    sessions = Sessions(lambda: b"k" * 32, Clock())
    cookie = sessions.seal(Principal("alice"))
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(cookie.partition(".")[0]).replace(b"alice", b"admin"))

    assert sessions.read(f"{forged.decode()}.{cookie.partition('.')[2]}") is None
    for position in range(len(cookie)):
        assert sessions.read(cookie[:position] + "~" + cookie[position + 1 :]) is None


@given(st.one_of(st.none(), st.text()))
def test_nonsense_is_no_session(value: str | None) -> None:
    """Whatever a browser sends, reading it never raises."""
    assert Sessions(lambda: b"k" * 32, Clock()).read(value) is None


@pytest.mark.parametrize(
    ("scheme", "prefix", "start"),
    [
        ("http", "", "tidegate-"),
        ("http", "/services/dask", "tidegate-"),
        ("https", "", "__Host-tidegate-"),
        ("https", "/services/dask", "__Secure-tidegate-"),
    ],
)
def test_the_cookies_name_makes_browsers_enforce_its_place(scheme: str, prefix: str, start: str) -> None:
    """``__Host-`` wants the whole host, which under a prefix is not ours."""
    assert Sessions(lambda: b"k" * 32).cookie_name(scheme, prefix).startswith(start)


def test_two_gateways_on_one_host_have_different_cookies() -> None:
    """Cookies know no ports."""
    assert Sessions(lambda: b"k" * 32).cookie_name("http", "") != Sessions(lambda: b"K" * 32).cookie_name("http", "")


def test_another_key_ends_all_sessions() -> None:
    """At once, also while the gateway runs: that is how an administrator ends them."""
    keys = [b"k" * 32]
    sessions = Sessions(lambda: keys[0], Clock())
    value = sessions.seal(ALICE)
    assert sessions.read(value) is not None

    keys[0] = b"K" * 32

    assert sessions.read(value) is None


def test_a_session_ends_at_once(sessions: Sessions) -> None:
    """Whoever has a copy of its cookie has nothing; another one, of the same moment, goes on."""
    value, another = sessions.seal(ALICE), sessions.seal(ALICE)

    sessions.end(value)

    assert sessions.read(value) is None
    assert sessions.read(another) is not None


def test_a_session_goes_on_on_behalf_of_somebody(sessions: Sessions) -> None:
    """It is another one, which says the same and ends when it would have; the one before is over. And back again."""
    first = sessions.seal(ALICE, "entry")
    begun = sessions.read(first)
    assert begun is not None

    second = sessions.change(first, "bob")
    third = sessions.change(second, "")

    assert len({first, second, third}) == 3
    assert sessions.read(first) is None
    assert sessions.read(second) is None
    assert sessions.read(third) == begun


def test_acting_on_behalf_is_sealed(sessions: Sessions) -> None:
    """Nobody can write the name of another user into their session."""
    value = sessions.change(sessions.seal(ALICE), "bob")
    session = sessions.read(value)
    body, _, signature = value.partition(".")
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(body).replace(b"bob", b"eve")).decode()

    assert session is not None
    assert (session.behalf, session.principal) == ("bob", ALICE)
    assert sessions.read(f"{forged}.{signature}") is None
