"""What a form brings, as values: browsers send text for everything, and nothing for a box that is not ticked."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import FormData

from tidegate.model.options import Kind, Option, OptionSet


def read_options(form: FormData, options: OptionSet) -> dict[str, Any]:
    """Return the options that the form for a new cluster brings; whether they are right is judged where they count."""
    given = {}
    for option in options.options:
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
    if option.kind is Kind.FLOAT:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def read_count(text: str) -> int | str:
    """Return the whole number that ``text`` is, else the text itself, for the message that refuses it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else text
