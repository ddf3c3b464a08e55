"""What an administrator offers, and what of it one user sees.

For members of a group an option may have another default, other bounds or choices, be fixed or hidden. Groups are
meant by patterns (``project-*``). The first of an option's patterns, in the order of the configuration, that one of the
user's groups is like, decides; of several groups that are like it, the first in the alphabet is the one that
``{group}`` stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.patterns import is_like
from tidegate.model.principal import Principal
from tidegate.model.profiles import PROFILE, Profile
from tidegate.model.templates import fill


@dataclass(frozen=True, slots=True)
class Variant:
    """An option as the members of some groups see it: ``group`` is a pattern."""

    group: str
    option: Option


@dataclass(frozen=True, slots=True)
class Offer:
    """All that is offered.

    Parameters
    ----------
    options : sequence of Option
        As everybody sees them for whom there is no other.
    by_group : mapping
        By the option's name, what members of some groups see instead.
    profiles : sequence of Profile
    """

    options: Sequence[Option] = ()
    by_group: Mapping[str, Sequence[Variant]] = field(default_factory=dict)
    profiles: Sequence[Profile] = ()

    def seen_by(self, principal: Principal) -> OptionSet:
        """Return the options and profiles as one user sees them, with what their texts stand for."""
        groups = sorted(principal.groups)
        profiles = tuple(self._open_profiles(groups, names_of(principal)))
        options = []
        for option in self.options:
            names = names_of(principal)
            for variant in self.by_group.get(option.name, ()):
                if (group := _first_like(groups, variant.group)) is not None:
                    option, names = variant.option, {**names, "group": group}
                    break
            if option.name != PROFILE or not self.profiles:
                options.append(replace(option, default=fill_in(option.kind, option.default, names)))
            elif profiles:
                options.append(_among(option, profiles))
        return OptionSet(tuple(options), profiles)

    def _open_profiles(self, groups: Sequence[str], names: Mapping[str, str]) -> Iterable[Profile]:
        kinds = {option.name: option.kind for option in self.options}
        for profile in self.profiles:
            mine = next((g for pattern in profile.groups if (g := _first_like(groups, pattern)) is not None), None)
            if profile.groups and mine is None:
                continue
            known = names if mine is None else {**names, "group": mine}
            values = {name: fill_in(kinds[name], value, known) for name, value in profile.values.items()}
            yield replace(profile, values=values)


class ChoiceLabels:
    """What people read for the values of choices, whoever they are. One of a gateway, and equal only to itself."""

    def __init__(self, offer: Offer) -> None:
        self._labels: dict[str, dict[str, str]] = {}
        for option in offer.options:
            for one in (option, *(variant.option for variant in offer.by_group.get(option.name, ()))):
                if one.kind is Kind.CHOICE:
                    labels = zip(one.choices, one.labels or one.choices, strict=True)
                    self._labels[option.name] = dict(labels) | self._labels.get(option.name, {})

    def told(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a cluster, with the choices by what people read for them."""
        return {name: self._label(name, value) for name, value in options.items()}

    def _label(self, name: str, value: Any) -> Any:
        return self._labels[name].get(value, value) if name in self._labels and isinstance(value, str) else value


def names_of(principal: Principal) -> dict[str, str]:
    """Return what can stand in any text of the administrator, and what it stands for."""
    return {"user": principal.name, "groups": ",".join(sorted(principal.groups))}


def fill_in(kind: Kind, value: Any, names: Mapping[str, str]) -> Any:
    """Return a value with what its texts stand for: text itself, and the texts of a mapping.

    Raises
    ------
    ValueError
        When it stands for nothing.
    """
    if kind is Kind.STRING and isinstance(value, str):
        return fill(value, names)
    if kind is Kind.MAPPING and isinstance(value, Mapping):
        return {name: fill(text, names) for name, text in value.items()}
    return value


def _among(option: Option, profiles: Sequence[Profile]) -> Option:
    """Return the option by which one of ``profiles`` is chosen."""
    open_ones = {profile.name: profile for profile in profiles if profile.name in option.choices}
    default = option.default if option.default in open_ones else next(iter(open_ones), "")
    labels = tuple(profile.label or name for name, profile in open_ones.items())
    return replace(option, choices=tuple(open_ones), labels=labels, default=default)


def _first_like(groups: Sequence[str], pattern: str) -> str | None:
    return next((group for group in groups if is_like(group, pattern)), None)
