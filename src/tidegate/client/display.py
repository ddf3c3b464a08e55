"""What a cluster looks like: as a line, as HTML, and as a widget where there are widgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from distributed.deploy.cluster import Cluster

from tidegate.client.live import LiveView
from tidegate.client.report import ClusterReport

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster


class ClusterDisplay(Cluster):
    """A cluster that shows what the gateway reports of it."""

    _report: ClusterReport | None
    _live: LiveView | None = None

    def __repr__(self) -> str:
        workers = self.scheduler_info["workers"].values()
        threads = sum(worker["nthreads"] for worker in workers)
        owner = f"of {self._report.owner}, " if self._report is not None and not self._report.mine else ""
        name = f"{self.alias}, {self.name}" if self.alias else self.name
        facts = f"status={self.status.name}, workers={len(workers)}, threads={threads}"
        end = self._report.ends_in if self._report is not None else ""
        return f"{type(self).__name__}<{name}, {owner}{facts}{end}>"

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        from tidegate.client.widget import status_rows

        return str(super()._repr_html_(cluster_status or status_rows(self)))

    def _scaling_status(self) -> str:
        from tidegate.client.widget import scaling_table

        return scaling_table(self)

    def _widget(self) -> Any:
        from tidegate.client.widget import cluster_widget

        if not hasattr(self, "_cached_widget"):
            self._cached_widget = None if self.asynchronous else cluster_widget(cast("GatewayCluster", self))
        return self._cached_widget

    def _redraw(self) -> None:
        """Show what is true now. For the event loop's thread."""
        if self._live is not None:
            self._live.changed()
