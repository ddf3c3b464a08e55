"""What ``cluster.adapt()`` returns: the bounds, at once, and the request to the gateway, to be awaited or not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from tidegate.client.report import ClusterReport

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster

logger = logging.getLogger("tidegate.client")


class GatewayAdaptive:
    """Adaptive scaling of a cluster; it runs beside the scheduler, not here.

    Parameters
    ----------
    cluster : GatewayCluster
    minimum, maximum : int or None
        The bounds as asked for; once the gateway has answered, as they are.
    asking : ClusterReport or coroutine
        The gateway's answer, or in asynchronous use what will return it.
    """

    def __init__(
        self,
        cluster: GatewayCluster,
        minimum: int | None,
        maximum: int | None,
        asking: ClusterReport | Coroutine[Any, Any, ClusterReport],
    ) -> None:
        self.cluster = cluster
        self.minimum = minimum or 0
        self.maximum = maximum
        self._task: asyncio.Task[ClusterReport] | None = None
        if isinstance(asking, ClusterReport):
            self._take(asking)
        else:
            # Under way at once: the panel of JupyterLab does not await what adapt() returns.
            self._task = asyncio.ensure_future(asking)
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[ClusterReport]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._take(task.result())
        else:
            logger.warning("%s", error)

    def _take(self, report: ClusterReport) -> None:
        if report.adaptive is not None:
            self.minimum, self.maximum = report.adaptive

    def stop(self) -> Any:
        """Leave the cluster at its present size."""
        return self.cluster.adapt(active=False)

    def __await__(self) -> Generator[Any, None, GatewayAdaptive]:
        async def wait() -> GatewayAdaptive:
            if self._task is not None:
                await asyncio.shield(self._task)
            return self

        return wait().__await__()

    def __repr__(self) -> str:
        return f"GatewayAdaptive<{self.cluster.name}, minimum={self.minimum}, maximum={self.maximum}>"
