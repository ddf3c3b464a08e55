"""Following the notebook servers of a JupyterHub: clusters end with the server from which they were made.

The Hub tells nobody what happens in it, so it is asked, twice a minute, in one call for all users who have a server.
Who seems to lack theirs is asked about once more by name, and only that answer counts. A Hub that is away or refuses
to tell ends nothing, and that is in the log once.

What an answer means is worked out in ``model/hub.py``. Nothing is remembered here but what the log has been told.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from tidegate.control.records import Records
from tidegate.model.cluster import Cluster
from tidegate.model.ends import EndRules
from tidegate.model.errors import TidegateError
from tidegate.model.event import Event
from tidegate.model.hub import HubUser, concerns, doubtful, note_user, over_at_hub
from tidegate.model.lifecycle import fail

log = logging.getLogger(__name__)

INTERVAL = 30.0
"""Seconds between two looks, so that a cluster ends within a minute of its server. The Hub has one thread for all."""

ASKED_AT_ONCE = 50
"""About how many users the Hub is asked by name in one look: half a second of its time. The others have their turn at
the next."""


class Hub(Protocol):
    """A JupyterHub, as far as this needs one.

    Both raise a ``TidegateError`` when the Hub is away, or does not permit to ask: then nobody knows anything.
    """

    async def active_users(self) -> Collection[HubUser]:
        """Return all users who have a notebook server that is not stopped."""

    async def user(self, name: str) -> HubUser | None:
        """Return the user of that name, None if the Hub says that there is none."""


class HubServers:
    """Looks, and ends what has to end.

    Parameters
    ----------
    hub : Hub
    records : Records
    rules : EndRules
    clock : callable
        Returns the time, in seconds since the epoch.
    """

    def __init__(self, hub: Hub, records: Records, rules: EndRules, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._records = records
        self._rules = rules
        self._clock = clock
        self._last_asked = ""
        self._trouble = ""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.try_to_look()
            except Exception:
                log.exception("cannot follow the notebook servers of JupyterHub; next try in %g s", INTERVAL)
            await asyncio.sleep(INTERVAL)

    async def try_to_look(self) -> None:
        """Look; what keeps the Hub from answering goes into the log."""
        try:
            await self.look()
        except TidegateError as error:
            self._note(f"{error.message} ({error.detail})" if error.detail else error.message)
        else:
            self._note("")

    async def look(self) -> None:
        """Ask the Hub once, and end the clusters whose server, or owner, is no longer there.

        Raises
        ------
        TidegateError
            The Hub did not answer, or does not permit to ask.
        """
        clusters = [cluster for cluster in await self._records.store.active() if concerns(cluster, self._rules)]
        if not clusters:
            return
        by_owner: dict[str, list[Cluster]] = defaultdict(list)
        for cluster in clusters:
            by_owner[cluster.owner].append(cluster)
        active = await self._hub.active_users()
        for user in active:
            await self._conclude(by_owner.get(user.name, ()), user, is_sure=False)
        for owner in self._in_turn(sorted(doubtful(clusters, active, self._rules, self._clock()))):
            await self._conclude(by_owner[owner], await self._hub.user(owner), is_sure=True)

    def _in_turn(self, owners: Sequence[str]) -> Sequence[str]:
        """Return who is asked about in this look: those after the last one of the look before."""
        later = [owner for owner in owners if owner > self._last_asked]
        turn = [*later, *(owner for owner in owners if owner <= self._last_asked)][:ASKED_AT_ONCE]
        self._last_asked = turn[-1] if turn else ""
        return turn

    async def _conclude(self, clusters: Collection[Cluster], user: HubUser | None, *, is_sure: bool) -> None:
        """Bring the records of an owner's clusters up to date with an answer; only one that is sure ends any."""

        def change(cluster: Cluster) -> tuple[Cluster, tuple[Event, ...]]:
            why = over_at_hub(cluster, user, self._rules, self._clock()) if is_sure else None
            return (note_user(cluster, user, self._rules) if why is None else fail(cluster, why)), ()

        for cluster in clusters:
            if change(cluster)[0] != cluster:
                await self._records.change(cluster.name, change)

    def _note(self, trouble: str) -> None:
        """Write into the log what keeps us from knowing, and when we know again: each once."""
        if trouble and trouble != self._trouble:
            log.warning("%s. Until then no cluster ends with its notebook server", trouble.rstrip("."))
        elif self._trouble and not trouble:
            log.info("JupyterHub tells again which notebook servers run")
        self._trouble = trouble
