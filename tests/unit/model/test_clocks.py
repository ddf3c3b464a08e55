"""Noticing that a clock was set."""

from __future__ import annotations

from tidegate.model.clocks import Jumps


def test_a_clock_that_is_set_is_noticed_once() -> None:
    """In both directions, and by how much; what passes is no jump, and neither is a correction of a second."""
    now = {"clock": 1000.0, "steady": 5.0}
    jumps = Jumps(lambda: now["clock"], lambda: now["steady"])

    now = {"clock": 1101.0, "steady": 105.0}
    assert jumps.take() == 0
    now = {"clock": 4700.0, "steady": 105.0}
    assert jumps.look() == jumps.look() == 3600
    assert (jumps.take(), jumps.take()) == (3600, 0)
    now = {"clock": 1100.0, "steady": 105.0}
    assert (jumps.take(), jumps.take()) == (-3600, 0)


def test_without_a_clock_that_nobody_sets_nothing_is_noticed() -> None:
    """Tests move time by hand."""
    now = [1000.0]
    jumps = Jumps(lambda: now[0])
    now[0] = 5000.0
    assert jumps.take() == 0
