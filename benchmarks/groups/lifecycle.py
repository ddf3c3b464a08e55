"""The life of one cluster on each side, in alternation."""

from __future__ import annotations

from benchmarks.figures import Recorder
from benchmarks.sides import both


def measure(rounds: int, recorder: Recorder, action: str = "life") -> None:
    """Run a user's program on both sides; the first run of each warms caches and is not counted."""
    with both() as sides:
        for number in range(rounds + 1):
            for side in sides:
                figures = side.run_user(action)
                for row, seconds in figures.items():
                    if number:
                        recorder.add(row, side.name, seconds)
