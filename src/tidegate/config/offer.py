"""The options that users see: the administrator's declarations laid over what the gateway and its backend know.

Without declarations it is the backend's own set. With them it is exactly what is declared, in that order; what a
declaration does not say is taken from the known option of the same name, so that ``worker_cores: {maximum: 4}`` is
enough. What it says of some groups is laid over it in the same way. Where there are profiles, the option ``profile``
comes first, unless it is declared elsewhere.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidegate.config.load import BadConfig, Loaded, Location, did_you_mean
from tidegate.config.options import OptionRules
from tidegate.model.errors import Invalid
from tidegate.model.known import known
from tidegate.model.offer import Offer, Variant, fill_in
from tidegate.model.options import MEMORY_UNITS, Kind, Option
from tidegate.model.profiles import PROFILE, Profile

NUMBERS = (Kind.INTEGER, Kind.FLOAT)
TEXTS = (Kind.STRING, Kind.CHOICE)
ALIKE = (NUMBERS, TEXTS, (Kind.BOOLEAN,), (Kind.MAPPING,))
"""Kinds of which one may be declared where the backend has another: it understands both."""

NOT_OPTIONS = ("name", "labels", "alias", "shutdown_on_close")
"""What clients and forms say of a cluster beside its options, under these names."""

SOMEBODY = {"user": "user", "groups": "group"}
SOME_MEMBER = {**SOMEBODY, "group": "group"}
"""What can stand in a text, with something that it may stand for."""


def offered(loaded: Loaded, own: Sequence[Option], knows: Collection[str] = ()) -> Offer:
    """Return what the gateway offers.

    Parameters
    ----------
    loaded : Loaded
        The settings and where they came from.
    own : sequence of Option
        What the backend offers by itself.
    knows : collection of str
        Which of ``model.known.BACKENDS`` it knows besides.

    Raises
    ------
    BadConfig
        With one sentence for each mistake, such as a default outside its option's own bounds.
    """
    bases = {**_known(loaded, knows), **{option.name: option for option in own}, **_profile_option(loaded)}
    declared = loaded.settings.options
    if not declared:
        options, by_group = {option.name: option for option in own}, dict[str, tuple[Variant, ...]]()
    else:
        options, by_group = _declared(loaded, bases)
    if PROFILE in bases and PROFILE not in options:
        options = {PROFILE: bases[PROFILE], **options}
    profiles = _profiles(loaded, options, by_group)
    return Offer(tuple(options.values()), by_group, profiles)


def _known(loaded: Loaded, knows: Collection[str]) -> dict[str, Option]:
    """Return what can be declared by name alone. By default clusters end as the gateway ends them."""
    options, ends = dict(known(knows)), loaded.settings.ends
    for name, seconds in (("idle_timeout", ends.idle), ("lifetime", ends.lifetime)):
        if seconds < math.inf:
            options[name] = replace(options[name], default=seconds / 60)
    return options


def _declared(loaded: Loaded, bases: Mapping[str, Option]) -> tuple[dict[str, Option], dict[str, tuple[Variant, ...]]]:
    options: dict[str, Option] = {}
    by_group: dict[str, tuple[Variant, ...]] = {}
    problems: list[str] = []
    for name, settings in loaded.settings.options.items():
        at: Location = ("options", name)
        try:
            base = bases.get(settings.target or name)
            option = options[name] = _Declaration(loaded, at, settings, base, SOMEBODY).build(bases)
            _check_target(loaded, at, option, options)
        except BadConfig as error:
            problems += error.problems
            continue
        variants = []
        for group, rules in settings.by_group.items():
            try:
                place = (*at, "by_group", group)
                variants.append(Variant(group, _Declaration(loaded, place, rules, option, SOME_MEMBER).build({})))
            except BadConfig as error:
                problems += error.problems
        if variants:
            by_group[name] = tuple(variants)
    if problems:
        raise BadConfig(problems)
    return options, by_group


class _Declaration:
    """What is declared of one option, on its way to an ``Option``; every mistake carries its line.

    ``base`` is what it is laid over, ``names`` what can stand in its texts.
    """

    def __init__(
        self, loaded: Loaded, at: Location, said: OptionRules, base: Option | None, names: Mapping[str, str]
    ) -> None:
        self.loaded, self.at, self.said, self.names = loaded, at, said, names
        self.name = str(at[1])
        self.base = base if base is None else self._in_unit(base)

    def build(self, bases: Mapping[str, Option]) -> Option:
        kind = self._kind(bases)
        bare = Option(
            self.name,
            kind,
            None,
            unit=self._say("unit", ""),
            secret=self._say("secret", False),
            target=self._say("target", ""),
        )
        choices, labels = self._choices(kind)
        option = replace(
            bare,
            label=self._say("label", self.name.replace("_", " ").capitalize()),
            help=self._say("help", ""),
            minimum=self._bound(bare, "minimum"),
            maximum=self._bound(bare, "maximum"),
            choices=choices,
            labels=labels,
            patterns=self._patterns(kind),
        )
        self._check_bounds(option)
        default = self._default(option)
        if option.is_span and default == 0:
            option = replace(option, minimum=0.0)  # so that every form takes it
        return replace(option, default=default, fixed=self._say("fixed", False), hidden=self._say("hidden", False))

    def _kind(self, bases: Mapping[str, Option]) -> Kind:
        declared: Kind | None = getattr(self.said, "type", None)
        if self.name in NOT_OPTIONS:
            raise self._refuse("", "cannot be an option: clients say something else under that name")
        if self.base is None:
            if target := self._say("target", ""):
                rule = f"cannot be {target!r}: there is no such option here; {did_you_mean(target, list(bases))}"
                raise self._refuse("target", rule)
            near = difflib.get_close_matches(self.name, list(bases), n=1, cutoff=0.8)
            if near or declared is None:
                hint = did_you_mean(self.name, list(bases))
                need = "" if near else " (for one of your own, give its type)"
                raise self._refuse("", f"is not an option of this backend; {hint}{need}")
            return declared
        kind = declared or (Kind.CHOICE if self.said.choices and self.base.kind in TEXTS else self.base.kind)
        for alike in ALIKE:
            if self.base.kind in alike and kind not in alike:
                allowed = " or ".join(k.value for k in alike)
                raise self._refuse("type", f"must be {allowed}: that is what the backend understands")
        return kind

    def _in_unit(self, base: Option) -> Option:
        """Return what this is laid over, with its numbers in the unit that is declared."""
        unit = getattr(self.said, "unit", None) or base.unit
        if unit == base.unit:
            return base
        if base.unit not in MEMORY_UNITS or unit not in MEMORY_UNITS:
            allowed = ", ".join(MEMORY_UNITS) if base.unit in MEMORY_UNITS else base.unit or "none: it is no measure"
            raise self._refuse("unit", f"cannot be {unit!r}; there is {allowed}")
        factor = MEMORY_UNITS[base.unit] / MEMORY_UNITS[unit]

        def scaled(number: float | None) -> float | None:
            return None if number is None else number * factor

        low, high = scaled(base.minimum), scaled(base.maximum)
        return replace(base, unit=unit, default=scaled(base.default), minimum=low, maximum=high)

    def _say(self, field: str, otherwise: Any) -> Any:
        declared = getattr(self.said, field, None)
        if declared is not None:
            return declared
        return getattr(self.base, field) if self.base is not None else otherwise

    def _choices(self, kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...]]:
        said = self.said.choices
        if said is None:
            found = self.base if self.base is not None and kind is Kind.CHOICE else None
            choices, labels = (found.choices, found.labels) if found is not None else ((), ())
        else:
            if kind is not Kind.CHOICE:
                raise self._refuse("choices", f"have no meaning for a {kind.value}")
            choices = tuple(said)
            labels = tuple(label or name for name, label in said.items()) if any(said.values()) else ()
        if kind is Kind.CHOICE and not choices:
            raise self._refuse("choices", "are missing: a choice needs at least one")
        names = [*choices, *(label for one, label in zip(choices, labels, strict=False) if label != one)]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise self._refuse("choices", f"say {twice!r} twice: each value, and what people read for it, is one only")
        return choices, labels

    def _patterns(self, kind: Kind) -> tuple[str, ...]:
        if self.said.patterns is not None and kind is not Kind.STRING:
            raise self._refuse("patterns", f"have no meaning for a {kind.value}: they are for a string")
        return tuple(self._say("patterns", ())) if kind is Kind.STRING else ()

    def _bound(self, bare: Option, field: str) -> float | None:
        value = self._say(field, None)
        if value is None:
            return None
        if bare.kind not in NUMBERS:
            raise self._refuse(field, f"has no meaning for a {bare.kind.value}")
        number: float = self._check(bare, field, value)
        return number

    def _check_bounds(self, option: Option) -> None:
        if option.minimum is None or option.maximum is None or option.minimum <= option.maximum:
            return
        low, high = option.describe(option.minimum), option.describe(option.maximum)
        if self.said.minimum is None:
            raise self._refuse("maximum", f"is {high}, below the minimum of {low}")
        raise self._refuse("minimum", f"is {low}, above the maximum of {high}")

    def _default(self, option: Option) -> Any:
        value = self._say("default", None)
        try:
            # Of a pattern the default may be an exception, and it may be another one for each user.
            filled = fill_in(option.kind, value, self.names)
        except ValueError as error:
            raise self._refuse("default", f"cannot be {value!r}: {error}") from None
        # Never is beyond a least that nobody has declared, where there is no most.
        may_be_never = option.is_span and option.maximum is None and self.said.minimum is None
        lax = replace(option, patterns=(), default=0.0 if may_be_never else None)
        checked = self._check(lax, "default", filled)
        return value if filled != value and option.kind is Kind.STRING else _unfilled(value, checked)

    def _check(self, option: Option, field: str, value: Any) -> Any:
        if value is None:
            raise self._refuse(field, "is missing")
        try:
            return option.check(value)
        except Invalid as error:
            raise self._refuse(field, f"cannot be {_rule_of(error, self.name)}") from None

    def _refuse(self, field: str, rule: str) -> BadConfig:
        return _bad(self.loaded, (*self.at, field) if field else self.at, rule)


def _check_target(loaded: Loaded, at: Location, option: Option, options: Mapping[str, Option]) -> None:
    """See that no two options are the same one."""
    meant = option.target or option.name
    for other in options.values():
        if other.name != option.name and (other.target or other.name) == meant:
            raise _bad(loaded, at, f"is the same option as {other.name}: {meant}")


def _unfilled(value: Any, checked: Any) -> Any:
    """Return a checked value with the texts of a mapping as they were written: they are filled in for each user."""
    return {name: str(value[name]) for name in checked} if isinstance(checked, dict) else checked


def _rule_of(error: Invalid, name: str) -> str:
    rule = error.message.removeprefix(f"cannot set {name}")
    # What is secret is not repeated.
    return rule.removeprefix(" to ") if rule.startswith(" to ") else f"that{rule}"


def _bad(loaded: Loaded, at: Location, rule: str) -> BadConfig:
    return BadConfig([f"{loaded.place(at)}: {'.'.join(map(str, at))} {rule}"])


# -- profiles ----------------------------------------------------------------------------------------------------------


def _profile_option(loaded: Loaded) -> dict[str, Option]:
    """Return the option by which users choose a profile, if there are any."""
    said = loaded.settings.profiles
    if not said:
        return {}
    names = tuple(said)
    labels = tuple(profile.label or name for name, profile in said.items())
    words = "Sets several options at once; what you set beside it wins."
    return {PROFILE: Option(PROFILE, Kind.CHOICE, names[0], label="Profile", help=words, choices=names, labels=labels)}


def _profiles(
    loaded: Loaded, options: Mapping[str, Option], by_group: Mapping[str, Sequence[Variant]]
) -> tuple[Profile, ...]:
    problems: list[str] = []
    profiles = []
    for name, said in loaded.settings.profiles.items():
        values = {}
        names = SOME_MEMBER if said.groups else SOMEBODY
        for key, value in said.values.items():
            variants = [variant.option for variant in by_group.get(key, ())]
            try:
                at = ("profiles", name, "values", key)
                values[key] = _profile_value(loaded, at, value, options, variants, names)
            except BadConfig as error:
                problems += error.problems
        profiles.append(Profile(name, said.label or "", said.help or "", values, said.groups))
    if problems:
        raise BadConfig(problems)
    return tuple(profiles)


def _profile_value(
    loaded: Loaded,
    at: Location,
    value: Any,
    options: Mapping[str, Option],
    variants: Sequence[Option],
    names: Mapping[str, str],
) -> Any:
    name = str(at[-1])
    option = options.get(name)
    if option is None or name == PROFILE:
        others = [known for known in options if known != PROFILE]
        hint = f"{did_you_mean(name, others)} (one that users are not to see is declared with hidden: true)"
        raise _bad(loaded, at, f"is not an option that is offered; {hint}")
    try:
        filled = fill_in(option.kind, value, names)
        checked = option.normal(filled)
    except Invalid as error:
        raise _bad(loaded, at, f"cannot be {_rule_of(error, name)}") from None
    except ValueError as error:
        raise _bad(loaded, at, f"cannot be {value!r}: {error}") from None
    choices = {choice for one in (option, *variants) for choice in one.choices}
    if option.kind is Kind.CHOICE and checked not in choices:
        raise _bad(loaded, at, f"cannot be {value!r}: choose one of {', '.join(sorted(choices))}")
    return value if filled != value and option.kind is Kind.STRING else _unfilled(value, checked)
