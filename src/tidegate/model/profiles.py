"""Profiles: names under which several options are set at once, such as ``small``, ``large`` or ``gpu``.

Users choose one by the option ``profile``. What a profile sets is the administrator's word: it holds beyond the bounds
within which users may choose, and for what is fixed or hidden. What a user sets beside it wins, within those bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROFILE = "profile"
"""The option by which users choose one."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile.

    Parameters
    ----------
    name : str
    label, help : str
        What forms show.
    values : mapping
        What it sets, by option.
    groups : tuple of str
        Patterns of the groups whose members may choose it; empty for everybody.
    """

    name: str
    label: str = ""
    help: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
