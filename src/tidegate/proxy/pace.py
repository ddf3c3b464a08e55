"""How often something may happen: a token bucket per key.

A bucket holds up to ``burst`` tokens and gains ``per_second`` of them; every event takes one. Buckets that are full
again are forgotten, so only what is in use takes memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_SWEEP_AT = 1_000
"""So many buckets are looked through for full ones when one more is made."""


class Pace:
    """Lets ``burst`` events through at once and ``per_second`` after that, for each key."""

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Take a token; return 0.0, or in how many seconds there will be one."""
        now = self._clock()
        tokens = self._tokens(key, now)
        if tokens < 1.0:
            return (1.0 - tokens) / self._per_second
        if key not in self._buckets and len(self._buckets) >= _SWEEP_AT:
            self._sweep(now)
        self._buckets[key] = (tokens - 1.0, now)
        return 0.0

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + (now - at) * self._per_second)

    def _sweep(self, now: float) -> None:
        for key in [key for key in self._buckets if self._tokens(key, now) >= self._burst]:
            del self._buckets[key]
