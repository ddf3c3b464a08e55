"""Keeping a cluster object true while it is open.

The gateway tells what happens to the cluster; when its workers change, the scheduler is asked who they are. Not the
subscription that Dask's own clusters use: a scheduler has one subscriber (the plugin ``worker-status``), so that a
second notebook would silently take it from the first, and it ends for good with the first cut connection.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from distributed.core import Status

from tidegate.client.background import end_task
from tidegate.client.errors import GatewayError, GatewayServerError
from tidegate.client.events import ENDED, LOOK, POLL_LIMIT, follow
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.model import event as kinds

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster
    from tidegate.client.gateway import Gateway

logger = logging.getLogger("tidegate.client")

WORTH_A_LOOK = ENDED | {kinds.STOPPING, kinds.WORKERS, kinds.WORKER_ENDED, kinds.SCALED, LOOK}
"""The kinds of event that change what a cluster object shows."""

FIRST_PAUSE = 0.1
"""Seconds until the next try while the gateway fails; doubled each time, up to ``POLL_LIMIT``."""


async def watch(ref: weakref.ref[GatewayCluster], gateway: Gateway, name: str) -> None:
    """Follow the cluster until it has ended. Only a weak reference: watching must not keep the object alive."""
    news, pause = asyncio.Event(), FIRST_PAUSE
    reading = asyncio.ensure_future(_read(gateway, name, news))
    try:
        while not reading.done() or news.is_set():
            await news.wait()
            news.clear()  # before looking: what happens meanwhile makes us look again
            try:
                report = await gateway._report(name)
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
            if cluster is None or await _take(cluster, report):
                return
            del cluster
    except GatewayError as error:
        # Nothing depends on it but what is displayed; what is asked for next will say what is wrong.
        logger.info("cannot watch cluster %s any longer: %s", name, error)
    finally:
        await end_task(reading)


async def _read(gateway: Gateway, name: str, news: asyncio.Event) -> None:
    """Set ``news`` when something happens that is worth a look. A whole history that comes at once is one look."""
    last, pause = None, FIRST_PAUSE
    try:
        while True:
            try:
                async with aclosing(follow(gateway._http, name, last)) as events:
                    async for event in events:
                        last, pause = event.id or last, FIRST_PAUSE
                        if event.kind in WORTH_A_LOOK:
                            news.set()
                return
            except GatewayServerError:
                news.set()
                await asyncio.sleep(pause)
                pause = min(2 * pause, POLL_LIMIT)
    except GatewayError:
        pass  # the look that follows says what is wrong
    finally:
        news.set()


async def _take(cluster: GatewayCluster, report: ClusterReport) -> bool:
    """Bring the object up to date; return whether there is nothing more to come."""
    cluster._report = report
    if report.status is ClusterStatus.RUNNING:
        with suppress(OSError):  # cut off just now: there is another event when it is back, or has ended
            await cluster._refresh()
    elif not report.status.usable:
        # Dask's clients look at this before they try for half a minute to come back; ours are told at once.
        cluster.status = Status.closed if report.status.ended else Status.closing
        cluster.scheduler_info["workers"] = {}
        await cluster._close_clients()
        if report.status.ended and report.reason is not None:
            logger.warning("%s", report.end_error("use any longer"))
    cluster._changed.set()
    return report.status.ended
