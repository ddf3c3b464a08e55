"""What the agents in the schedulers say and ask.

An agent is hostile until proved otherwise. Its token speaks for one cluster and no other, and what it reports changes
that cluster's record only, within the bounds of ``model/report.py``.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable

from tidegate.control.bus import Bus, of_cluster
from tidegate.control.records import Records
from tidegate.control.revocations import RevocationLists
from tidegate.model.admission import grow, load_waits
from tidegate.model.errors import Busy, Refused
from tidegate.model.report import Report, Wanted, absorb, wanted_of
from tidegate.wire.agent import WantedBody

REPORT_INTERVAL = 0.2
"""Seconds between two reports of one cluster that goes on and on: each may be a write and an event."""
BURST = 100
"""How many reports may come at once after a while of silence. An honest agent reports up to a hundred times a second
while workers come and go, and people wait for that."""
LONGEST_WAIT = 5.0
"""Seconds for which a report is held back; what would take longer is refused. Agents wait 15 s for an answer."""
TIDY_INTERVAL = 60.0
"""Seconds between two looks for clusters that have not reported for long: the memory of each is 100 bytes."""


class ReportPace:
    """Spreads the reports of each cluster over time: the generic cell rate algorithm, one number per cluster.

    Parameters
    ----------
    clock : callable
        Returns a time in seconds that is never set back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._tidy_at = 0.0

    def admit(self, name: str) -> float:
        """Count a report of this cluster; return in how many seconds to take it, or raise ``Busy``."""
        now = self._clock()
        silence = now - (BURST - 1) * REPORT_INTERVAL
        if now >= self._tidy_at:
            # Who has been silent for so long, or has ended, is as good as new.
            self._due = {other: due for other, due in self._due.items() if due > silence}
            self._tidy_at = now + TIDY_INTERVAL
        due = max(self._due.get(name, silence), silence)
        if due - now > LONGEST_WAIT:
            raise Busy(f"cannot take the report of cluster {name}: it reports too often", retry_after=LONGEST_WAIT)
        self._due[name] = due + REPORT_INTERVAL
        return max(0.0, due - now)


class Agents:
    """The gateway's side of the conversation.

    Parameters
    ----------
    records : Records
    bus : Bus
    clock : callable
        Returns the time, in seconds since the epoch.
    pace : ReportPace, optional
        How often each of them may report.
    clientless : callable, optional
        Returns for how many seconds no client of a cluster has been connected; None if one is, or nobody knows.
    """

    def __init__(
        self,
        records: Records,
        bus: Bus,
        clock: Callable[[], float],
        pace: ReportPace | None = None,
        clientless: Callable[[str], float | None] = lambda name: None,
    ) -> None:
        self._records = records
        self._bus = bus
        self._clock = clock
        self._pace = pace or ReportPace()
        self._clientless = clientless
        self._lists = RevocationLists(clock)

    async def check(self, name: str, token: str) -> None:
        """Make sure that the bearer of this token is the agent of this cluster: before anything else that it says.

        Raises
        ------
        Refused
            It is not.
        """
        # The store finds it by its hash, so the time that the search takes says nothing about the token.
        owner = await self._records.store.find_by_agent_token(token)
        if owner is None or not hmac.compare_digest(owner.encode(), name.encode("utf-8", "replace")):
            raise Refused

    async def report(self, name: str, report: Report) -> Wanted:
        """Take a report and return the whole wanted state, for which it is not too late to be acted upon.

        Raises
        ------
        Busy
            The agent reports too often.
        """
        wait = self._pace.admit(name)
        if wait > 0:
            await asyncio.sleep(wait)
        cluster = await self._records.change(name, lambda c: absorb(c, report, self._clock(), self._clientless(name)))
        if cluster is not None and load_waits(cluster):
            cluster = await self._records.admit(name, grow)
        return wanted_of(cluster, report.facts.attempt)

    async def revocations(self, name: str, wanted: Wanted) -> str:
        """Return the lists, as PEM, by which a scheduler refuses what is withdrawn; empty where nothing is."""
        credentials = await self._records.store.credentials(name) if wanted.withdrawn else None
        if credentials is None:
            return ""
        return await self._lists.of(credentials, wanted.withdrawn)

    async def wanted(self, name: str, attempt: int, have_version: str, timeout: float) -> Wanted:
        """Return the wanted state as soon as its version is not ``have_version``, or after ``timeout`` seconds."""
        deadline = asyncio.get_running_loop().time() + timeout
        with self._bus.listen(of_cluster(name)) as listener:
            while True:
                wanted = wanted_of(await self._records.load(name), attempt)
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or WantedBody.from_model(wanted).version != have_version:
                    return wanted
                await listener.changed(left)
