"""Keeping a cluster object true while it is open.

The gateway tells what happens to the cluster; when its workers change, the scheduler is asked who they are. Not the
subscription that Dask's own clusters use: a scheduler has one subscriber (the plugin ``worker-status``), so that a
second notebook would silently take it from the first, and it ends for good with the first cut connection.

Gateway and scheduler are two, and know things at different moments: a worker that is being stopped does not count for
the gateway any more, and is still there for the scheduler. So as long as the two do not agree, there is another look.

A cluster of somebody else's is true only as long as it is shared for use: when that is withdrawn, its clients here are
closed like those of one that has ended, and told why, instead of trying to come back.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed.core import Status

from tidegate.client.background import end_task
from tidegate.client.errors import GatewayError, GatewayServerError, GatewayValueError
from tidegate.client.events import ENDED, LOOK, POLL_LIMIT, follow
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.model import event as kinds

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster
    from tidegate.client.gateway import Gateway

logger = logging.getLogger("tidegate.client")

OF_SIZE = {kinds.WORKERS, kinds.SCALED}
"""The kinds of event that tell of the number of workers. They seldom come alone."""

WORTH_A_LOOK = ENDED | {
    kinds.STOPPING,
    kinds.WORKER_ENDED,
    kinds.ENDING,
    kinds.KEPT,
    kinds.SHARED,
    kinds.UNSHARED,
    LOOK,
}
"""The other kinds of event that change what a cluster object shows."""

SETTLE_SECONDS = 0.1
"""After an event of ``OF_SIZE``, until there is a look for all that have come by then. Who waits for workers is told at
once."""

FIRST_PAUSE = 0.1
"""Seconds until the next try while the gateway fails; doubled each time, up to ``POLL_LIMIT``. And until the next look
while gateway and scheduler do not agree; doubled each time, up to ``DIFFER_LIMIT``."""

DIFFER_LIMIT = 60.0
"""Seconds between two such looks at the longest: with workers that somebody started by hand, they never agree."""


async def watch(ref: weakref.ref[GatewayCluster], gateway: Gateway, name: str) -> None:
    """Follow the cluster until it has ended. Only a weak reference: watching must not keep the object alive."""
    news, pause = asyncio.Event(), FIRST_PAUSE
    look_again: float | None = None
    reading = asyncio.ensure_future(_read(ref, gateway, name, news))
    try:
        while not reading.done() or news.is_set():
            if await _wait(news, look_again):
                look_again = None
            news.clear()  # before looking: what happens meanwhile makes us look again
            try:
                report = await _look(ref, gateway, name)
            except GatewayServerError as error:
                # Away for longer than a request waits. The cluster goes on, so this does too, until somebody knows.
                if ref() is None:
                    return
                logger.info("cannot look at cluster %s now: %s", name, error)
                news.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, POLL_LIMIT)
                continue
            pause = FIRST_PAUSE
            cluster = ref()
            if cluster is None:
                return
            agree = await _take(cluster, report)
            is_over = cluster.status is Status.closed
            del cluster
            if is_over:
                return
            look_again = None if agree else min(2 * look_again, DIFFER_LIMIT) if look_again else FIRST_PAUSE
    except GatewayError as error:
        # Nothing depends on it but what is displayed; what is asked for next will say what is wrong.
        logger.info("cannot watch cluster %s any longer: %s", name, error)
    finally:
        await end_task(reading)


async def _wait(news: asyncio.Event, seconds: float | None) -> bool:
    """Return whether there are news, as soon as there are, or after so many seconds."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(news.wait(), seconds)
    return news.is_set()


async def _read(ref: weakref.ref[GatewayCluster], gateway: Gateway, name: str, news: asyncio.Event) -> None:
    """Set ``news`` when something happens that is worth a look. A whole history that comes at once is one look."""
    last, pause = None, FIRST_PAUSE
    settling: asyncio.TimerHandle | None = None
    loop = asyncio.get_running_loop()
    try:
        while True:
            try:
                async with aclosing(follow(gateway._http, name, last)) as events:
                    async for event in events:
                        last, pause = event.id or last, FIRST_PAUSE
                        if event.kind in WORTH_A_LOOK:
                            news.set()
                        elif event.kind in OF_SIZE:
                            if event.data.get("running"):
                                _wake(ref)
                            if settling is None or settling.when() <= loop.time():
                                settling = loop.call_later(SETTLE_SECONDS, news.set)
                return
            except GatewayServerError:
                news.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, POLL_LIMIT)
    except GatewayError:
        pass  # the look that follows says what is wrong
    finally:
        news.set()


def _wake(ref: weakref.ref[GatewayCluster]) -> None:
    """Have who waits for workers ask the scheduler."""
    if (cluster := ref()) is not None:
        cluster._changed.set()


async def _look(ref: weakref.ref[GatewayCluster], gateway: Gateway, name: str) -> ClusterReport:
    """Return what the gateway says; of a cluster that is not shared any more, that one may do nothing with it."""
    try:
        return await gateway._report(name)
    except GatewayValueError as error:
        cluster = ref()
        before = cluster._report if cluster is not None else None
        if error.code != "not-found" or before is None or before.mine:
            raise
        return replace(before, rights=frozenset())


async def _take(cluster: GatewayCluster, report: ClusterReport) -> bool:
    """Bring the object up to date; return whether gateway and scheduler agree on the number of workers."""
    before, cluster._report = cluster._report, report
    _tell_ending(before, report)
    agree = True
    obstacle = report.obstacle("use any longer")
    if obstacle is None and report.status is ClusterStatus.RUNNING:
        agree = False
        with suppress(OSError):  # cut off just now
            await cluster._refresh()
            agree = len(cluster.scheduler_info["workers"]) == report.workers
    elif obstacle is not None:
        # Dask's clients look at this before they try for half a minute to come back; ours are told at once.
        withdrawn = not report.may("connect")
        cluster.status = Status.closed if report.status.ended or withdrawn else Status.closing
        cluster.scheduler_info["workers"] = {}
        await cluster._close_clients()
        if withdrawn or (report.status.ended and report.reason is not None):
            logger.warning("%s", obstacle)
    cluster._changed.set()
    cluster._redraw()
    return agree


def _tell_ending(before: ClusterReport | None, report: ClusterReport) -> None:
    """Say once that the cluster is about to end by itself."""
    ending, told = report.ending, before.ending if before is not None else None
    if ending is None or not ending.announced or not report.status.usable:
        return
    if told is None or not told.announced or told.code != ending.code:
        kept = ". Work keeps it, and so does cluster.keep()" if ending.can_be_kept else ""
        logger.warning("cluster %s ends %s%s", report.name, ending, kept)
