"""What every setting is, in words: for ``tidegate config explain`` and for the reference page.

Both walk the same declarations (``config/schema.py``), so they cannot say different things.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tidegate.config.load import Loaded, Location, dotted
from tidegate.config.schema import Settings, default_data
from tidegate.model.durations import NEVER
from tidegate.settings import Unit

WIDTH = 100
"""Columns of the comments: fits beside line numbers in a terminal of 120."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting: its place, what it may be, its default and its docstring. A section has neither type nor default."""

    location: Location
    doc: str
    type: str = ""
    unit: str = ""
    default: str = ""

    @property
    def depth(self) -> int:
        """How far it is indented."""
        return len(self.location) - 1


def entries(section: type[BaseModel] = Settings, at: Location = ()) -> Iterator[Entry]:
    """Yield every setting below ``section`` in the order of its declaration, a section before what it holds."""
    for name, field in section.model_fields.items():
        location, doc = (*at, name), " ".join((field.description or "").split())
        inner = _inner(field)
        if inner is None:
            yield Entry(location, doc, _type(field.annotation), _unit(field), _default(field))
            continue
        yield Entry(location, doc)
        yield from entries(inner, location if inner is field.annotation else (*location, "NAME"))


def explain(loaded: Loaded) -> str:
    """Return all settings as YAML that can be used as a configuration file, each with what it is and where from."""
    lines: list[str] = []
    for entry in entries():
        if "NAME" in entry.location:
            continue
        lines += ["", *_comment(entry, loaded)] if entry.depth == 0 else _comment(entry, loaded)
        value = _value(loaded.settings, entry.location)
        name = "  " * entry.depth + str(entry.location[-1])
        if isinstance(value, BaseModel):
            lines.append(f"{name}:")
            lines += _extra(value, entry, loaded)
        elif isinstance(value, dict):
            lines += _options(name, value)
        else:
            lines.append(f"{name}: {_yaml(value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def reference(backends: Mapping[str, type[BaseModel]], logins: Mapping[str, type[BaseModel]]) -> str:
    """Return the reference page of all settings, as Markdown.

    ``backends`` and ``logins`` have the settings of each backend and authenticator by its name.
    """
    parts = [_INTRODUCTION]
    for entry in entries():
        parts += _describe(entry)
        if entry.location == ("backend", "name"):
            for name, section in backends.items():
                parts.append(f"### `backend.*` where `backend.name` is `{name}`\n")
                for own in entries(section, ("backend",)):
                    parts += _describe(own, level=4)
        if entry.location == ("authentication", "logins"):
            for name, section in logins.items():
                at = (*entry.location, name)
                parts.append(f"### `{dotted(at)}`\n\n{' '.join((section.__doc__ or '').split())}\n")
                for own in entries(section, at):
                    parts += _describe(own, level=4)
    return "\n".join(parts)


def _describe(entry: Entry, level: int | None = None) -> Iterator[str]:
    default = f"default `{entry.default}`" if entry.default else entry.type and "must be given"
    facts = [entry.type and f"*{entry.type}*", entry.unit, default]
    line = ", ".join(fact for fact in facts if fact)
    yield f"{'#' * (level or 2 + entry.depth)} `{dotted(entry.location)}`\n"
    yield f"{line}\n\n{entry.doc}\n" if line else f"{entry.doc}\n"


_INTRODUCTION = """# Settings

Made from `src/tidegate/config/schema.py` by `docs/generate.py`; change it there.

One YAML file, given by `tidegate serve --config FILE`. A setting that is absent or null is at its default; an unknown
one is refused with file and line. `tidegate config check --config FILE` checks a file, `tidegate config explain`
prints what holds and where it came from.
"""


def _comment(entry: Entry, loaded: Loaded) -> list[str]:
    lead = "  " * entry.depth + "# "
    lines = textwrap.wrap(entry.doc, WIDTH, initial_indent=lead, subsequent_indent=lead, break_long_words=False)
    if entry.type:
        unit = f" ({entry.unit})" if entry.unit else ""
        lines.append(f"{lead}[{entry.type}{unit}, default {entry.default}; here from {loaded.origin(entry.location)}]")
    return lines


def _extra(section: BaseModel, entry: Entry, loaded: Loaded) -> list[str]:
    """Return the settings of a section that has more of them than are declared: those of a backend."""
    extra = section.model_extra or {}
    return [f"{'  ' * (entry.depth + 1)}{key}: {_yaml(value)}" for key, value in extra.items()]


def _options(name: str, value: dict[str, Any]) -> list[str]:
    if not value:
        return [f"{name}: {{}}"]
    plain = {
        key: _plain(v.model_dump(exclude_unset=True) if isinstance(v, BaseModel) else v) for key, v in value.items()
    }
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    indent = " " * (len(name) - len(name.lstrip()) + 2)
    return [f"{name}:", *textwrap.indent(text, indent).rstrip().split("\n")]


def _value(settings: Settings, location: Location) -> Any:
    value: Any = settings
    for part in location:
        value = getattr(value, str(part))
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Enum):
        return value.value
    if value == math.inf:
        return NEVER
    return str(value) if isinstance(value, Path) else value


def _yaml(value: Any) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


_TYPE_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", Any: "value"}


def _type(annotation: Any) -> str:
    members = [m for m in get_args(annotation) if m is not type(None)]
    if annotation in _TYPE_NAMES:
        return _TYPE_NAMES[annotation]
    if get_origin(annotation) in (tuple, dict):
        return "list" if get_origin(annotation) is tuple else "mapping"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(m.value for m in annotation)
    if all(isinstance(m, str) for m in members):
        return " | ".join(members)
    return _type(get_args(members[0])[0] if hasattr(members[0], "__metadata__") else members[0])


def _unit(field: FieldInfo) -> str:
    nested = [getattr(a, "__metadata__", ()) for a in get_args(field.annotation)]
    metadata = [*field.metadata, *(m for group in nested for m in group)]
    return next((m.name for m in metadata if isinstance(m, Unit)), "")


def _default(field: FieldInfo) -> str:
    if field.default_factory is default_data:
        return "$XDG_DATA_HOME/tidegate, else ~/.local/share/tidegate"
    return "" if field.is_required() else _yaml(field.get_default(call_default_factory=True))
