"""From what a user asked to what runs: options and limits resolved to a ``ClusterSpec``, sizes held against limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.model.cluster import Adaptive, ClusterSpec
from tidegate.model.errors import Invalid
from tidegate.model.options import MEMORY_UNITS, OptionSet


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


def resolve(options: OptionSet, given: Mapping[str, Any]) -> tuple[dict[str, Any], ClusterSpec]:
    """Check the user's options and return them with defaults filled in, and the spec that follows from them.

    The names ``worker_cores``, ``worker_memory``, ``environment`` and ``image`` have a meaning of their own; every
    other option is handed to the backend in ``ClusterSpec.extra``.
    """
    values = options.check(given)
    by_name = {o.name: o for o in options.options}
    rest = dict(values)
    fields: dict[str, Any] = {}
    if "worker_cores" in rest:
        fields["worker_cores"] = _positive("worker_cores", float(rest.pop("worker_cores")))
    if "worker_memory" in rest:
        factor = MEMORY_UNITS[by_name["worker_memory"].unit or "GiB"]
        fields["worker_memory"] = int(_positive("worker_memory", rest.pop("worker_memory") * factor))
    for name in ("environment", "image"):
        if name in rest:
            fields[name] = str(rest.pop(name))
    return values, ClusterSpec(**fields, extra=rest)


def _positive(name: str, amount: float) -> float:
    # The administrator may have declared no bounds; something that can run it takes all the same.
    if not 0 < amount < math.inf or (name == "worker_memory" and amount < 1):
        raise Invalid(f"cannot set {name} to {_show(amount)}: it must be above 0, and finite", field=name)
    return amount


def check_count(value: Any) -> int:
    """Return ``value`` if it can be a number of workers, else raise ``Invalid``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid(f"Scale expects a non-negative integer, got {_show(value)}", field="count")
    return value


def fit(spec: ClusterSpec, asked: int) -> Size:
    """Return ``asked`` workers, or as many as the cluster's limit allows with a note that names the limit."""
    if asked <= spec.max_workers:
        return Size(asked)
    return Size(
        spec.max_workers,
        f"Scale request of {asked} workers would exceed resource limit of {spec.max_workers} workers. "
        f"Scaling to {spec.max_workers} instead.{_because(spec)}",
    )


def fit_adaptive(spec: ClusterSpec, minimum: Any, maximum: Any) -> tuple[Adaptive, str | None]:
    """Return the adaptive bounds within the cluster's limit, and a note when they are not what was asked.

    ``None`` means no bound: 0 below, the limit above.
    """
    low = 0 if minimum is None else _check_bound("minimum", minimum)
    high = None if maximum is None else _check_bound("maximum", maximum)
    if high is not None and low > high:
        raise Invalid(f"cannot adapt: minimum={low} is above maximum={high}", field="minimum")
    limit = spec.max_workers
    bounds = Adaptive(min(low, limit), limit if high is None else min(high, limit))
    if low <= limit and (high is None or high <= limit):
        return bounds, None
    asked = f"`maximum={high}, minimum={low}`"
    used = f"`maximum={bounds.maximum}, minimum={bounds.minimum}`"
    return bounds, (
        f"Adapt with {asked} workers would exceed resource limit of {limit} workers. Using {used} instead."
        f"{_because(spec)}"
    )


def _check_bound(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Invalid(f"cannot adapt: {name} must be a non-negative integer, got {_show(value)}", field=name)
    return value


def _because(spec: ClusterSpec) -> str:
    return f" ({spec.max_workers_reason})" if spec.max_workers_reason else ""


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
