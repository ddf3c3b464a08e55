"""Durations, as people write and read them."""

from __future__ import annotations

import doctest
import math

import pytest

from tidegate.model import durations
from tidegate.model.durations import RULE, describe_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90 s", 90.0),
        ("30min", 1800.0),
        ("30 MINUTES", 1800.0),
        ("1 h 30 min", 5400.0),
        ("1.5h", 5400.0),
        ("2 days", 172800.0),
        (" 1 week ", 604800.0),
        ("never", math.inf),
        (math.inf, math.inf),
    ],
)
def test_durations_are_read_as_people_write_them(written: object, seconds: float) -> None:
    """A number is in seconds, text has units, and never is infinite."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written", ["", "soon", "5 parsecs", "min", "5 5", "1 h 30", "-5 s", -1, math.nan, 1e12, True, None, [1], "1e3"]
)
def test_what_is_no_duration_is_told_the_rule(written: object) -> None:
    """Nothing is guessed: a number that lost its unit could mean anything."""
    with pytest.raises(ValueError, match=RULE[:30]):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (86399, "23 h 59 min"),
        (86400, "1 day"),
        (400 * 86400, "400 days"),
        (math.inf, "never"),
    ],
)
def test_durations_are_short(seconds: float, words: str) -> None:
    """One or two units, never negative: clocks of two machines differ."""
    assert describe_duration(seconds) == words


def test_the_examples_hold() -> None:
    """Those of the docstrings."""
    assert doctest.testmod(durations).failed == 0
