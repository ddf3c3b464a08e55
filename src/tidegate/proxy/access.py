"""Who may see a dashboard with a credential instead of a ticket: a program, which control is asked about.

Control's yes is remembered for a moment, by a hash of the credential; a no is not, for the next try may be right.
A Kerberos ticket (``Negotiate``) counts once: remembered, it could be replayed by whoever has seen it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from aiohttp import web

from tidegate.proxy.api import Api

DASHBOARD_ACCESS_PATH = "/internal/dashboard-access"

_REMEMBERED = 10_000
"""So many answers are remembered at most; beyond that, all are forgotten and asked again."""


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
        self._until: dict[tuple[str, bytes], float] = {}

    async def refusal(self, cluster: str, authorization: str) -> web.Response | None:
        """Return None when the credential opens the cluster's dashboard, else what to answer.

        Raises
        ------
        tidegate.proxy.api.Unavailable
        """
        key = (cluster, hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest())
        if self._until.get(key, 0.0) > self._clock():
            return None
        status, headers, body = await self._api.ask(
            DASHBOARD_ACCESS_PATH, {"cluster": cluster}, {"Authorization": authorization}
        )
        if status != 200:
            return web.Response(status=status, headers=headers, body=body)
        if not authorization.strip().lower().startswith("negotiate"):
            self._remember(key)
        return None

    def _remember(self, key: tuple[str, bytes]) -> None:
        if len(self._until) >= _REMEMBERED:
            self._until.clear()
        self._until[key] = self._clock() + self._seconds

    def forget(self, cluster: str) -> None:
        """Forget what was said about a cluster."""
        for key in [key for key in self._until if key[0] == cluster]:
            del self._until[key]
