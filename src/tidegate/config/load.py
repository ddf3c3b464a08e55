"""From a file (and the command line) to checked settings, and from every mistake to a sentence with file and line.

What is given on the command line wins over the file, the file over the defaults. All mistakes are reported at once: an
administrator mends a file in one go, not one error at a time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tidegate.config.schema import Settings
from tidegate.model.errors import TidegateError

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


class BadConfig(TidegateError):
    """The configuration cannot be used. ``problems`` has a sentence for each mistake, with its place."""

    code = "bad-config"

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Loaded:
    """Checked settings, and where each came from.

    Parameters
    ----------
    settings : Settings
    file : Path or None
        The file that was read.
    lines : mapping
        The line of the file at which each setting stands.
    given : mapping
        For a setting of the command line, the name of its argument.
    folder : Path
        What relative paths in the file are relative to.
    """

    settings: Settings
    file: Path | None = None
    lines: Mapping[Location, int] = field(default_factory=dict)
    given: Mapping[Location, str] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)

    def origin(self, location: Location) -> str:
        """Return where the value of a setting came from: an argument, ``file:line``, or ``default``."""
        if location in self.given:
            return self.given[location]
        if location in self.lines:
            return f"{self._name}:{self.lines[location]}"
        return "default"

    def place(self, location: Location) -> str:
        """Return the nearest place to look at for a mistake at ``location``."""
        for length in range(len(location), 0, -1):
            origin = self.origin(location[:length])
            if origin != "default":
                return origin
        return self._name or "defaults"

    def line(self, location: Location) -> int:
        """Return the nearest line of the file for ``location``; 0 for what does not stand in it."""
        return next((self.lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in self.lines), 0)

    @property
    def _name(self) -> str:
        return self.file.name if self.file else ""


def load(file: Path | None = None, arguments: Mapping[str, tuple[str, Any]] | None = None) -> Loaded:
    """Read and check the configuration.

    Parameters
    ----------
    file : Path, optional
        The YAML file; without it everything is at its default.
    arguments : mapping, optional
        Top-level settings from the command line: to each its argument's name (such as ``--address``) and value.

    Raises
    ------
    BadConfig
        With one sentence for each mistake.
    """
    data, lines = _read(file) if file else ({}, {})
    given: dict[Location, str] = {}
    for name, (argument, value) in (arguments or {}).items():
        if value is not None:
            # A path on the command line is relative to where the command runs, not to the file.
            data[name] = Path.cwd() / value if isinstance(value, Path) else value
            given[(name,)] = argument
    folder = file.resolve().parent if file else Path.cwd()
    places = Loaded(Settings.model_construct(), file, lines, given, folder)
    return replace(places, settings=check(places, Settings, data))


def check(places: Loaded, section: type[Model], data: Mapping[str, Any], at: Location = ()) -> Model:
    """Return ``data`` as the section that it is to be, which stands at the location ``at`` of the file.

    Raises
    ------
    BadConfig
        With one sentence for each mistake.
    """
    try:
        return section.model_validate(data, context={"folder": places.folder})
    except ValidationError as error:
        errors = sorted(error.errors(), key=lambda e: places.line((*at, *e["loc"])))
        raise BadConfig([_sentence(places, section, at, e) for e in errors]) from None


# -- reading, with lines -----------------------------------------------------------------------------------------------


def _read(file: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    try:
        text = file.read_text()
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        raise BadConfig([f"cannot read {file}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise BadConfig([f"cannot read {file}: it is not UTF-8 text"]) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadConfig([f"{file.name}:{line}: cannot be read as YAML: {error.problem}"]) from None
    except yaml.YAMLError as error:
        raise BadConfig([f"{file.name}: cannot be read as YAML: {error}"]) from None
    if root is None:
        return {}, {}
    if not isinstance(root, yaml.MappingNode):
        raise BadConfig([f"{file.name}:1: must hold settings, one 'name: value' a line"])
    lines: dict[Location, int] = {}
    twice = [
        f"{file.name}:{line}: {dotted(location)} is set twice; the first is in line {lines[location]}"
        for location, line in _walk(root, (), lines)
    ]
    if twice:
        raise BadConfig(twice)
    try:
        return yaml.safe_load(text), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadConfig([f"{file.name}:{line}: cannot be read as YAML: {error.problem}"]) from None


def _walk(node: yaml.Node, at: Location, lines: dict[Location, int]) -> Iterator[tuple[Location, int]]:
    """Note the line of everything below ``node`` in ``lines``; yield what stands there already."""
    children: list[tuple[str | int, yaml.Node, yaml.Node]] = []
    if isinstance(node, yaml.MappingNode):
        children = [(key.value, key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)]
    elif isinstance(node, yaml.SequenceNode):
        children = [(index, value, value) for index, value in enumerate(node.value)]
    for name, marked, value in children:
        location = (*at, name)
        line = marked.start_mark.line + 1
        if location in lines:
            yield location, line
            continue
        lines[location] = line
        yield from _walk(value, location, lines)


# -- from mistakes to sentences ----------------------------------------------------------------------------------------


def dotted(location: Location) -> str:
    """Return a location as people write it: ``limits.cluster.workers``."""
    return ".".join(str(part) for part in location)


def nearest_name(name: str, known: list[str]) -> str | None:
    """Return the known name that an unknown one was probably meant to be, or None."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def did_you_mean(name: str, known: list[str]) -> str:
    """Return the end of a sentence about an unknown name: the nearest known one, else all of them."""
    near = nearest_name(name, known)
    if near is not None:
        return f"did you mean {near}?"
    return f"there are {', '.join(known)}" if known else "there are none here"


KEY = "[key]"
"""What ends the place of a mistake in a name, as pydantic says it."""

KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_type": "text",
    "tuple_": "a list",
}
"""What a value has to be, by how the type of a mistake begins: its words are for programmers."""


def _sentence(places: Loaded, section: type[BaseModel], at: Location, error: ErrorDetails) -> str:
    if error["type"] == "string_type" and error["loc"][-1] == KEY:
        # A name that YAML takes for a number, a date or a truth stands in the file as text.
        location = (*at, *error["loc"][:-2], str(error["loc"][-2]))
        return f"{places.place(location)}: {dotted(location)}: a name must be text; write it in quotes"
    location = (*at, *error["loc"])
    where, name = places.place(location), dotted(location)
    if error["type"] == "extra_forbidden":
        known = list(_section_at(section, error["loc"][:-1]).model_fields)
        return f"{where}: {name} is not a setting; {did_you_mean(str(location[-1]), known)}"
    rule = error["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    rule = next((f"it must be {words}" for kind, words in KINDS.items() if error["type"].startswith(kind)), rule)
    if error["type"] in ("model_type", "dict_type"):
        rule = "it holds settings of its own, one 'name: value' a line below it"
    if isinstance(error["input"], dict | BaseModel):
        return f"{where}: {name}: {rule}" if name else f"{where}: {rule}"
    return f"{where}: cannot set {name} to {error['input']!r}: {rule}"


def _section_at(root: type[BaseModel], location: Location) -> type[BaseModel]:
    """Return the section below ``root`` that ``location`` leads to."""
    section: Any = root
    for part in location:
        if isinstance(section, type) and issubclass(section, BaseModel):
            section = section.model_fields[str(part)].annotation
        else:  # a mapping of sections: what counts is their type, not their names
            section = get_args(section)[-1]
    found: type[BaseModel] = section if isinstance(section, type) else get_args(section)[-1]
    return found
