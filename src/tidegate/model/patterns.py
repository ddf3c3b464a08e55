"""Patterns of text, as people write them for files: which images and which groups are meant.

``*`` stands for any text without a slash, ``**`` for any text at all, ``?`` for one character that is no slash; the
rest stands for itself, and the whole text has to match. The slash is what separates a registry from what is in it, so
that ``registry-*.example.org/dask`` does not allow what somebody else serves at ``registry-x.example.com/``.

Not regular expressions: people forget to escape the dots of a host name, and the time that some of them take grows with
a power of the length of a text, which users choose.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WILD = re.compile(r"(\*\*|\*|\?)")


def is_like(text: str, pattern: str) -> bool:
    """Return whether the whole of ``text`` matches ``pattern``.

    >>> is_like("ghcr.io/geo/dask:2026.8", "ghcr.io/geo/*:2026.*")
    True
    >>> is_like("ghcr.io/geo/old/dask:2026.8", "ghcr.io/geo/*")
    False
    """
    # The positions in the text that the pattern can have come to, part by part: the time is length times parts.
    places = {0}
    for part in _WILD.split(pattern):
        if part == "**":
            places = set(range(min(places), len(text) + 1))
        elif part == "*":
            places = set(_up_to_slashes(text, places))
        elif part == "?":
            places = {at + 1 for at in places if at < len(text) and text[at] != "/"}
        else:
            places = {at + len(part) for at in places if text.startswith(part, at)}
        if not places:
            return False
    return len(text) in places


def nearest(text: str, names: Iterable[str]) -> str | None:
    """Return which of ``names``, in their order, means ``text``: itself, else the first that it is like; or None.

    >>> nearest("project-ice", ["project-*", "project-ice"]), nearest("project-sea", ["project-*", "*"])
    ('project-ice', 'project-*')
    """
    known = list(names)
    return text if text in known else next((name for name in known if is_like(text, name)), None)


def is_pattern(name: str) -> bool:
    """Return whether a name may mean others than itself."""
    return "*" in name or "?" in name


def _up_to_slashes(text: str, starts: set[int]) -> Iterable[int]:
    reached = False
    for at in range(len(text) + 1):
        reached = reached or at in starts
        if reached:
            yield at
            reached = at < len(text) and text[at] != "/"
