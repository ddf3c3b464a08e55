"""Does this Python fit the cluster's? Said in words, before the first connection.

Dask's own comparison comes after the connection, when it may be too late: a client of 2026 at a scheduler of 2024
fails in the first call, with a traceback about an argument. So what cannot work is refused here, and what often does
not work is warned of.

What cannot work was found by running it: a scheduler and a worker of one release, a client of another, and
``submit``, ``map``, ``delayed`` and a dask array, for releases from 2024.1.1 to 2026.8.0.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("distributed", "dask", "cloudpickle", "msgpack")
"""What takes part in a message between client and cluster, besides Python itself."""

INCOMPATIBLE = ((2024, 5, 2), (2025, 1, 0), (2025, 3, 0), (2025, 4, 0))
"""Releases of distributed that changed how client and scheduler talk: nothing works across one of them."""

CLIENT_AHEAD = ((2024, 7, 0), (2024, 11, 0), (2024, 12, 0))
"""Releases whose clients send what no older scheduler reads; older clients still work at newer schedulers."""


@cache
def local_versions() -> Mapping[str, str]:
    """Return the versions of this Python and of what takes part in a message."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        if said := _loaded_version(package) or _installed_version(package):
            found[package] = said
    return found


@cache
def own_version() -> str:
    """Return the version of this client."""
    return _installed_version("tidegate") or "unknown"


def _loaded_version(package: str) -> str:
    """Return what a module of this name that is loaded says of itself: a new cluster waits for these versions first of
    all, and to find them on the disk takes milliseconds.
    """
    said = getattr(sys.modules.get(package), "__version__", None)
    return said if isinstance(said, str) else ""


def _installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def find_problems(mine: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Compare versions and return what cannot work, and what may not work, as sentences (or None).

    Parameters
    ----------
    mine, theirs : mapping of str to str
        Version by package, of this client and of the cluster. What one side does not tell is not compared.

    Examples
    --------
    >>> find_problems({"distributed": "2026.8.0"}, {"distributed": "2024.1.0"})[0]
    'distributed is 2026.8.0 here and 2024.1.0 in the cluster, and they cannot talk to each other'
    """
    broken = _broken(mine.get("distributed", ""), theirs.get("distributed", ""))
    if broken:
        return broken, None
    differences = []
    if _differ(mine, theirs, "python", parts=2):
        differences.append(f"Python is {mine['python']} here and {theirs['python']} in the cluster")
    for package in ("distributed", "dask"):
        if _differ(mine, theirs, package, parts=3):
            differences.append(f"{package} is {mine[package]} here and {theirs[package]} in the cluster")
    for package in ("cloudpickle", "msgpack"):
        if _differ(mine, theirs, package, parts=1):
            differences.append(f"{package} is {mine[package]} here and {theirs[package]} in the cluster")
    return None, "; ".join(differences) or None


def _broken(mine: str, theirs: str) -> str | None:
    client, scheduler = _parts(mine), _parts(theirs)
    if not client or not scheduler:
        return None
    low, high = sorted((client, scheduler))
    across = any(low < change <= high for change in INCOMPATIBLE)
    ahead = any(scheduler < change <= client for change in CLIENT_AHEAD)
    if not across and not ahead:
        return None
    return f"distributed is {mine} here and {theirs} in the cluster, and they cannot talk to each other"


def _differ(mine: Mapping[str, str], theirs: Mapping[str, str], package: str, *, parts: int) -> bool:
    ours, other = _parts(mine.get(package, "")), _parts(theirs.get(package, ""))
    return bool(ours) and bool(other) and ours[:parts] != other[:parts]


def _parts(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``2024.5.2+7.gabc`` is (2024, 5, 2); () when there are none."""
    numbers = []
    for part in text.split("+")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
