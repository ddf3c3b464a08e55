"""What a user may choose when a cluster is created: declared by the administrator, checked in one place.

The same declarations draw the form in the notebook and the console, the widgets of the official client (v1) and the
reference page. An option knows its default, its bounds, and whether it is *fixed*: shown, but not changeable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tidegate.model.errors import Invalid


class Kind(str, Enum):
    """What kind of value an option takes."""

    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"
    BOOLEAN = "boolean"
    CHOICE = "choice"


# Factors of the units that a memory option may be declared and given in, in bytes (IEC 80000-13 and SI).
MEMORY_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}

TEXT_LIMIT = 4096
"""Characters of a string value: an image name or a path fits many times over, a mistake does not."""

UNKNOWN_SHOWN = 5
"""How many unknown names an error repeats: a mistake has one or two, a hostile body a million."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    Parameters
    ----------
    name : str
        The key under which users set it, such as ``worker_cores``.
    kind : Kind
    default : Any
        Its value when the user says nothing; for a fixed option, its value.
    label : str
        What forms show.
    help : str
        A sentence for the form and the reference page.
    minimum, maximum : float or None
        Bounds of a number, both included.
    unit : str
        Unit of a float, such as ``GiB``; a string such as ``"512 MiB"`` is then accepted and converted.
    choices : tuple of str
        Names that a choice may take.
    fixed : bool
        Shown, not changeable.
    """

    name: str
    kind: Kind
    default: Any
    label: str = ""
    help: str = ""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    fixed: bool = False

    def check(self, value: Any) -> Any:
        """Return ``value`` in its normal form, or raise ``Invalid`` that names the option, the value and the rule."""
        checked = _CHECKS[self.kind](self, value)
        if self.fixed and checked != self.default:
            raise Invalid(
                f"cannot set {self.name} to {_show(value)}: it is fixed at {self.describe(self.default)} by the "
                "administrator of this gateway",
                field=self.name,
            )
        return checked

    def describe(self, value: Any) -> str:
        """Return ``value`` with its unit, for a sentence."""
        return f"{value:g} {self.unit}" if self.unit and isinstance(value, int | float) else f"{value}"

    def _refuse(self, value: Any, rule: str) -> Invalid:
        return Invalid(f"cannot set {self.name} to {_show(value)}: {rule}", field=self.name)

    def _in_bounds(self, number: float, value: Any) -> None:
        low, high = self.minimum, self.maximum
        if (low is None or number >= low) and (high is None or number <= high):
            return
        if low is not None and high is not None:
            rule = f"it must lie between {self.describe(low)} and {self.describe(high)}"
        elif low is not None:
            rule = f"it must be at least {self.describe(low)}"
        else:
            rule = f"it must be at most {self.describe(high)}"
        raise self._refuse(value, rule)


def _show(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _check_integer(option: Option, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise option._refuse(value, "it must be a whole number")
    option._in_bounds(value, value)
    return value


def _check_float(option: Option, value: Any) -> float:
    number = value
    if isinstance(value, str) and option.unit in MEMORY_UNITS:
        number = _parse_memory(option, value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise option._refuse(value, f"it must be a number{f' in {option.unit}' if option.unit else ''}")
    try:
        number = float(number)
    except OverflowError:
        raise option._refuse(value, "it is too large") from None
    if not math.isfinite(number):
        raise option._refuse(value, "it must be finite")
    option._in_bounds(number, value)
    return number


def _parse_memory(option: Option, text: str) -> float:
    digits = text.strip().rstrip("BkKMGTi").strip()
    unit = text.strip()[len(digits) :].strip() or option.unit
    try:
        return float(digits) * MEMORY_UNITS[unit] / MEMORY_UNITS[option.unit]
    except (ValueError, KeyError):
        raise option._refuse(text, f"write a number, or a number with a unit such as '4 {option.unit}'") from None


def _check_string(option: Option, value: Any) -> str:
    if not isinstance(value, str):
        raise option._refuse(value, "it must be text")
    if len(value) > TEXT_LIMIT:
        raise option._refuse(value, f"it must be at most {TEXT_LIMIT} characters long")
    # Whoever a cluster is shared with, and every administrator, reads it in a terminal.
    if not value.isprintable():
        raise option._refuse(value, "it must be made of printable characters, without control characters")
    return value


def _check_boolean(option: Option, value: Any) -> bool:
    if not isinstance(value, bool):
        raise option._refuse(value, "it must be true or false")
    return value


def _check_choice(option: Option, value: Any) -> str:
    if not isinstance(value, str) or value not in option.choices:
        raise option._refuse(value, f"choose one of {', '.join(option.choices)}")
    return value


_CHECKS = {
    Kind.INTEGER: _check_integer,
    Kind.FLOAT: _check_float,
    Kind.STRING: _check_string,
    Kind.BOOLEAN: _check_boolean,
    Kind.CHOICE: _check_choice,
}


@dataclass(frozen=True, slots=True)
class OptionSet:
    """All options that a gateway offers, in the order in which forms show them."""

    options: Sequence[Option] = field(default_factory=tuple)

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return a value for every option: the given ones checked, the others at their defaults.

        Raises
        ------
        Invalid
            For an unknown name (the message lists what exists) and for a value that breaks its option's rule.
        """
        known = {o.name: o for o in self.options}
        unknown = sorted(str(name) for name in given if name not in known)
        if unknown:
            shown = [_cut(name) for name in unknown[:UNKNOWN_SHOWN]]
            raise Invalid(
                f"Unknown fields {shown!r}: this gateway offers {', '.join(known) or 'no options'}", field=shown[0]
            )
        return {name: o.check(given[name]) if name in given else o.default for name, o in known.items()}
