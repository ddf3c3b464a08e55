"""Clocks that somebody sets: noticing it."""

from __future__ import annotations

from collections.abc import Callable

CLOCK_STEP = 5.0
"""Seconds by which a clock may be off: less is waited for, more means that it was set. A machine that slept looks as if
its clock was set forward: nothing ran meanwhile."""


class Jumps:
    """Notices that a clock was set: it and one that nobody sets then no longer go alike.

    Parameters
    ----------
    clock : callable
        Returns the time, in seconds since the epoch.
    steady : callable, optional
        Returns seconds that nobody sets. Without it nothing is noticed.
    """

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._steady = steady
        self._ahead = self._difference()

    def look(self) -> float:
        """Return by how many seconds it was set since the last jump that was taken; 0 for less than matters."""
        jump = self._difference() - self._ahead
        return jump if abs(jump) > CLOCK_STEP else 0.0

    def _difference(self) -> float:
        return 0.0 if self._steady is None else self._clock() - self._steady()

    def accept(self, jump: float) -> None:
        """Count from now on as if it had always been so."""
        self._ahead += jump

    def take(self) -> float:
        """Return by how many seconds it was set since the last call, and accept it."""
        jump = self.look()
        self.accept(jump)
        return jump
