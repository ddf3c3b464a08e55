"""Waiting for workers, but not for workers that will never come."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta

from tidegate.client.errors import GatewayClusterError, GatewayServerError
from tidegate.client.report import ClusterReport

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster

KEEP_FAILING = 3
"""So many workers ended one after the other, and none is on its way: once is bad luck, twice is coincidence."""

FRESH_SECONDS = 1.0
"""For so long what the gateway said is taken for true: who waits for workers has mostly just set their number."""

FIRST_PAUSE = 0.1
"""Seconds between two looks at the scheduler at first. The gateway tells when workers have come, and a look takes of
the machine on which they start; but a gateway may be away."""

GATEWAY_SECONDS = 3.0
"""For the gateway to say how the cluster is, before the wait begins."""

LONGEST_PAUSE = 0.25
"""Seconds between two looks after a while."""


async def wait_for_workers(cluster: GatewayCluster, n_workers: int, timeout: Any = None) -> None:
    """Return when ``n_workers`` are running.

    Raises
    ------
    GatewayClusterError
        When they will not come: the cluster has ended, its workers keep ending, or it may not have so many.
    TimeoutError
        When ``timeout`` is over.
    """
    seconds = parse_timedelta(timeout) if timeout else None
    deadline = None if seconds is None else time.monotonic() + seconds
    report = await _latest_report(cluster)
    if report.max_workers is not None and n_workers > report.max_workers:
        because = f" ({report.max_workers_reason})" if report.max_workers_reason else ""
        raise GatewayClusterError(
            f"cannot wait for {n_workers} workers of cluster {cluster.name}: it can have {report.max_workers} at the "
            f"most{because}",
            code="limit",
        )
    failures_before, pause = report.failures, FIRST_PAUSE
    while True:
        started = time.monotonic()
        with suppress(OSError):  # cut off: the report below tells whether for good
            await cluster._refresh()
        running = sum(w["status"] == "running" for w in cluster.scheduler_info["workers"].values())
        if running >= n_workers:
            return
        _check(cluster._report or report, failures_before, n_workers)
        if deadline is not None and time.monotonic() > deadline:
            raise _timeout(running, n_workers, timeout)
        # A scheduler with many workers takes longer to tell of them: it shall not do nothing else.
        pause = min(max(pause * 1.3, 5 * (time.monotonic() - started)), LONGEST_PAUSE)
        await _changed(cluster, pause)


async def _latest_report(cluster: GatewayCluster) -> ClusterReport:
    """Ask the gateway; but a gateway that is away keeps no worker from coming, so do not wait for it."""
    if cluster._report is None:
        await cluster._started()
    if cluster._report is not None and time.monotonic() - cluster._report.read_at < FRESH_SECONDS:
        return cluster._report
    with suppress(GatewayServerError, asyncio.TimeoutError):
        cluster._report = await asyncio.wait_for(cluster.gateway._report(cluster.name), GATEWAY_SECONDS)
    return cluster._report or await cluster.gateway._report(cluster.name)


def _check(report: ClusterReport, failures_before: int, n_workers: int) -> None:
    if not report.status.usable:
        raise report.end_error("wait for workers of")
    if report.trouble is None or report.failures < KEEP_FAILING:
        return
    stuck = report.starting == 0 and report.workers < min(n_workers, report.wanted)
    again = report.failures - failures_before >= KEEP_FAILING * max(1, report.wanted - report.workers)
    if stuck or again:
        raise report.worker_error("wait for workers of")


async def _changed(cluster: GatewayCluster, seconds: float) -> None:
    """Return when the gateway tells something of the cluster, or after so many seconds."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(cluster._changed.wait(), seconds)
    cluster._changed.clear()


def _timeout(running: int, n_workers: int, timeout: Any) -> Exception:
    try:
        from distributed.exceptions import WorkerStartTimeoutError
    except ImportError:  # distributed before 2024.5
        return TimeoutError(f"Only {running}/{n_workers} workers arrived after {timeout}")
    return WorkerStartTimeoutError(running, n_workers, timeout)
