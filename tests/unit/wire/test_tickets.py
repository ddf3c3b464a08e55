"""Tickets: what was signed is read back, and nothing else is believed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.wire.tickets import (
    _LINK,
    _TICKET,
    CLOCK_SECONDS,
    COOKIE_SECONDS,
    OPEN_SECONDS,
    Ticket,
    _signed,
    bears_session,
    cluster_of_link,
    session_mark,
    sign,
    sign_link,
    verify,
    verify_link,
)

TICKET = Ticket("abc", "alice", 1_000.0, "word", "session=digest")


def test_a_ticket_is_read_back():
    """All that it says."""
    assert verify(sign(TICKET, "secret"), "abc", "secret", now=999.0) == TICKET


@pytest.mark.parametrize(
    ("cluster", "secret", "now"),
    [("other", "secret", 999.0), ("abc", "another secret", 999.0), ("abc", "secret", 1_000.0)],
)
def test_it_opens_one_cluster_for_a_time(cluster: str, secret: str, now: float):
    """Not another cluster, not with another secret, not at the moment it expires."""
    assert verify(sign(TICKET, "secret"), cluster, secret, now) is None


@given(st.integers(0, 200), st.characters())
def test_a_changed_ticket_is_worth_nothing(where: int, character: str):
    """No character can be another one, unless it says the same."""
    text = sign(TICKET, "secret")
    changed = text[:where] + character + text[where + 1 :]

    assert verify(changed, "abc", "secret", now=999.0) in (None, TICKET)
    if "." in text[where:] and changed != text:
        assert verify(changed, "abc", "secret", now=999.0) is None


@given(st.text())
def test_nonsense_raises_nothing(text: str):
    """Whatever a cookie holds."""
    assert verify(text, "abc", "secret", now=0.0) is None


@pytest.mark.parametrize("until", [float("inf"), float("nan"), 1e12, 10**400, True, None, "2000"])
@pytest.mark.parametrize("once", ["", "word"])
def test_no_ticket_is_for_ever(until: object, once: str):
    """A lifetime that control never gives, or none at all, is worth nothing, even if signed."""
    assert verify(sign(Ticket("abc", "alice", until, once), "key"), "abc", "key", now=1_000.0) is None  # type: ignore


@pytest.mark.parametrize(("once", "seconds"), [("", COOKIE_SECONDS), ("word", OPEN_SECONDS)])
def test_the_longest_lifetime_is_that_of_its_kind(once: str, seconds: float):
    """With some time for clocks that disagree; a link's ticket is not good for a day."""
    for lifetime, good in ((seconds, True), (seconds + CLOCK_SECONDS, True), (seconds + CLOCK_SECONDS + 1, False)):
        text = sign(Ticket("abc", "alice", 1_000.0 + lifetime, once), "key")
        assert (verify(text, "abc", "key", now=1_000.0) is not None) == good


def test_without_a_mark_no_session_fits():
    """A ticket for a dashboard's own host is none for the gateway's."""
    assert bears_session(session_mark("__Host-s", "word"), lambda name: ["word"] if name == "s" else [])
    assert not bears_session("", lambda name: ["word"])
    assert not bears_session(session_mark("s", "word"), lambda name: [])


def test_the_owners_ticket_is_never_over():
    """Anybody else's is, as soon as the share epoch is later than its own."""
    assert not Ticket("abc", "alice", 1_000.0).is_over(10**6)
    shared = Ticket("abc", "bob", 1_000.0, epoch=2)
    assert [shared.is_over(epoch) for epoch in (0, 1, 2, 3)] == [False, False, False, True]


def test_a_link_is_read_back():
    """Its id and its end; and which cluster it names, before anything is believed."""
    text = sign_link("abc", "l1", 1_000.0, "secret")
    assert cluster_of_link(text) == "abc"
    assert verify_link(text, "abc", "secret", now=999.0) == ("l1", 1_000.0)
    for cluster, key, now in (("other", "secret", 999.0), ("abc", "another", 999.0), ("abc", "secret", 1_000.0)):
        assert verify_link(text, cluster, key, now) is None


def test_a_link_is_no_ticket_and_a_ticket_no_link():
    """Though both are signed with the same key: each for its purpose, whatever it says."""
    content = ["abc", "alice", 1_000.0, "word", "", None, None, []]
    as_link = _signed(content, "secret", _LINK)
    as_ticket = _signed(["abc", "l1", 1_000.0], "secret", _TICKET)
    assert verify(_signed(content, "secret", _TICKET), "abc", "secret", now=999.0) is not None
    assert verify(as_link, "abc", "secret", now=999.0) is None
    assert verify_link(as_ticket, "abc", "secret", now=999.0) is None


@given(st.text())
def test_a_nonsensical_link_raises_nothing(text: str):
    """Whatever stands in an address."""
    assert verify_link(text, "abc", "secret", now=0.0) is None
    cluster_of_link(text)


@pytest.mark.parametrize("content", ["[" * 1500, '["\\ud800", "", 0]', '["a\\u0000", "", 0]', "[1, 2, 3]"])
def test_a_link_of_nonsense_names_no_cluster(content: str):
    """Neither what JSON cannot nest, nor what no database takes for a name."""
    assert cluster_of_link(base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")) is None


@given(st.integers(0, 200), st.characters())
def test_a_changed_link_leads_nowhere(where: int, character: str):
    """No character can be another one, unless it says the same."""
    text = sign_link("abc", "l1", 1_000.0, "secret")
    changed = text[:where] + character + text[where + 1 :]
    assert verify_link(changed, "abc", "secret", now=999.0) in (None, ("l1", 1_000.0))
    if "." in text[where:] and changed != text:
        assert verify_link(changed, "abc", "secret", now=999.0) is None
