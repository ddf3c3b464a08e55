"""Who may see a dashboard with a credential instead of a ticket: a program, which control is asked about.

Control's yes is remembered for a moment, by a hash of the credential; a no is not, for the next try may be right.
A Kerberos ticket (``Negotiate``) counts once: remembered, it could be replayed by whoever has seen it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from tidegate.proxy.api import Api

DASHBOARD_ACCESS_PATH = "/internal/dashboard-access"

_REMEMBERED = 10_000
"""So many answers are remembered at most; beyond that, all are forgotten and asked again."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Control's yes: in which share epoch it is good (None for the owner), until when, and by which token, if by one.

    ``until`` is in seconds since the epoch, None where nobody knows.
    """

    epoch: int | None
    until: float | None = None
    by: tuple[str, ...] = ()


class Access:
    """Asks control whether a program may see a cluster's dashboard.

    Parameters
    ----------
    api : Api
    seconds : float
        How long a yes is remembered.
    """

    def __init__(self, api: Api, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._seconds = seconds
        self._clock = clock
        self._remembered: dict[tuple[str, bytes], tuple[float, Admitted]] = {}

    async def ask(self, cluster: str, authorization: str, client: str) -> Admitted | web.Response:
        """Return as whom the credential of who is at ``client`` opens the cluster's dashboard, else what to answer.

        Raises
        ------
        tidegate.proxy.api.Unavailable
        """
        key = (cluster, hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest())
        until, admitted = self._remembered.get(key, (0.0, Admitted(None)))
        if until > self._clock():
            return admitted
        status, headers, body = await self._api.ask(
            DASHBOARD_ACCESS_PATH, {"cluster": cluster, "client": client}, {"Authorization": authorization}
        )
        if status != 200:
            return web.Response(status=status, headers=headers, body=body)
        # Control is always of our version or a newer one, but for the moment of an upgrade: then it is the owner.
        said = json.loads(body)
        admitted = Admitted(said.get("epoch"), said.get("until"), tuple(said.get("by", ())))
        if not authorization.strip().lower().startswith("negotiate"):
            self._remember(key, admitted)
        return admitted

    def _remember(self, key: tuple[str, bytes], admitted: Admitted) -> None:
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = self._clock() + self._seconds, admitted

    def forget(self, cluster: str) -> None:
        """Forget what was said about a cluster."""
        for key in [key for key in self._remembered if key[0] == cluster]:
            del self._remembered[key]
