"""The credentials of a cluster's nannies and workers, read once for all of them.

Each nanny and each worker would make a TLS context to call with and one to listen with: ten workers read, parse and
check the same files forty times. Here the first nanny makes both, the others share them, and what they fork has them
from its first moment. They hold nothing that a worker could not read in the cluster's folder. Not before the first: a
cluster without workers need not have 0.7 MB for them.
"""

from __future__ import annotations

from typing import Any

from distributed.security import Security


class SharedSecurity(Security):
    """Dask's own credentials, by the configuration that holds when it is made; it hands out again what it has made.

    Who gets arguments may add to them, so each gets a dictionary of its own. The contexts are the same. ``named`` is
    for Dask's ``Security``.
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._made: dict[tuple[str, str], dict[str, Any]] = {}

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Return what to call others with."""
        key = "connect", role
        if key not in self._made:
            self._made[key] = super().get_connection_args(role)
        return dict(self._made[key])

    def get_listen_args(self, role: str) -> dict[str, Any]:
        """Return what to listen with."""
        key = "listen", role
        if key not in self._made:
            self._made[key] = super().get_listen_args(role)
        return dict(self._made[key])
