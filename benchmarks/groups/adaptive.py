"""Adaptive scaling, from no worker to one and back."""

from __future__ import annotations

from benchmarks.figures import Recorder
from benchmarks.groups import lifecycle


def measure(rounds: int, recorder: Recorder) -> None:
    """Run a user's program on both sides; the first run of each is not counted."""
    lifecycle.measure(rounds, recorder, "adaptive")
    recorder.note("A worker that has nothing to do is kept for a while on purpose, on both sides: less is not better.")
