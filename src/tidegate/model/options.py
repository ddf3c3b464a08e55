"""What a user may choose when a cluster is created: declared by the administrator, checked in one place.

The same declarations draw the form in the notebook and the console, the widgets of the official client (v1) and the
reference page. An option knows its default and its bounds; whether it is *fixed*: shown, but not changeable; and
whether it is *hidden*: used, but neither shown nor changeable.

How to think about it
---------------------
* The default is the administrator's word, and so always right: bounds, choices and patterns say what else it may be.
* What is declared may differ from group to group (``model/offer.py``). What stands here is as one user sees it.
* A value that is *secret* is sealed with the credentials of its cluster. Where it would be told, ``***`` stands for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tidegate.model.durations import NEVER, parse_duration
from tidegate.model.errors import Invalid
from tidegate.model.patterns import is_like
from tidegate.model.profiles import PROFILE, Profile


class Kind(str, Enum):
    """What kind of value an option takes."""

    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    MAPPING = "mapping"
    """Texts by name."""


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

MINUTES = "min"
"""The unit of an option that is a duration; text such as ``8 h`` is then accepted and converted."""

TEXT_LIMIT = 4096
"""Characters of a string value: an image name or a path fits many times over, a mistake does not."""

MAPPING_LIMIT = 200
"""Names in a mapping: more environment variables than anybody sets by hand."""

MAPPING_SIZE = 64 * 1024
"""Characters of a mapping, names and texts together: some keys and certificates fit. Linux starts no program with more
than 128 KiB in one variable."""

UNKNOWN_SHOWN = 5
"""How many unknown names an error repeats: a mistake has one or two, a hostile body a million."""

MASK = "***"
"""What stands for a secret text. Given back, it means the one that is there."""


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
        What a choice may be.
    fixed : bool
        Shown, not changeable.
    labels : tuple of str
        What people read for each of the choices, and may say for it; empty where it is the choice itself.
    patterns : tuple of str
        What a string may be like (``model/patterns.py``); empty for anything.
    hidden : bool
        Neither shown nor changeable.
    secret : bool
        Whether the texts of a mapping are told to nobody.
    target : str
        Which option it is to the gateway and its backend, where users know that by another name.
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
    labels: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    hidden: bool = False
    secret: bool = False
    target: str = ""

    def check(self, value: Any) -> Any:
        """Return ``value`` in its normal form, or raise ``Invalid`` that names the option, the value and the rule."""
        normal = self.normal(value)
        if normal == self.default:
            return normal
        if self.fixed:
            by = f"it is fixed at {self.describe(self.default)} by the administrator of this gateway"
            raise self._refuse(value, by)
        if (rule := self._broken_rule(normal)) is not None:
            raise self._refuse(value, rule)
        return normal

    def normal(self, value: Any) -> Any:
        """Return ``value`` in its normal form, whatever the bounds, or raise ``Invalid`` if it is of another kind."""
        return _NORMAL[self.kind](self, value)

    def is_default(self, value: Any) -> bool:
        """Return whether ``value`` is the default, in whatever form."""
        try:
            return bool(self.normal(value) == self.default)
        except Invalid:
            return False

    def told(self, value: Any) -> Any:
        """Return ``value`` as it may be told."""
        return dict.fromkeys(value, MASK) if self.secret else value

    @property
    def is_span(self) -> bool:
        """Whether it is a time after which something ends, so that none at all is never."""
        return (self.target or self.name) in ("idle_timeout", "lifetime")

    @property
    def all_choices(self) -> Mapping[str, str]:
        """What a choice may be, to each what people read for it; a default of the administrator's among them."""
        labels = self.labels or self.choices
        known = dict(zip(self.choices, labels, strict=True))
        return known if self.default in known or not self.default else {**known, self.default: self.default}

    def describe(self, value: Any) -> str:
        """Return ``value`` with its unit, for a sentence."""
        if self.kind is Kind.MAPPING and isinstance(value, Mapping):
            return ", ".join(f"{name}={text}" for name, text in self.told(value).items()) or "nothing"
        if self.kind is Kind.CHOICE and isinstance(value, str):
            return self.all_choices.get(value, value)
        if self.is_span and value == 0:
            return NEVER
        return f"{value:g} {self.unit}" if self.unit and isinstance(value, int | float) else f"{value}"

    def may_be(self) -> str:
        """Return what it may be, in a few words."""
        if self.fixed:
            return "fixed by the administrator of this gateway"
        if self.kind is Kind.CHOICE:
            pairs = self.all_choices.items()
            return f"one of {', '.join(one if one == label else f'{one} ({label})' for one, label in pairs)}"
        if self.patterns:
            return f"text like {' or '.join(self.patterns)}"
        low, high = self.minimum, self.maximum
        if self.is_span and low == 0:
            return f"{'any time' if high is None else f'at most {self.describe(high)}'}, or {NEVER}"
        if low is not None and high is not None:
            return f"{self.describe(low)} to {self.describe(high)}"
        if low is not None:
            return f"at least {self.describe(low)}"
        if high is not None:
            return f"at most {self.describe(high)}"
        return _ANYTHING.get(self.kind, "a number")

    def _broken_rule(self, normal: Any) -> str | None:
        if self.kind is Kind.CHOICE and normal not in self.choices:
            return f"choose one of {', '.join(self.all_choices)}"
        if self.patterns and not any(is_like(normal, pattern) for pattern in self.patterns):
            return f"it must be like {' or '.join(self.patterns)}"
        low, high = self.minimum, self.maximum
        if (low is None or normal >= low) and (high is None or normal <= high):
            return None
        if low is not None and high is not None and not (self.is_span and low == 0):
            return f"it must lie between {self.describe(low)} and {self.describe(high)}"
        return f"it must be {self.may_be()}"

    def _refuse(self, value: Any, rule: str) -> Invalid:
        shown = "" if self.secret else f" to {_show(value)}"
        return Invalid(f"cannot set {self.name}{shown}: {rule}", field=self.name)


_ANYTHING = {Kind.BOOLEAN: "True or False", Kind.STRING: "text", Kind.MAPPING: "texts by name"}


def _show(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


def _to_integer(option: Option, value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise option._refuse(value, "it must be a whole number")
    return value


def _to_float(option: Option, value: Any) -> float:
    number = value
    if isinstance(value, str) and option.unit in MEMORY_UNITS:
        number = _parse_memory(option, value)
    elif isinstance(value, str) and option.unit == MINUTES:
        number = _parse_minutes(option, value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise option._refuse(value, f"it must be a number{f' in {option.unit}' if option.unit else ''}")
    try:
        number = float(number)
    except OverflowError:
        raise option._refuse(value, "it is too large") from None
    if not math.isfinite(number):
        raise option._refuse(value, "it must be finite")
    return number


def _parse_memory(option: Option, text: str) -> float:
    digits = text.strip().rstrip("BkKMGTi").strip()
    unit = text.strip()[len(digits) :].strip() or option.unit
    try:
        return float(digits) * MEMORY_UNITS[unit] / MEMORY_UNITS[option.unit]
    except (ValueError, KeyError):
        raise option._refuse(text, f"write a number, or a number with a unit such as '4 {option.unit}'") from None


def _parse_minutes(option: Option, text: str) -> float:
    try:
        minutes = parse_duration(text) / 60 if any(c.isalpha() for c in text) else float(text)
        return 0.0 if option.is_span and minutes == math.inf else minutes
    except ValueError:
        rule = "write a number of minutes, or text with a unit such as '90 min', '8 h' or '2 days'"
        raise option._refuse(text, rule) from None


def _to_string(option: Option, value: Any) -> str:
    if not isinstance(value, str):
        raise option._refuse(value, "it must be text")
    if len(value) > TEXT_LIMIT:
        raise option._refuse(value, f"it must be at most {TEXT_LIMIT} characters long")
    # Whoever a cluster is shared with, and every administrator, reads it in a terminal.
    if not value.isprintable():
        raise option._refuse(value, "it must be made of printable characters, without control characters")
    return value


def _to_boolean(option: Option, value: Any) -> bool:
    if not isinstance(value, bool):
        raise option._refuse(value, "it must be true or false")
    return value


def _to_choice(option: Option, value: Any) -> str:
    if not isinstance(value, str):
        raise option._refuse(value, f"choose one of {', '.join(option.all_choices)}")
    if option.labels and value not in option.choices and value in option.labels:
        return option.choices[option.labels.index(value)]
    return value


def _to_mapping(option: Option, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise option._refuse(value, "it must be texts by name, such as {'NAME': 'text'}")
    if len(value) > MAPPING_LIMIT:
        raise option._refuse(value, f"it has {len(value)} names, and may have at most {MAPPING_LIMIT}")
    normal = {_to_name(option, name): _to_text(option, name, text) for name, text in value.items()}
    size = sum(len(name) + len(text) for name, text in normal.items())
    if size > MAPPING_SIZE:
        raise option._refuse(value, f"names and texts come to {size} characters, and may to at most {MAPPING_SIZE}")
    return normal


def _to_name(option: Option, name: Any) -> str:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise option._refuse(name, "a name in it must be text without control characters, and not empty")
    return name


def _called(option: Option, name: str) -> str:
    """Return a name in a mapping as it may be repeated: what looks like none may be a secret in the wrong place."""
    return _show(name) if name.isidentifier() or not option.secret else "one of its names"


def _to_text(option: Option, name: str, text: Any) -> str:
    if isinstance(text, int | float) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str):
        raise option._refuse(text, f"what {_called(option, name)} stands for must be text: write it in quotes")
    if "\0" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise option._refuse(text, f"what {_called(option, name)} stands for has characters in it that no text has")
    if option.secret and text == MASK:
        if name not in (option.default or {}):
            rule = f"{MASK} stands for a text that is not shown; say what {_called(option, name)} is"
            raise option._refuse(text, rule)
        return str(option.default[name])
    return text


_NORMAL = {
    Kind.INTEGER: _to_integer,
    Kind.FLOAT: _to_float,
    Kind.STRING: _to_string,
    Kind.BOOLEAN: _to_boolean,
    Kind.CHOICE: _to_choice,
    Kind.MAPPING: _to_mapping,
}


@dataclass(frozen=True, slots=True)
class OptionSet:
    """All options that somebody is offered, in the order in which forms show them; and the profiles among which the
    option ``profile`` chooses.
    """

    options: Sequence[Option] = field(default_factory=tuple)
    profiles: Sequence[Profile] = field(default_factory=tuple)

    def shown(self) -> list[Option]:
        """Return the options that are not hidden, at what holds when nothing is said."""
        return [option for option in self._held(self._profile({})) if not option.hidden]

    def check(self, given: Mapping[str, Any], *, whole: bool = False) -> dict[str, Any]:
        """Return a value for every option: the given ones checked, the others as the profile says, or else by default.

        Parameters
        ----------
        given : mapping
        whole : bool
            Whether it comes from a form, which brings all that it shows: what stands there unchanged was not set, and
            the profile that was chosen decides it.

        Raises
        ------
        Invalid
            For an unknown name (the message lists what exists) and for a value that breaks its option's rule.
        """
        shown = {option.name: option for option in self.shown()}
        unknown = sorted(str(name) for name in given if name not in shown)
        if unknown:
            words = [_cut(name) for name in unknown[:UNKNOWN_SHOWN]]
            raise Invalid(
                f"Unknown fields {words!r}: this gateway offers {', '.join(shown) or 'no options'}", field=words[0]
            )
        untouched = {name for name in given if whole and shown[name].is_default(given[name])}
        held = self._held(self._profile(given))
        return {o.name: o.check(given[o.name]) if o.name in given.keys() - untouched else o.default for o in held}

    def effect(self, profile: Profile) -> dict[str, Any]:
        """Return what may be told of what holds when ``profile`` is chosen, of all options that profiles set."""
        touched = {name for one in self.profiles for name in one.values}
        return self.told({option.name: option.default for option in self._held(profile) if option.name in touched})

    def told(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return of ``values`` what may be told: nothing hidden, nothing secret."""
        by_name = {option.name: option for option in self.options if not option.hidden}
        return {name: by_name[name].told(value) for name, value in values.items() if name in by_name}

    def _profile(self, given: Mapping[str, Any]) -> Profile | None:
        """Return the profile that holds when ``given`` is asked for."""
        option = next((option for option in self.options if option.name == PROFILE), None)
        if option is None or not self.profiles:
            return None
        name = option.check(given[PROFILE]) if PROFILE in given else option.default
        return next((profile for profile in self.profiles if profile.name == name), None)

    def _held(self, profile: Profile | None) -> list[Option]:
        """Return the options with what a profile sets as their defaults."""
        values = {} if profile is None else profile.values
        return [replace(o, default=values[o.name]) if o.name in values else o for o in self.options]
