"""From a wish to a cluster that is connected: ask, wait, compare versions, connect; or leave nothing behind."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from distributed.core import Status, rpc

from tidegate.client import comm
from tidegate.client.background import TICK_SECONDS
from tidegate.client.errors import GatewayClusterError, GatewayError
from tidegate.client.events import ENDED, LOOK, follow
from tidegate.client.progress import Progress, choose_progress
from tidegate.client.report import ClusterReport, ClusterStatus, scheduler_address
from tidegate.client.security import GatewaySecurity
from tidegate.client.versions import find_problems, local_versions
from tidegate.client.warn import warn
from tidegate.client.watch import watch
from tidegate.model import event as kinds

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster
    from tidegate.client.gateway import Gateway

T = TypeVar("T")

DECISIVE = ENDED | {kinds.RUNNING, kinds.STOPPING, LOOK}
"""The kinds of event after which the cluster is read; the others only tell how far it is."""

NAME_SECONDS = 4.0
"""How long an interrupted start waits for the name of the cluster that it has asked for, in order to stop it."""

Keys = tuple[str, GatewaySecurity, dict[str, Any]]
"""Where schedulers are reached, what opens the way to this one, and what was made of that for ``distributed``."""


def progress_of(cluster: GatewayCluster) -> Progress:
    """Return what shows a person that ``cluster`` is starting."""
    what = f"Connecting to cluster {cluster.name}" if cluster.name else "Asking for a cluster"
    return choose_progress(f"{what} at {cluster.gateway.address}")


async def start(cluster: GatewayCluster, progress: Progress | None) -> None:
    """Make the cluster if it has no name yet, wait for it, connect.

    Whatever goes wrong, an interruption too: a cluster that was asked for here is stopped, for nobody has a handle on
    it. ``progress`` is None where nobody else draws it.
    """
    made_here = cluster.name is None
    ticking = None
    way: _Way | None = None
    if progress is None:
        progress = progress_of(cluster)
        ticking = asyncio.ensure_future(_tick(progress))
    cluster.status = Status.starting
    try:
        if made_here:
            await _submit(cluster)
            progress.message = f"Cluster {cluster.name}: waiting for it to start"
        way = _Way(cluster)
        report = None if made_here else await cluster.gateway._report(cluster.name)
        if report is not None:
            cluster.name = report.name  # from here on its global name: an alias may come to mean another one
        if report is not None and report.status.usable:
            await way.fetching  # who may not connect is told so at once, not when it runs
        if report is None or report.status is not ClusterStatus.RUNNING:
            report = await wait_until_running(cluster.gateway, cluster.name, progress, way.open)
        await connect(cluster, report, way)
    except BaseException:
        cluster.status = Status.closing
        if way is not None:
            way.close()
        if made_here and cluster.name is not None:
            await cluster._stop()
        await cluster._disconnect()
        raise
    finally:
        if ticking is not None:
            ticking.cancel()
            progress.close()


async def _submit(cluster: GatewayCluster) -> None:
    """Ask for a cluster. Interrupted, wait for its name all the same."""
    options, overrides = cluster._wanted_options
    asking = asyncio.ensure_future(
        cluster.gateway._submit(options, overrides, cluster._naming, cluster.shutdown_on_close)
    )
    try:
        cluster.name = await asyncio.shield(asking)
    except asyncio.CancelledError:
        with suppress(GatewayError, asyncio.TimeoutError):
            cluster.name = await asyncio.wait_for(asking, NAME_SECONDS)
        raise


async def wait_until_running(
    gateway: Gateway, name: str, progress: Progress, on_running: Callable[[], object]
) -> ClusterReport:
    """Return the report of the cluster ``name`` as soon as it runs; ``progress`` is told what happens until then.

    ``on_running`` is called when it is said to run, before it is read. Warns if it begins otherwise than it was asked
    for.

    Raises
    ------
    GatewayClusterError
        When it has ended or is ending, with the reason and the end of the log.
    GatewayError
        When the gateway cannot be asked.
    """
    async with aclosing(follow(gateway._http, name)) as events:
        async for event in events:
            if note := event.data.get("note"):
                warn(note)
            if event.kind not in DECISIVE:
                progress.message = f"Cluster {name}: {event.message}"
                continue
            if event.kind == kinds.RUNNING:
                on_running()
            report = await gateway._report(name)
            if report.status is ClusterStatus.RUNNING:
                return report
            if not report.status.usable:
                raise report.end_error("use")
    raise (await gateway._report(name)).end_error("use")


class _Way:
    """The way to a cluster's scheduler. What opens it is there before the cluster runs, and is fetched at once."""

    def __init__(self, cluster: GatewayCluster) -> None:
        self._cluster = cluster
        self._opening: asyncio.Future[None] | None = None
        self.fetching = _begin(self._fetch(cluster.gateway, cluster.name))

    def open(self) -> asyncio.Future[None]:
        """Begin to connect, unless that is done; what is returned ends when the scheduler has answered."""
        if self._opening is None:
            self._opening = _begin(self._connect())
        return self._opening

    def close(self) -> None:
        """Let go of what is under way."""
        self.fetching.cancel()
        if self._opening is not None:
            self._opening.cancel()

    @staticmethod
    async def _fetch(gateway: Gateway, name: str) -> Keys:
        netloc = await gateway._scheduler_netloc()
        security = await gateway._security(name)
        comm.register()
        return netloc, security, security.get_connection_args("client")

    async def _connect(self) -> None:
        netloc, security, connection_args = await self.fetching
        self._cluster.security = security
        address = scheduler_address(netloc, self._cluster.name)
        self._cluster.scheduler_comm = rpc(address, connection_args=connection_args)
        await self._cluster._refresh()


def _begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin something that perhaps nobody will ask for: what went wrong with its cluster is told elsewhere then."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def connect(cluster: GatewayCluster, report: ClusterReport, way: _Way) -> None:
    """Open the connection to the scheduler, and begin to watch the cluster."""
    cluster._report = report
    opening = way.open()
    check_versions(report)
    await way.fetching  # what the gateway refuses is no trouble on the way to the scheduler
    try:
        await opening
    except OSError as error:
        raise await explain(cluster, error) from error
    cluster.status = Status.running
    cluster._watch_task = asyncio.ensure_future(watch(weakref.ref(cluster), cluster.gateway, report.name))


def check_versions(report: ClusterReport) -> None:
    """Raise if this Python and the cluster cannot work together, warn if they may not."""
    broken, doubtful = find_problems(local_versions(), report.versions)
    if broken:
        raise GatewayClusterError(
            f"cannot use cluster {report.name}: {broken}. Choose another environment for the cluster, or use a Python "
            "with the cluster's versions here",
            code="incompatible-versions",
        )
    if doubtful:
        warn(f"cluster {report.name} differs from this Python: {doubtful}. What is sent to it may not work there")


async def explain(cluster: GatewayCluster, error: Exception) -> GatewayClusterError:
    """Return why the scheduler cannot be reached.

    To a cluster that it does not have, the gateway cuts the connection without a word, which gives an error without a
    text; but it can be asked.
    """
    report = await cluster.gateway._report(cluster.name)
    if report.status is not ClusterStatus.RUNNING:
        return report.end_error("connect to")
    if (obstacle := report.obstacle("connect to")) is not None:
        return obstacle
    why = str(error) or type(error).__name__
    return GatewayClusterError(
        f"cannot connect to cluster {report.name} at {cluster.gateway.proxy_address}: {why}. It runs, so something on "
        "the way keeps TLS from reaching it; if schedulers are reached elsewhere, set proxy_address",
        code="unreachable",
    )


async def _tick(progress: Progress) -> None:
    while True:
        progress.tick()
        await asyncio.sleep(TICK_SECONDS)
