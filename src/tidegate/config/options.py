"""What an administrator says of options and profiles; ``config/offer.py`` makes of it what users are offered."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from tidegate.model.options import Kind
from tidegate.settings import Section


def _check_scalar(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError("it must be a number, text, true or false")


# Not a union of types: which of them is right depends on the option, and is checked there.
Scalar = Annotated[Any, AfterValidator(_check_scalar)]


def _check_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _check_scalar(text) for name, text in value.items()}
    return _check_scalar(value)


# Text by name where the option is a mapping, and a scalar where it is not.
Value = Annotated[Any, AfterValidator(_check_texts)]


def _check_choices(value: Any) -> Any:
    # Without labels they are a list.
    if isinstance(value, list | tuple) and all(isinstance(choice, str) for choice in value):
        return dict.fromkeys(value)
    if value is None or isinstance(value, dict):
        return value
    raise ValueError("it must be a list of texts (write numbers in quotes), or texts with what people read for each")


Choices = Annotated[dict[str, str | None], BeforeValidator(_check_choices)]


class OptionRules(Section):
    """What an option may be."""

    default: Value = None
    """Its value when the user says nothing; the only one where it is fixed. In text, and in the texts of a mapping,
    ``{user}`` and ``{groups}`` stand for the user and their groups; below ``by_group``, ``{group}`` for the one that is
    meant. A brace as such is written twice."""
    minimum: Scalar = None
    """Smallest value of a number. Memory may be written with a unit, such as ``512 MiB``."""
    maximum: Scalar = None
    """Largest value of a number."""
    choices: Choices | None = None
    """The values of a choice: a list, or to each what people read for it."""
    patterns: tuple[str, ...] | None = None
    """What a text may be like. ``*`` stands for anything without a slash, ``**`` for anything, ``?`` for one character.
    The default is always right."""
    fixed: bool | None = None
    """Whether it is shown to users, but not changeable."""
    hidden: bool | None = None
    """Whether it is neither shown nor changeable. Its value is used."""


class OptionSettings(OptionRules):
    """An option that users may set when they create a cluster.

    What is not said here is taken from the option of that name that the gateway or its backend knows.
    """

    type: Kind | None = None
    """Kind of its value; needed for an option of your own."""
    target: str | None = None
    """Which known option it is, where users are to know that one by another name: the one of their old notebooks."""
    unit: str | None = None
    """Unit of a float, such as ``GiB`` (users may then write ``512 MiB``) or ``min`` (``8 h``)."""
    label: str | None = None
    """What forms show."""
    help: str | None = None
    """A sentence for the form."""
    by_group: dict[str, OptionRules] = Field(default_factory=dict)
    """What differs for members of some groups, by their names or patterns of these (``project-*``). For somebody of
    whose groups several are meant, the first one here counts."""


class ProfileSettings(Section):
    """Options that users set all at once, by its name."""

    label: str | None = None
    """What forms show."""
    help: str | None = None
    """A sentence for the form."""
    values: dict[str, Value] = Field(default_factory=dict)
    """What it sets, by option. It may go beyond the bounds of an option, and set what is fixed or hidden."""
    groups: tuple[str, ...] = ()
    """Whose members may choose it, by names or patterns. By default everybody may."""
