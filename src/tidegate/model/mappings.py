"""Texts by name as people write them into a form: one ``NAME=text`` a line."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.model.errors import Invalid


def to_lines(mapping: Mapping[str, str]) -> str:
    """Return a mapping as lines.

    >>> to_lines({"A": "1", "B": "2"})
    'A=1\\nB=2'
    """
    return "\n".join(f"{name}={text}" for name, text in mapping.items())


def from_lines(lines: str, field: str) -> dict[str, str]:
    """Return the mapping that ``lines`` are; those without anything in them do not count.

    Raises
    ------
    Invalid
        A line has no equals sign. It is not repeated: what was to be a secret may stand in it.
    """
    mapping = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        name, equals, text = line.partition("=")
        if not equals:
            raise Invalid(f"cannot set {field}: line {number} is not NAME=text", field=field)
        mapping[name.strip()] = text.strip()
    return mapping
