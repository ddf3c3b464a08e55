"""The token bucket."""

from __future__ import annotations

import pytest

from tidegate.proxy.pace import Pace


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_a_rate():
    """So many at once, then one every so often; the answer says when."""
    clock = Clock()
    pace = Pace(3, 2.0, clock)

    assert [pace.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    clock.now += 0.25
    assert pace.take("a") == pytest.approx(0.25)
    clock.now += 0.25
    assert pace.take("a") == 0.0


def test_each_key_has_a_bucket_of_its_own():
    """One cluster's pages do not count for another's."""
    pace = Pace(1, 1.0, Clock())

    assert pace.take("a") == 0.0
    assert pace.take("a") > 0.0
    assert pace.take("b") == 0.0


def test_a_full_bucket_is_forgotten():
    """Names that were seen once do not stay in memory."""
    clock = Clock()
    pace = Pace(1, 1.0, clock)
    for number in range(1_000):
        pace.take(str(number))
    clock.now += 10

    pace.take("new")

    assert len(pace._buckets) == 1
