"""What a form brings, as values: browsers send text for everything, and nothing for a box that is not ticked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData

from tidegate.model.errors import Invalid
from tidegate.model.mappings import from_lines, to_lines
from tidegate.model.options import Kind, Option, OptionSet
from tidegate.model.profiles import PROFILE


@dataclass(frozen=True, slots=True)
class OptionField:
    """A field of the form for a new cluster.

    Parameters
    ----------
    option : Option
    text : str
        What stands in it.
    hints : tuple of str
        Sentences below it.
    """

    option: Option
    text: str
    hints: tuple[str, ...]


def option_fields(options: OptionSet, given: Mapping[str, str] | None = None) -> list[OptionField]:
    """Return the fields of the form, with what was ``given`` the last time; secret texts are asked for again."""
    fields = []
    for option in options.shown():
        text = _as_text(option, option.told(option.default))
        if given is not None and not option.fixed and not option.secret:
            text = given.get(option.name, "")
        fields.append(OptionField(option, text, tuple(_hints(option, options))))
    return fields


def _as_text(option: Option, value: Any) -> str:
    if option.kind is Kind.MAPPING:
        return to_lines(value)
    if isinstance(value, bool):
        return "on" if value else ""  # what a browser sends
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _hints(option: Option, options: OptionSet) -> Iterator[str]:
    if option.fixed:
        yield "Fixed by the administrator."
    elif option.help:
        yield option.help
    if option.patterns and not option.fixed:
        yield f"It may be {option.may_be()}."
    if option.name == PROFILE:
        yield from _profile_hints(options)


def _profile_hints(options: OptionSet) -> Iterator[str]:
    shown = {option.name: option for option in options.shown()}
    for profile in options.profiles:
        sets = [(shown[name], value) for name, value in options.effect(profile).items() if name in profile.values]
        values = ", ".join(f"{option.label or option.name} {option.describe(value)}" for option, value in sets)
        words = " ".join(filter(None, (profile.help, values))) or "sets nothing"
        yield f"{profile.label or profile.name}: {words}"


def read_options(form: FormData, options: OptionSet) -> dict[str, Any]:
    """Return the options that the form for a new cluster brings; whether they are right is judged where they count."""
    given: dict[str, Any] = {}
    for option in options.shown():
        if option.fixed:
            continue
        if option.kind is Kind.BOOLEAN:
            given[option.name] = option.name in form
        elif option.name in form:
            given[option.name] = _value(option, str(form[option.name]))
    return given


def _value(option: Option, text: str) -> Any:
    if option.kind is Kind.INTEGER:
        return read_count(text)
    if option.kind is Kind.MAPPING:
        return from_lines(text, option.name)
    if option.kind is Kind.FLOAT:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def read_labels(text: str) -> dict[str, str]:
    """Return the labels in a line such as ``project=ice, stage=test``.

    Raises
    ------
    Invalid
        Something in it is no label.
    """
    labels = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise Invalid(f"cannot read the label {part[:40]!r}: write name=value, with commas between", field="labels")
        labels[key.strip()] = value.strip()
    return labels


def read_count(text: str) -> int | str:
    """Return the whole number that ``text`` is, else the text itself, for the message that refuses it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
