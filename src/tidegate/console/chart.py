"""A bar chart, as the numbers that a template makes an SVG of: no script draws anything in the browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720.0, 200.0
"""Of the drawing, in its own units; the page makes it as wide as there is room."""
LEFT, TOP, BOTTOM = 56.0, 8.0, 24.0
"""Room for the numbers of the scale, above the highest bar, and for the words below."""
TICKS = 4
"""Lines of the scale, about."""
WORDS = 8
"""Words below the bars, at the most."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, with what is said of it when one points at it."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A word at a place: of the scale, or below the bars."""

    place: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn."""

    bars: Sequence[Bar]
    scale: Sequence[Mark]
    words: Sequence[Mark]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    floor: float = HEIGHT - BOTTOM


def bar_chart(values: Sequence[tuple[str, float]], unit: str) -> Chart:
    """Return the chart of values, each under its word.

    >>> [bar.height for bar in bar_chart([("a", 0.0), ("b", 5.0), ("c", 10.0)], "h").bars]
    [0.0, 84.0, 168.0]
    """
    step = _step(max((value for _, value in values), default=0.0))
    top = step * max(1, math.ceil(max((value for _, value in values), default=0.0) / step - 1e-9))
    room, height = (WIDTH - LEFT) / max(1, len(values)), HEIGHT - TOP - BOTTOM

    def y_of(value: float) -> float:
        return round(TOP + height * (1 - value / top), 2)

    bars = [
        Bar(
            x=round(LEFT + n * room + room * 0.1, 2),
            y=y_of(value),
            width=round(room * 0.8, 2),
            height=round(height * value / top, 2),
            title=f"{word}: {value:,.2f} {unit}",
        )
        for n, (word, value) in enumerate(values)
    ]
    scale = [Mark(y_of(n * step), f"{n * step:g}") for n in range(round(top / step) + 1)]
    every = max(1, math.ceil(len(values) / WORDS))
    words = [Mark(round(LEFT + (n + 0.5) * room, 2), word) for n, (word, _) in enumerate(values) if n % every == 0]
    return Chart(bars, scale, words)


def _step(largest: float) -> float:
    """Return the distance of two lines of the scale: 1, 2 or 5 times a power of ten."""
    if largest <= 0:
        return 1.0
    rough = largest / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
