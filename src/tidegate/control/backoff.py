"""How long to wait before the next try, for each name on its own: doubling, up to a limit."""

from __future__ import annotations


class Backoff:
    """Counts failures by name.

    Parameters
    ----------
    first : float
        Seconds after the first failure.
    limit : float
        The most that is ever waited, in seconds.
    """

    def __init__(self, first: float, limit: float) -> None:
        self._first = first
        self._limit = limit
        self._count: dict[str, int] = {}

    def after_failure(self, name: str) -> float:
        """Count a failure of ``name`` and return how many seconds to wait."""
        count = self._count.get(name, 0)
        self._count[name] = count + 1
        return min(self._first * 2.0 ** min(count, 60), self._limit)

    def reset(self, name: str) -> None:
        """``name`` is well again."""
        self._count.pop(name, None)
