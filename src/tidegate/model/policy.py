"""Sizes held against limits: how many workers there may be of those that were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidegate.model.cluster import Adaptive
from tidegate.model.errors import Invalid


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many workers of a given shape can run, and the sentence that says why no more."""

    max_workers: int
    reason: str


@dataclass(frozen=True, slots=True)
class Size:
    """A wanted size after the limits: ``count``, and a note for the user when it is not what was asked."""

    count: int
    note: str | None = None


def check_count(value: Any) -> int:
    """Return ``value`` if it can be a number of workers, else raise ``Invalid``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid(f"Scale expects a non-negative integer, got {_show(value)}", field="count")
    return value


def fit(most: Capacity, asked: int) -> Size:
    """Return ``asked`` workers, or as many as there may be with a note that names the limit."""
    if asked <= most.max_workers:
        return Size(asked)
    return Size(
        most.max_workers,
        f"Scale request of {asked} workers would exceed resource limit of {most.max_workers} workers. "
        f"Scaling to {most.max_workers} instead.{_because(most)}",
    )


def fit_adaptive(most: Capacity, now: Capacity, minimum: Any, maximum: Any) -> tuple[Adaptive, str | None]:
    """Return the adaptive bounds within the limits, and a note when they are not what was asked.

    ``None`` means no bound: 0 below, the limit above. There are never more workers than ``most``, and the smallest size
    must fit ``now``: it is what there will be at once.
    """
    low = 0 if minimum is None else _check_bound("minimum", minimum)
    high = None if maximum is None else _check_bound("maximum", maximum)
    if high is not None and low > high:
        raise Invalid(f"cannot adapt: minimum={low} is above maximum={high}", field="minimum")
    top = most.max_workers if high is None else min(high, most.max_workers)
    bounds = Adaptive(min(low, now.max_workers, top), top)
    if bounds.minimum == low and (high is None or bounds.maximum == high):
        return bounds, None
    limit = now if low > now.max_workers else most
    # As dask-gateway says it: without a bound above, the limit is what was asked for.
    asked = f"`maximum={most.max_workers if high is None else high}, minimum={low}`"
    used = f"`maximum={bounds.maximum}, minimum={bounds.minimum}`"
    return bounds, (
        f"Adapt with {asked} workers would exceed resource limit of {limit.max_workers} workers. Using {used} instead."
        f"{_because(limit)}"
    )


def _check_bound(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid(f"cannot adapt: {name} must be a non-negative integer, got {_show(value)}", field=name)
    return value


def _because(limit: Capacity) -> str:
    return f" ({limit.reason})" if limit.reason else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
