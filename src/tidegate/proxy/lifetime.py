"""When a proxy process ends.

It outlives control and the supervisor, because connections go through it that a computation hangs on. So nobody waits
for it and nobody kills it in the ordinary course; it ends by itself:

* when it was told to *drain* and no cluster connection is left, nor a client that is only just being let in;
* when it was *terminated* (SIGTERM): as with drain, but after a deadline in any case;
* when it is an *orphan*: no control for ten minutes, no cluster connection is left, and it knows no way to any cluster.

An orphan that does know one stays: clients and agents of a cluster that goes on will come back to this port with their
tokens, and once it is free, anybody on this machine may listen there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tidegate.proxy.limits import Limits

logger = logging.getLogger(__name__)


class Lifetime:
    """Knows whether the process is still needed.

    Parameters
    ----------
    limits : Limits
    busy : callable
        Whether cluster connections are open.
    expected : callable
        Whether clusters are known, so that connections may come.
    settle : callable
        Lets nobody else in; returns whether everybody who was let in before is served or gone. If not, ``check`` is to
        be called when that is so.
    """

    def __init__(
        self, limits: Limits, busy: Callable[[], bool], expected: Callable[[], bool], settle: Callable[[], bool]
    ) -> None:
        self._limits = limits
        self._busy = busy
        self._expected = expected
        self._settle = settle
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._draining = False
        self._orphaned = False
        self._orphan_timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.controls_changed(0)

    @property
    def draining(self) -> bool:
        """Whether the process ends as soon as it can."""
        return self._draining

    async def until_over(self) -> None:
        """Wait until the process is to end."""
        await self._over.wait()

    def check(self) -> None:
        """Look again: a connection has ended."""
        if self._busy() or self._over.is_set():
            return
        # Who comes to an orphan finds no way to any cluster, so it waits for nobody.
        if (self._orphaned and not self._expected()) or (self._draining and self._settle()):
            logger.info("no cluster connection is left: the proxy ends")
            self._over.set()

    def drain(self) -> None:
        """End when no cluster connection is left."""
        self._draining = True
        self.check()

    def terminate(self) -> None:
        """End when no cluster connection is left, but soon; at the second time, now."""
        if self._deadline is not None:
            self._over.set()
            return
        self._deadline = self._loop.call_later(self._limits.drain_seconds, self._over.set)
        self.drain()

    def controls_changed(self, count: int) -> None:
        """Take note of how many controls are connected."""
        if count:
            self._orphaned = False
            if self._orphan_timer is not None:
                self._orphan_timer.cancel()
                self._orphan_timer = None
        elif self._orphan_timer is None and not self._orphaned:
            self._orphan_timer = self._loop.call_later(self._limits.orphan_seconds, self._become_orphan)

    def close(self) -> None:
        """Stop every timer."""
        for timer in (self._orphan_timer, self._deadline):
            if timer is not None:
                timer.cancel()

    def _become_orphan(self) -> None:
        logger.info("no control for %g s", self._limits.orphan_seconds)
        self._orphan_timer = None
        self._orphaned = True
        self.check()
