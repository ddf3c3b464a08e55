"""Dask's configuration for nannies, which is not that of the workers that they fork.

``be_nannies`` sets it for the keeper's process and keeps aside what is the workers'; a nanny passes that on
(``of_workers``), and ``be_workers`` puts the rest right in the process that it forks.
"""

from __future__ import annotations

import copy
from typing import Any

import dask

MONITOR = "distributed.admin.system-monitor"

FOR_NANNIES = {
    "distributed.worker.multiprocessing-method": "fork",
    # Each nanny would read the machine's counters twice a second, and nobody would look at them. It is a quarter of
    # what ten of them use.
    f"{MONITOR}.interval": "1h",
    f"{MONITOR}.disk": False,
    f"{MONITOR}.gil.enabled": False,
}

_of_workers: dict[str, Any] = {}
_paths: list[str] = []
_defaults: list[Any] = []


def be_nannies() -> None:
    """Set the configuration for nannies, in this process."""
    _of_workers.update(copy.deepcopy(dask.config.config))
    _paths.extend(dask.config.paths)
    _defaults.extend(dask.config.defaults)
    dask.config.set(FOR_NANNIES)
    # A worker gets its nanny's whole configuration, but before that Dask reads all files again, and puts the defaults
    # together: 4 ms for nothing.
    dask.config.paths.clear()
    dask.config.defaults.clear()


def of_workers() -> dict[str, Any]:
    """Return the configuration that the workers of this process's nannies start with."""
    return _of_workers


def be_workers() -> None:
    """Let tasks of this worker have all of it put together anew: what its nanny has passed on is in place already."""
    dask.config.paths[:] = _paths
    dask.config.defaults[:] = _defaults
