"""The options that users see: the administrator's declarations laid over what the backend offers by itself.

Without declarations it is the backend's own set. With them it is exactly what is declared, in that order; what a
declaration does not say is taken from the backend's option of the same name, so that ``worker_cores: {maximum: 4}`` is
enough.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tidegate.config.load import BadConfig, Loaded, did_you_mean
from tidegate.config.schema import OptionSettings
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option, OptionSet

NUMBERS = (Kind.INTEGER, Kind.FLOAT)
TEXTS = (Kind.STRING, Kind.CHOICE)


def offered(loaded: Loaded, own: Sequence[Option]) -> OptionSet:
    """Return the options that the gateway offers.

    Parameters
    ----------
    loaded : Loaded
        The settings and where they came from.
    own : sequence of Option
        What the backend offers by itself.

    Raises
    ------
    BadConfig
        With one sentence for each mistake, such as a default outside its option's own bounds.
    """
    declared = loaded.settings.options
    if not declared:
        return OptionSet(tuple(own))
    by_name = {option.name: option for option in own}
    options: list[Option] = []
    problems: list[str] = []
    for name, settings in declared.items():
        try:
            options.append(_Declaration(loaded, name, settings, by_name).build())
        except BadConfig as error:
            problems += error.problems
    if problems:
        raise BadConfig(problems)
    return OptionSet(tuple(options))


class _Declaration:
    """One declared option on its way to an ``Option``; every mistake carries its line."""

    def __init__(self, loaded: Loaded, name: str, settings: OptionSettings, own: dict[str, Option]) -> None:
        self.loaded, self.name, self.settings, self.own = loaded, name, settings, own
        self.base = own.get(name)

    def build(self) -> Option:
        kind = self._kind()
        unit = self._say("unit", "")
        bare = Option(self.name, kind, None, unit=unit)
        choices = tuple(self._say("choices", ()))
        if kind is Kind.CHOICE and not choices:
            raise self._refuse("choices", "are missing: a choice needs at least one")
        option = Option(
            self.name,
            kind,
            None,
            label=self._say("label", self.name.replace("_", " ").capitalize()),
            help=self._say("help", ""),
            minimum=self._bound(bare, "minimum"),
            maximum=self._bound(bare, "maximum"),
            unit=unit,
            choices=choices,
        )
        self._check_bounds(option)
        default = self._check(option, "default", self._say("default", None))
        return replace(option, default=default, fixed=self.settings.fixed or bool(self.base and self.base.fixed))

    def _kind(self) -> Kind:
        if self.base is None:
            near = difflib.get_close_matches(self.name, list(self.own), n=1, cutoff=0.8)
            if near or self.settings.type is None:
                hint = did_you_mean(self.name, list(self.own))
                need = "" if near else " (for one of your own, give its type)"
                raise self._refuse("", f"is not an option of this backend; {hint}{need}")
            return self.settings.type
        kind = self.settings.type or self.base.kind
        for alike in (NUMBERS, TEXTS, (Kind.BOOLEAN,)):
            if self.base.kind in alike and kind not in alike:
                allowed = " or ".join(k.value for k in alike)
                raise self._refuse("type", f"must be {allowed}: that is what the backend understands")
        return kind

    def _say(self, field: str, otherwise: Any) -> Any:
        declared = getattr(self.settings, field)
        if declared is not None:
            return declared
        return getattr(self.base, field) if self.base is not None else otherwise

    def _bound(self, bare: Option, field: str) -> float | None:
        value = self._say(field, None)
        if value is None:
            return None
        if bare.kind not in NUMBERS:
            raise self._refuse(field, f"has no meaning for a {bare.kind.value}")
        number: float = self._check(bare, field, value)
        return number

    def _check_bounds(self, option: Option) -> None:
        low, high = option.minimum, option.maximum
        if low is not None and high is not None and low > high:
            rule = f"is {option.describe(low)}, above the maximum of {option.describe(high)}"
            raise self._refuse("minimum" if self.settings.minimum is not None else "maximum", rule)

    def _check(self, option: Option, field: str, value: Any) -> Any:
        if value is None:
            raise self._refuse(field, "is missing")
        try:
            return option.check(value)
        except Invalid as error:
            rule = error.message.removeprefix(f"cannot set {self.name} to ")
            raise self._refuse(field, f"cannot be {rule}") from None

    def _refuse(self, field: str, rule: str) -> BadConfig:
        location = ("options", self.name, field) if field else ("options", self.name)
        return BadConfig([f"{self.loaded.place(location)}: {'.'.join(location)} {rule}"])


def describe(options: OptionSet) -> Iterator[str]:
    """Yield a line about each option, for ``tidegate config check``."""
    for option in options.options:
        bounds = f" ({option.minimum:g} to {option.maximum:g})" if option.minimum is not None and option.maximum else ""
        fixed = ", fixed" if option.fixed else ""
        yield f"{option.name}: {option.kind.value}, default {option.describe(option.default)}{bounds}{fixed}"
