"""Tickets: what was signed is read back, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.wire.tickets import (
    CLOCK_SECONDS,
    COOKIE_SECONDS,
    OPEN_SECONDS,
    Ticket,
    bears_session,
    session_mark,
    sign,
    verify,
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
