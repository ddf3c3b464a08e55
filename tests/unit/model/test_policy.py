"""From options to a spec, and sizes held against limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.model.cluster import Adaptive, ClusterSpec
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.policy import check_count, fit, fit_adaptive, resolve

SPEC = ClusterSpec(max_workers=10, max_workers_reason="this machine has 4 cores")

OPTIONS = OptionSet(
    (
        Option("worker_cores", Kind.INTEGER, 2, minimum=1, maximum=8),
        Option("worker_memory", Kind.FLOAT, 512.0, minimum=256, maximum=4096, unit="MiB"),
        Option("environment", Kind.STRING, "/usr/bin/python3"),
        Option("queue", Kind.STRING, "long"),
    )
)


def test_options_become_a_spec():
    """Known names have their meaning, in bytes and cores; the rest is for the backend."""
    values, spec = resolve(OPTIONS, {"worker_memory": 1024})
    assert values["worker_memory"] == 1024.0
    assert (spec.worker_cores, spec.worker_memory, spec.environment) == (2.0, 2**30, "/usr/bin/python3")
    assert spec.extra == {"queue": "long"}


def test_a_gateway_without_options_has_defaults():
    """Nothing offered, nothing chosen: the spec's own defaults."""
    assert resolve(OptionSet(), {}) == ({}, ClusterSpec(extra={}))


@pytest.mark.parametrize(
    ("name", "value"), [("worker_cores", 0), ("worker_cores", -1), ("worker_memory", 1e308), ("worker_memory", -2)]
)
def test_what_nothing_can_run_is_refused_without_bounds_too(name, value):
    """An administrator may forget the bounds: nonsense is refused all the same, and is no internal error."""
    options = OptionSet((Option(name, Kind.FLOAT, 1.0, unit="GiB"),))
    with pytest.raises(Invalid, match=f"cannot set {name}"):
        resolve(options, {name: value})


@pytest.mark.parametrize("count", [-1, "two", 1.0, True, None, [1], {}])
def test_a_count_is_a_non_negative_integer(count):
    """Anything else is refused with the value in the words."""
    with pytest.raises(Invalid, match="Scale expects a non-negative integer, got ") as caught:
        check_count(count)
    assert caught.value.field == "count"


def test_a_size_beyond_the_limit_is_clamped_with_a_note():
    """The note names what was asked, the limit, and where it comes from."""
    assert fit(SPEC, 10).note is None
    size = fit(SPEC, 10**9)
    assert size.count == 10
    assert "1000000000" in size.note
    assert "limit of 10 workers" in size.note
    assert "this machine has 4 cores" in size.note


def test_adaptive_bounds():
    """None is no bound; what exceeds the limit is clamped with a note; crossed bounds are refused."""
    assert fit_adaptive(SPEC, None, None) == (Adaptive(0, 10), None)
    assert fit_adaptive(SPEC, 2, 5) == (Adaptive(2, 5), None)
    bounds, note = fit_adaptive(SPEC, 20, 50)
    assert bounds == Adaptive(10, 10)
    assert "`maximum=50, minimum=20`" in note
    assert "Using `maximum=10, minimum=10` instead" in note
    with pytest.raises(Invalid, match="minimum=5 is above maximum=2"):
        fit_adaptive(SPEC, 5, 2)
    with pytest.raises(Invalid, match="maximum must be a non-negative integer, got 'x'"):
        fit_adaptive(SPEC, 0, "x")


bounds = st.none() | st.integers(0, 10**12)


@given(bounds, bounds)
def test_adaptive_bounds_always_fit(minimum, maximum):
    """Whatever is asked: 0 <= minimum <= maximum <= limit, and a note exactly when something was changed."""
    try:
        adaptive, note = fit_adaptive(SPEC, minimum, maximum)
    except Invalid:
        assert minimum > maximum
        return
    assert 0 <= adaptive.minimum <= adaptive.maximum <= SPEC.max_workers
    unchanged = adaptive.minimum == (minimum or 0) and maximum in (None, adaptive.maximum)
    assert (note is None) == unchanged
