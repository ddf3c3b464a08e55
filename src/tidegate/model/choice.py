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
    for name in variables:
        _check_variable(name)
    start = {name: _count(name, rest.pop(name)) for name in ("workers", "minimum", "maximum") if name in rest}
    fields = _fields(options, rest)
    return Choice(replace(base or ClusterSpec(), **fields, extra=rest), **start, variables=variables)


def _fields(options: OptionSet, rest: dict[str, Any]) -> dict[str, Any]:
    """Take out of ``rest`` what has a field of its own in the spec."""
    units = {option.target or option.name: option.unit for option in options.options}
    fields: dict[str, Any] = {}
    for name in ("worker_cores", "scheduler_cores"):
        if name in rest:
            fields[name] = _positive(name, float(rest.pop(name)))
    for name in ("worker_memory", "scheduler_memory"):
        if name in rest:
            factor = MEMORY_UNITS.get(units.get(name) or "GiB", MEMORY_UNITS["GiB"])
            fields[name] = int(_positive(name, rest.pop(name) * factor, least=1))
    for name in ("worker_threads", "worker_gpus"):
        if name in rest:
            fields[name] = _count(name, rest.pop(name))
    for name in ("environment", "image"):
        if name in rest:
            fields[name] = str(rest.pop(name))
    for name in ("idle_timeout", "lifetime"):
        if name in rest:
            # No minutes is never: who may say so was decided by the bounds.
            fields[name] = rest.pop(name) * MINUTE or math.inf
    return fields


def _positive(name: str, amount: float, least: float = 0) -> float:
    if not 0 < amount < math.inf or amount < least:
        raise Invalid(f"cannot set {name} to {_show(amount)}: it must be above 0, and finite", field=name)
    return amount


def _count(name: str, value: Any) -> int:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not 0 <= value < 2**63:
        raise Invalid(f"cannot set {name} to {_show(value)}: it must be a whole number, 0 or more", field=name)
    return int(value)


def _check_variable(name: str) -> None:
    if not VARIABLE.fullmatch(name):
        rule = "it may have letters, digits and underscores, and begin with no digit"
        raise Invalid(f"cannot set the environment variable {_show(name)}: {rule}", field="variables")
    if name.startswith(RESERVED):
        raise Invalid(
            f"cannot set the environment variable {_show(name)}: names that begin with {RESERVED} are the gateway's",
            field="variables",
        )


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
