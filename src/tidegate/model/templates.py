"""Texts of the administrator in which a name stands for something of the user's: ``s3://scratch/{user}``.

Only whole names are filled in, nothing of what they stand for: no attributes, no formats, no expressions. A brace that
is meant is written twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PARTS = re.compile(r"\{\{|\}\}|\{([a-z]+)\}|[{}]")


def fill(text: str, names: Mapping[str, str]) -> str:
    """Return ``text`` with what its names stand for.

    >>> fill("s3://{user}/{{raw}}", {"user": "alice"})
    's3://alice/{raw}'

    Raises
    ------
    ValueError
        For a name that is not among ``names``, and for a single brace; with a sentence that says what to write.
    """

    def put(found: re.Match[str]) -> str:
        part, name = found[0], found[1]
        if part in ("{{", "}}"):
            return part[0]
        if name is None:
            raise ValueError(f"a brace that is meant as such is written twice: {part}{part}")
        if name not in names:
            known = ", ".join(f"{{{name}}}" for name in names)
            raise ValueError(f"{part} stands for nothing here; there are {known}")
        return names[name]

    return _PARTS.sub(put, text)
