"""Sizes held against limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.cluster import Adaptive
from tidegate.model.errors import Invalid
from tidegate.model.policy import Capacity, check_count, fit, fit_adaptive

MOST = Capacity(10, "this machine has 4 cores")


@pytest.mark.parametrize("count", [-1, "two", 1.0, True, None, [1], {}])
def test_a_count_is_a_non_negative_integer(count):
    """Anything else is refused with the value in the words."""
    with pytest.raises(Invalid, match="Scale expects a non-negative integer, got ") as caught:
        check_count(count)
    assert caught.value.field == "count"


def test_a_size_beyond_the_limit_is_clamped_with_a_note():
    """The note names what was asked, the limit, and where it comes from."""
    assert fit(MOST, 10).note is None
    size = fit(MOST, 10**9)
    assert size.count == 10
    assert "1000000000" in size.note
    assert "limit of 10 workers" in size.note
    assert "this machine has 4 cores" in size.note


def test_adaptive_bounds():
    """None is no bound; what exceeds the limit is clamped with a note; crossed bounds are refused."""
    assert fit_adaptive(MOST, MOST, None, None) == (Adaptive(0, 10), None)
    assert fit_adaptive(MOST, MOST, 2, 5) == (Adaptive(2, 5), None)
    bounds, note = fit_adaptive(MOST, MOST, 20, 50)
    assert bounds == Adaptive(10, 10)
    assert "`maximum=50, minimum=20`" in note
    assert "Using `maximum=10, minimum=10` instead" in note
    assert "`maximum=10, minimum=20`" in fit_adaptive(MOST, MOST, 20, None)[1]
    with pytest.raises(Invalid, match="minimum=5 is above maximum=2"):
        fit_adaptive(MOST, MOST, 5, 2)
    with pytest.raises(Invalid, match="maximum must be a non-negative integer, got 'x'"):
        fit_adaptive(MOST, MOST, 0, "x")


bounds = st.none() | st.integers(0, 10**12)


@given(bounds, bounds)
def test_adaptive_bounds_always_fit(minimum, maximum):
    """Whatever is asked: 0 <= minimum <= maximum <= limit, and a note exactly when something was changed."""
    try:
        adaptive, note = fit_adaptive(MOST, MOST, minimum, maximum)
    except Invalid:
        assert minimum > maximum
        return
    assert 0 <= adaptive.minimum <= adaptive.maximum <= MOST.max_workers
    unchanged = adaptive.minimum == (minimum or 0) and maximum in (None, adaptive.maximum)
    assert (note is None) == unchanged
