"""What the agents in the schedulers say and ask.

An agent is hostile until proved otherwise. Its token speaks for one cluster and no other, and what it reports changes
that cluster's record only, within the bounds of ``model/report.py``.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

from tidegate.control.bus import Bus
from tidegate.control.records import Records
from tidegate.model.errors import Refused
from tidegate.model.report import Report, Wanted, absorb, wanted_of
from tidegate.wire.agent import WantedBody


class Agents:
    """The gateway's side of the conversation.

    Parameters
    ----------
    records : Records
    bus : Bus
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, records: Records, bus: Bus, clock: Callable[[], float]) -> None:
        self._records = records
        self._bus = bus
        self._clock = clock

    async def report(self, name: str, token: str, report: Report) -> Wanted:
        """Take a report and return the whole wanted state, for which it is not too late to be acted upon.

        Raises
        ------
        Refused
            The token is not that of this cluster's agent.
        """
        await self._check(name, token)
        cluster = await self._records.change(name, lambda c: absorb(c, report, self._clock()))
        return wanted_of(cluster, report.facts.attempt)

    async def wanted(self, name: str, token: str, attempt: int, have_version: str, timeout: float) -> Wanted:
        """Return the wanted state as soon as its version is not ``have_version``, or after ``timeout`` seconds.

        Raises
        ------
        Refused
            The token is not that of this cluster's agent.
        """
        await self._check(name, token)
        deadline = asyncio.get_running_loop().time() + timeout
        with self._bus.listen(cluster=name) as listener:
            while True:
                wanted = wanted_of(await self._records.load(name), attempt)
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or WantedBody.from_model(wanted).version != have_version:
                    return wanted
                await listener.changed(left)

    async def _check(self, name: str, token: str) -> None:
        # The store finds it by its hash, so the time that the search takes says nothing about the token.
        owner = await self._records.store.find_by_agent_token(token)
        if owner is None or not hmac.compare_digest(owner.encode(), name.encode("utf-8", "replace")):
            raise Refused
