"""The handler of ``dask_gateway_config.py``, as an options hook."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def choose(user: str, groups: Collection[str], values: Mapping[str, Any]) -> None:
    """Refuse what cannot be."""
    if values["project"] == "full":
        raise ValueError("There is no room left in the project full")
