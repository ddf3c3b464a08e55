"""A cluster behind a gateway, as Dask knows clusters.

``GatewayCluster`` is a ``distributed.deploy.Cluster``: whatever takes one of those takes this. What differs from one
whose processes are children of the notebook:

* Sizes are wishes to the gateway, and adaptive scaling runs beside the scheduler: it goes on when the notebook is gone.
* The object can be closed while the cluster lives on (``close(shutdown=False)``), and the cluster can end while the
  object lives; the object hears of it and says why.
* Logs come from the gateway, which keeps them also after the end.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import sys
import threading
import warnings
import weakref
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from distributed import Client
from distributed.core import Status
from distributed.objects import SchedulerInfo
from distributed.utils import NoOpAwaitable

from tidegate.client.adaptive import GatewayAdaptive
from tidegate.client.background import end_task, run_in_loop
from tidegate.client.display import ClusterDisplay
from tidegate.client.errors import GatewayClusterError, GatewayError
from tidegate.client.gateway import Gateway
from tidegate.client.keeping import Keeping
from tidegate.client.logs import collect_logs
from tidegate.client.naming import NO_NAME, Naming
from tidegate.client.progress import Progress
from tidegate.client.report import ClusterReport
from tidegate.client.security import GatewaySecurity
from tidegate.client.shares import Sharing
from tidegate.client.sizes import checked_bounds
from tidegate.client.starting import explain, progress_of, start
from tidegate.client.waiting import wait_for_workers

logger = logging.getLogger("tidegate.client")

STOP_SECONDS = 8.0
"""For telling the gateway that a cluster is to stop, when it was interrupted or this Python ends: less than
``background.CLEANUP_SECONDS``, which waits for it. Who closes it otherwise waits for as long as the gateway may take to
be restarted: a cluster that nobody stops costs more."""


class GatewayCluster(Keeping, Sharing, ClusterDisplay):
    """A cluster behind a gateway.

    Making one asks for a new cluster and waits until it runs; ``from_name`` connects to one that exists.

    Parameters
    ----------
    address, proxy_address, public_address, auth, asynchronous, loop
        As for ``Gateway``.
    cluster_options : Options or mapping, optional
        What ``Gateway.cluster_options`` returned.
    shutdown_on_close : bool, optional
        Whether the cluster ends when this object is closed, or this Python ends.
    name, labels : optional
        What you call it, and note of it, as for ``Gateway.new_cluster``. The attribute ``name`` is its global name.
    **kwargs
        Values for single options, such as ``worker_cores=2``.

    Examples
    --------
    >>> cluster = GatewayCluster(worker_cores=2)  # doctest: +SKIP
    >>> client = cluster.get_client()  # doctest: +SKIP
    """

    _instances: ClassVar[weakref.WeakSet[GatewayCluster]] = weakref.WeakSet()

    name: Any  # of the cluster; None until the gateway has given it one
    status: Any  # distributed's: created, starting, running, closing, closed

    def __init__(
        self,
        address: str | None = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        auth: Any = None,
        cluster_options: Mapping[str, Any] | None = None,
        shutdown_on_close: bool = True,
        asynchronous: bool = False,
        loop: Any = None,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        gateway = Gateway(address, proxy_address, public_address, auth, asynchronous, loop)
        self._set_up(gateway, None, shutdown_on_close, cluster_options, kwargs, Naming(name, labels))

    @classmethod
    def from_name(
        cls,
        cluster_name: str,
        shutdown_on_close: bool = False,
        address: str | None = None,
        proxy_address: str | int | None = None,
        public_address: str | None = None,
        auth: Any = None,
        asynchronous: bool = False,
        loop: Any = None,
    ) -> GatewayCluster:
        """Return a cluster that exists, when it runs; it outlives the object unless ``shutdown_on_close``."""
        gateway = Gateway(address, proxy_address, public_address, auth, asynchronous, loop)
        return cls._of(gateway, cluster_name, shutdown_on_close)

    @classmethod
    def _of(
        cls,
        gateway: Gateway,
        name: str | None,
        shutdown_on_close: bool,
        options: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        naming: Naming = NO_NAME,
    ) -> GatewayCluster:
        self = cls.__new__(cls)
        self._set_up(gateway, name, shutdown_on_close, options, overrides or {}, naming)
        return self

    def _set_up(
        self,
        gateway: Gateway,
        name: str | None,
        shutdown_on_close: bool,
        options: Mapping[str, Any] | None,
        overrides: Mapping[str, Any],
        naming: Naming = NO_NAME,
    ) -> None:
        self.gateway = gateway
        self.shutdown_on_close = shutdown_on_close
        self._hurried = False
        self.security: GatewaySecurity | None = None
        self._wanted_options = (options, overrides)
        self._naming = naming
        self._report: ClusterReport | None = None
        self._changed = asyncio.Event()
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._start_task: asyncio.Task[None] | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._close_task: asyncio.Task[None] | None = None
        super().__init__(asynchronous=gateway._asynchronous, loop=gateway.loop, quiet=True)
        self.name = name
        self._instances.add(self)
        if not gateway._asynchronous:
            self._loop_runner.start()
            self._start_here()

    def _start_here(self) -> None:
        """Start while this thread waits, and shows how far it is."""
        progress = progress_of(self)
        try:
            run_in_loop(self.gateway.loop.asyncio_loop, lambda: self._started(progress), progress.tick)
        except BaseException:
            self._release()
            raise
        finally:
            progress.close()

    # -- the beginning --------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, GatewayCluster]:
        return self._started().__await__()

    async def __aenter__(self) -> GatewayCluster:
        return await self._started()

    async def _started(self, progress: Progress | None = None) -> GatewayCluster:
        """Start once, whoever asks, and return when it runs."""
        if self._start_task is None:
            self._start_task = asyncio.ensure_future(start(self, progress))
        await self._start_task
        return self

    async def _refresh(self) -> None:
        """Read from the scheduler who works there."""
        self.scheduler_info = SchedulerInfo(await self.scheduler_comm.identity())

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def asynchronous(self) -> bool:
        """Whether methods return awaitables."""
        return self.gateway.asynchronous

    @property
    def scheduler_address(self) -> str:
        """Where the scheduler is reached, by whoever has the cluster's ``security``.

        Raises
        ------
        GatewayClusterError
            When the cluster has ended, or is not shared any more: a ``Client(cluster)`` then says why, instead of
            waiting for nobody.
        """
        if self._report is not None and (obstacle := self._report.obstacle("connect to")) is not None:
            raise obstacle
        return str(super().scheduler_address)

    @property
    def dashboard_link(self) -> str:
        """Link to the cluster's dashboard, for a browser."""
        return (self._report and self._report.dashboard_link) or ""

    @property
    def alias(self) -> str:
        """What its owner calls the cluster; empty if nothing."""
        return self._report.alias if self._report is not None else self._naming.alias or ""

    @property
    def labels(self) -> dict[str, str]:
        """What its owner notes of the cluster."""
        return dict(self._report.labels if self._report is not None else self._naming.labels or {})

    def get_client(self, set_as_default: bool = True) -> Client:
        """Return a new client of this cluster.

        Parameters
        ----------
        set_as_default : bool, optional
            Whether Dask's collections compute there from now on.
        """
        try:
            client = Client(self, set_as_default=set_as_default, asynchronous=self.asynchronous)
        except OSError as error:
            raise self.gateway.sync(explain, self, error) from error
        self._clients.add(client)
        return client

    def get_logs(self, cluster: bool = True, scheduler: bool = True, workers: bool | Iterable[str] = True) -> Any:
        """Return logs by process, also of processes that have ended.

        Parameters
        ----------
        cluster : bool, optional
            Whether to tell what the gateway says of the cluster.
        scheduler : bool, optional
            Whether to include the scheduler's.
        workers : bool or iterable of str, optional
            Whether to include the workers', or the names or addresses of some.
        """
        return self.gateway.sync(collect_logs, self, cluster, scheduler, workers)

    # -- how large it is ------------------------------------------------------------------------------------------

    def scale(self, n: int) -> Any:
        """Set the number of workers; the load no longer decides it."""
        self._require_open("scale")
        return self.gateway.sync(self._scale, n)

    async def _scale(self, n: int) -> None:
        self._report = await self.gateway._scale_cluster(self.name, n)

    def adapt(self, minimum: int | None = None, maximum: int | None = None, active: bool = True) -> GatewayAdaptive:
        """Let the load decide the number of workers, between ``minimum`` and ``maximum``.

        It is decided beside the scheduler, so it goes on when this object is closed or the notebook is away.

        Parameters
        ----------
        minimum, maximum : int, optional
            By default 0, and what the gateway allows.
        active : bool, optional
            False leaves the cluster at its present size.

        Returns
        -------
        GatewayAdaptive
            With the bounds as ``minimum`` and ``maximum``. In asynchronous use the request is under way already;
            await it to be sure.
        """
        self._require_open("adapt")
        bounds = checked_bounds(minimum, maximum)  # at once, for nobody may await the answer
        asking = self.gateway.sync(self._adapt, bounds["minimum"], bounds["maximum"], active)
        return GatewayAdaptive(self, bounds["minimum"], bounds["maximum"], asking)

    async def _adapt(self, minimum: int | None, maximum: int | None, active: bool) -> ClusterReport:
        self._report = await self.gateway._adapt_cluster(self.name, minimum, maximum, active)
        return self._report

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        await wait_for_workers(self, n_workers, timeout)

    # -- the end --------------------------------------------------------------------------------------------------

    def close(self, shutdown: bool | None = None) -> Any:
        """Close this object.

        Parameters
        ----------
        shutdown : bool, optional
            Whether the cluster ends too. By default what ``shutdown_on_close`` says.
        """
        if self.asynchronous:
            return NoOpAwaitable() if self._is_closed else self._close(shutdown)
        if not self._is_closed:
            for client in list(self._clients):
                client.close()
            if self.gateway.loop.asyncio_loop.is_running():
                run_in_loop(self.gateway.loop.asyncio_loop, lambda: self._close(shutdown))
        self._release()
        return None

    def shutdown(self) -> Any:
        """End the cluster, and close this object."""
        return self.close(shutdown=True)

    def _require_open(self, verb: str) -> None:
        if self._is_closed:
            words = (
                f"cannot {verb} cluster {self.name}: it was closed here. Gateway().connect(name) reaches one that runs"
            )
            raise GatewayClusterError(words)

    @property
    def _is_closed(self) -> bool:
        return self._close_task is not None and self._close_task.done()

    async def _close(self, shutdown: bool | None = None) -> None:
        if self._close_task is None:
            self._close_task = asyncio.ensure_future(self._end(shutdown))
        await asyncio.shield(self._close_task)

    async def _end(self, shutdown: bool | None) -> None:
        starting = self._start_task
        if starting is not None and not starting.done():
            starting.cancel()  # it stops by itself what it has made
            await asyncio.wait({starting})
        if self.status is Status.closed and self._report is None:
            return  # it never ran
        self.status = Status.closing
        await self._close_clients()
        ended = self._report is not None and self._report.status.ended
        if (self.shutdown_on_close if shutdown is None else shutdown) and self.name is not None and not ended:
            await self._stop(STOP_SECONDS if self._hurried else None)
        await self._disconnect()

    async def _close_clients(self) -> None:
        for client in list(self._clients):
            if client.status not in ("closing", "closed"):
                await client._close()

    async def _stop(self, seconds: float | None = STOP_SECONDS) -> None:
        try:
            await asyncio.wait_for(self.gateway._stop_cluster(self.name), seconds)
        except (GatewayError, asyncio.TimeoutError) as error:
            logger.error("cannot stop cluster %s: %s", self.name, str(error) or "the gateway did not answer in time")

    async def _disconnect(self) -> None:
        if self._watch_task is not None:
            await end_task(self._watch_task)
        if self.scheduler_comm is not None:
            await self.scheduler_comm.close_rpc()
        for callback in self.periodic_callbacks.values():
            callback.stop()
        self.scheduler_info = {"workers": {}}
        self.status = Status.closed
        self._redraw()
        self._instances.discard(self)
        await self.gateway._cleanup()

    def _release(self) -> None:
        """Let go of the loop's thread, which ends when nobody uses it."""
        if not self.gateway._asynchronous:
            self._loop_runner.stop()
            self.gateway.close()

    async def __aexit__(self, *error: object) -> None:
        await self._close()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if getattr(self, "status", Status.closed) is Status.closed or sys.is_finalizing():
            return
        if self.gateway._asynchronous:
            super().__del__(_warn)
        else:
            # Not here: whichever thread collects garbage, the loop's own among them, must not wait for the loop.
            threading.Thread(target=self.close, name="close-gateway-cluster").start()


@atexit.register
def _close_all() -> None:
    """When Python ends, close what is still open: what ``shutdown_on_close`` says decides about the clusters."""
    for cluster in list(GatewayCluster._instances):
        if not cluster.gateway._asynchronous:
            cluster._hurried = True
            with suppress(Exception):
                cluster.close()
