"""From what a user chose to what runs: values of options become a spec, a size to begin with, and variables.

The names of ``model/known.py`` and ``worker_cores``, ``worker_memory`` and ``environment`` have a meaning of their own;
every other option is handed to the backend in ``ClusterSpec.extra``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.model.cluster import ClusterSpec, WorkerGroup
from tidegate.model.errors import Invalid
from tidegate.model.options import MEMORY_UNITS, OptionSet
from tidegate.model.policy import Capacity, fit, fit_adaptive
from tidegate.model.profiles import PROFILE

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What can be the name of an environment variable (POSIX, but for the case)."""

RESERVED = "TIDEGATE_"
"""How the names begin of the variables by which clusters are known to their gateway."""

MINUTE = 60.0

MOST = 1_000_000
"""Cores, threads or GPUs of one process, and workers to begin with: more than the largest computers have. Without any
bound what all hold together would be more than databases can count."""

FEWEST_CORES = 0.001
"""What engines give at least (Kubernetes' millicore)."""

MOST_MINUTES = 100_000_000
"""Two hundred years."""

MOST_MEMORY = 2**53
"""Bytes of one process: 8 PiB, beyond which a float does not count every one."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What follows from the values of all options.

    Parameters
    ----------
    spec : ClusterSpec
    workers : int
        How many the cluster begins with.
    minimum, maximum : int
        The bounds between which the load decides; a maximum of 0: it does not.
    variables : mapping of str to str
        What to set in the environment of scheduler and workers. Secret.
    """

    spec: ClusterSpec
    workers: int = 0
    minimum: int = 0
    maximum: int = 0
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)

    def first_group(self, spec: ClusterSpec) -> tuple[WorkerGroup, str | None]:
        """Return the workers to begin with, within the limits of ``spec``, and a note when they are fewer than asked.

        Raises
        ------
        Invalid
            The bounds are crossed.
        """
        most = Capacity(spec.max_workers, spec.max_workers_reason)
        if not self.maximum:
            size = fit(most, max(self.workers, self.minimum))
            return WorkerGroup(wanted=size.count), size.note
        bounds, note = fit_adaptive(most, most, self.minimum, self.maximum)
        wanted = max(bounds.minimum, min(self.workers, bounds.maximum))
        return WorkerGroup(wanted=wanted, adaptive=bounds), note


def settle(options: OptionSet, values: Mapping[str, Any], base: ClusterSpec | None = None) -> Choice:
    """Return what follows from the values of all options; what they do not say stands in ``base``.

    Raises
    ------
    Invalid
        A value that its option accepts cannot be run all the same: the administrator may have declared no bounds.
    """
    targets = {option.name: option.target or option.name for option in options.options}
    rest = {targets[n]: value for n, value in values.items() if n != PROFILE or not options.profiles}
    variables = rest.pop("variables", {})
    for number, name in enumerate(variables, 1):
        _check_variable(number, name)
    start = {name: _count(name, rest.pop(name)) for name in ("workers", "minimum", "maximum") if name in rest}
    fields = _fields(options, rest)
    return Choice(replace(base or ClusterSpec(), **fields, extra=rest), **start, variables=variables)


def _fields(options: OptionSet, rest: dict[str, Any]) -> dict[str, Any]:
    """Take out of ``rest`` what has a field of its own in the spec."""
    units = {option.target or option.name: option.unit for option in options.options}
    fields: dict[str, Any] = {}
    for name in ("worker_cores", "scheduler_cores"):
        if name in rest:
            fields[name] = _amount(name, rest.pop(name), MOST)
    for name in ("worker_memory", "scheduler_memory"):
        if name in rest:
            unit = next((unit for unit in (units.get(name), "GiB") if unit in MEMORY_UNITS), "")
            fields[name] = int(_amount(name, rest.pop(name), MOST_MEMORY, unit))
    for name in ("worker_threads", "worker_gpus"):
        if name in rest:
            fields[name] = _count(name, rest.pop(name))
    for name in ("environment", "image"):
        if name in rest:
            fields[name] = str(rest.pop(name))
    for name in ("idle_timeout", "lifetime"):
        if name in rest:
            # No minutes is never: who may say so was decided by the bounds.
            fields[name] = _minutes(name, rest.pop(name)) * MINUTE or math.inf
    return fields


def _amount(name: str, value: float, most: float, unit: str = "") -> float:
    """Return ``value`` in whole units, if there can be so much. As it was given it may be too large for a float."""
    factor = MEMORY_UNITS.get(unit, 1)
    if not (1 / factor if unit else FEWEST_CORES) <= value <= most / factor:  # what is not a number is not either
        rule = f"it must be above 0, and at most {most / factor:,.10g}"
        raise Invalid(f"cannot set {name} to {_show(value)}: {rule} {unit}".rstrip(), field=name)
    return float(value) * factor


def _minutes(name: str, value: float) -> float:
    if not 0 <= value <= MOST_MINUTES:
        rule = f"it must lie between 0 and {MOST_MINUTES:,} minutes"
        raise Invalid(f"cannot set {name} to {_show(value)}: {rule}", field=name)
    return float(value)


def _count(name: str, value: Any) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value <= MOST:
        rule = f"it must be a whole number from 0 to {MOST:,}"
        raise Invalid(f"cannot set {name} to {_show(value)}: {rule}", field=name)
    return int(value)


def _check_variable(number: int, name: str) -> None:
    if not VARIABLE.fullmatch(name):
        # What is no name may be a secret that was put in the wrong place.
        rule = "its name may have letters, digits and underscores, and begin with no digit"
        raise Invalid(f"cannot set environment variable number {number}: {rule}", field="variables")
    if name.startswith(RESERVED):
        raise Invalid(
            f"cannot set the environment variable {_show(name)}: names that begin with {RESERVED} are the gateway's",
            field="variables",
        )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
