"""The logs of a cluster as Dask shows them, from the gateway: so also those of processes that have ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from distributed.utils import Log, Logs

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster


async def collect_logs(cluster: GatewayCluster, whole: bool, scheduler: bool, workers: bool | Iterable[str]) -> Logs:
    """Return logs by process.

    Parameters
    ----------
    cluster : GatewayCluster
    whole : bool
        Whether to tell what the gateway says of the cluster as a whole.
    scheduler : bool
        Whether to include the scheduler's.
    workers : bool or iterable of str
        Whether to include the workers', or the names or addresses of some.
    """
    texts = await cluster.gateway._logs(cluster.name)
    logs = Logs()
    if whole:
        report = await cluster.gateway._report(cluster.name)
        reason = (report.reason or {}).get("message", "")
        logs["Cluster"] = Log("\n".join([report.status.name.lower(), *filter(None, [reason, *report.notes])]))
    if scheduler and "scheduler" in texts:
        logs["Scheduler"] = Log(texts["scheduler"])
    if workers:
        known = cluster.scheduler_info["workers"]
        chosen = None if workers is True else {str(known.get(w, {}).get("name", w)) for w in workers}
        names = (n for n in texts if n != "scheduler" and (chosen is None or n in chosen))
        logs.update({name: Log(texts[name]) for name in names})
    return logs
