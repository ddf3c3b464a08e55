"""What can be the size of a cluster: checked here in the gateway's own words, before anything is sent."""

from __future__ import annotations

import sys
from typing import Any

from tidegate.client.errors import GatewayValueError
from tidegate.model.errors import Invalid
from tidegate.model.policy import Capacity, check_count, fit_adaptive

UNLIMITED = Capacity(sys.maxsize, "")
"""What stands for a cluster whose limits only the gateway knows."""


def checked_count(n: Any) -> int:
    """Return ``n`` if it can be a number of workers.

    >>> checked_count(-1)
    Traceback (most recent call last):
        ...
    tidegate.client.errors.GatewayValueError: Scale expects a non-negative integer, got -1
    """
    try:
        return check_count(plain(n))
    except Invalid as error:
        raise GatewayValueError(error.message) from None


def checked_bounds(minimum: Any, maximum: Any) -> dict[str, int | None]:
    """Return the bounds of adaptive scaling as the gateway takes them; None, and infinity above, mean no bound.

    >>> checked_bounds(2, float("inf"))
    {'minimum': 2, 'maximum': None}
    """
    low, high = plain(minimum), plain(maximum)
    if high == float("inf"):
        high = None
    try:
        fit_adaptive(UNLIMITED, UNLIMITED, low, high)
    except Invalid as error:
        raise GatewayValueError(error.message) from None
    return {"minimum": low, "maximum": high}


def plain(value: Any) -> Any:
    """Return a number of NumPy as Python's own, which JSON can carry."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
