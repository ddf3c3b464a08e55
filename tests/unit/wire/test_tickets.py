"""Tickets: what was signed is read back, and nothing else is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.wire.tickets import Ticket, sign, verify

TICKET = Ticket("abc", "alice", 1_000.0, "word")


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
