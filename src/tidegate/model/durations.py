"""Durations as people write and read them; inside they are seconds, as floats.

Whoever takes one from a person (a setting, the command line, ``cluster.keep``) takes a number of seconds, text with
units, or ``never``, which is infinity. There is this one parser.
"""

from __future__ import annotations

import math
import re
from typing import Any

NEVER = "never"

_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}
_PART = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)")

LONGEST = 100 * 366 * 86400.0
"""Seconds: a century. What is longer is a mistake, or ``never``; and times that far off still fit every calendar."""

RULE = "write a number of seconds, or text with a unit such as '90 s', '30 min', '1 h 30 min' or '2 days'"


def parse_duration(value: Any) -> float:
    """Return the seconds that ``value`` stands for.

    Raises
    ------
    ValueError
        It is no duration; the message is the rule.

    Examples
    --------
    >>> parse_duration("1 h 30 min"), parse_duration(90), parse_duration("never")
    (5400.0, 90.0, inf)
    """
    if isinstance(value, str):
        return _parse_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(RULE)  # noqa: TRY004 - pydantic takes only this for a value that is wrong
    return _check(value)


def _parse_text(text: str) -> float:
    words = text.strip().lower()
    if words == NEVER:
        return math.inf
    seconds, at, alone = 0.0, 0, True
    while at < len(words):
        part = _PART.match(words, at)
        # A number without a unit is in seconds, if it stands alone.
        if part is None or (part[2] or "s") not in _UNITS or not (part[2] or (alone and part.end() == len(words))):
            raise ValueError(RULE)
        seconds += float(part[1]) * _UNITS[part[2] or "s"]
        at, alone = part.end(), False
    if not words:
        raise ValueError(RULE)
    return _check(seconds)


def _check(seconds: float) -> float:
    if seconds == math.inf:
        return math.inf
    if not 0 <= seconds <= LONGEST:  # what is not a number is not either
        raise ValueError(f"{RULE}; it cannot be negative, or more than a century")
    return float(seconds)


def describe_duration(seconds: float) -> str:
    """Return a duration in the two largest units that matter.

    >>> describe_duration(42), describe_duration(3 * 3600 + 20 * 60)
    ('42 s', '3 h 20 min')
    """
    if seconds == math.inf:
        return NEVER
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        hours, minutes = whole // 3600, whole % 3600 // 60
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days = whole // 86400
    return f"{days} day{'' if days == 1 else 's'}"
