"""The words of the audit log."""

from __future__ import annotations

import pytest

from tidegate.model.audit import LONGEST, Deed, clean


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alice", "alice"),
        ("Zoë Ångström", "Zoë Ångström"),
        ("alice\r\nroot: done", "alice??root: done"),
        ("\x1b[2Jgone", "?[2Jgone"),
        ("a\x00b\ud800c", "a?b?c"),
        ("\u202eecila", "?ecila"),
    ],
)
def test_a_text_from_outside_stays_one_line(text: str, shown: str):
    """Nobody writes a second entry, moves a terminal's cursor or turns the line around."""
    assert clean(text) == shown


def test_a_text_from_outside_is_not_long():
    """However much somebody sends."""
    assert len(clean("x" * 10**6)) < LONGEST + 5


def test_a_deed_that_changes_something_is_never_quiet():
    """What is told only when it was refused cannot have changed anything."""
    assert {deed.value for deed in Deed if deed.quiet} == {"read", "agent.report"}
    assert not any(deed.quiet and deed.changes for deed in Deed)
