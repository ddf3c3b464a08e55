"""Doing what a plan says: one step after the other, until one fails.

An effect is done first and recorded afterwards, and each may be repeated; so dying between any two lines of this file
costs nothing but the repetition. What a step raises goes to the reconciler, which tries again later. Three refusals
are for good, and become part of the record here: a cluster that cannot be launched fails, with the backend's reason; so
does one whose agent lies about where it listens; a worker that cannot be started ends with its reason, and its cluster
goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tidegate.backends import base
from tidegate.control.credentials import LaunchFiles, route_to
from tidegate.control.engines import ask
from tidegate.control.records import Records
from tidegate.control.routing import RouteTable
from tidegate.model import reasons, steps
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import BackendFailed, Invalid, TidegateError
from tidegate.model.lifecycle import fail
from tidegate.model.workers import delay_workers, refuse_workers
from tidegate.store.base import Credentials, Store

log = logging.getLogger(__name__)

LOG_LINES = 50
"""How many lines of the scheduler's log go into the reason of a failure: a traceback of Dask's is about thirty."""
LOG_DEADLINE = 5.0
"""Seconds that fetching them may take: the end of a cluster does not wait for a decoration."""


class Executor:
    """Does the steps of one cluster's plan.

    Parameters
    ----------
    records : Records
    backends : mapping of str to Backend
        By the name that clusters carry.
    routes : RouteTable
        The table that all proxies follow.
    files : LaunchFiles
        Makes what must lie beside the processes.
    clock : callable
        Returns the time, in seconds since the epoch.
    count : callable, optional
        Told of each effect that was asked for, and whether it was ``done`` or ``failed``.
    """

    def __init__(
        self,
        records: Records,
        backends: Mapping[str, base.Backend],
        routes: RouteTable,
        files: LaunchFiles,
        clock: Callable[[], float],
        count: Callable[[str, str], None] = lambda effect, outcome: None,
    ) -> None:
        self._records = records
        self._store: Store = records.store
        self._backends = backends
        self._routes = routes
        self._files = files
        self._clock = clock
        self._count = count

    async def run(self, cluster: Cluster, plan: Sequence[steps.Step]) -> None:
        """Do the steps in order.

        Raises
        ------
        StaleRecord
            The record changed meanwhile: load it and plan again.
        TidegateError
            A step failed; those after it were not done.
        """
        for step in plan:
            if isinstance(step, steps.Mark):
                cluster = await self._mark(step, cluster)
            elif not await self._counted(cluster, step):
                return

    async def _counted(self, cluster: Cluster, step: steps.Step) -> bool:
        """Do an effect; False when it was refused for good, and that is recorded."""
        outcome = "failed"
        try:
            if await self._do(cluster, step):
                outcome = "done"
        finally:
            self._count(type(step).__name__, outcome)
        return outcome == "done"

    async def _mark(self, mark: steps.Mark, current: Cluster) -> Cluster:
        value = mark.stamped(self._clock())
        if value.state is ClusterState.STOPPING and current.state is not ClusterState.STOPPING:
            value = await self._with_log(value)
        # The plan was made from one revision, and an earlier mark of the same plan has moved the record on from it.
        return await self._records.save(replace(value, revision=current.revision), mark.events)

    async def _do(self, cluster: Cluster, step: steps.Step) -> bool:
        match step:
            case steps.Launch():
                return await self._launch(cluster)
            case steps.StartWorkers(names):
                return await self._start_workers(cluster, names)
            case steps.Publish():
                return await self._publish(cluster)
            case steps.StopWorkers(names):
                stop = self._backend(cluster).stop_workers(cluster.name, names)
                await ask(f"stop workers of cluster {cluster.name}", stop)
            case steps.StopCluster():
                await ask(f"stop cluster {cluster.name}", self._backend(cluster).stop(cluster.name))
            case steps.Withdraw():
                await self._routes.delete(cluster.name)
        return True

    async def _launch(self, cluster: Cluster) -> bool:
        """Start the scheduler; False when the backend refused for good, and the cluster is recorded to end."""
        launch = await self._launch_of(cluster)
        try:
            await ask(f"launch cluster {cluster.name}", self._backend(cluster).launch(launch))
        except (Invalid, BackendFailed) as error:
            if not (_is_final(error) or self._gave_up(cluster)):
                raise
            log.warning("cannot launch cluster %s: %s (%s)", cluster.name, error.message, error.detail or "no detail")
            why = reasons.reason(reasons.LAUNCH_FAILED, why=error.message, detail=error.detail or "")
            await self._records.change(cluster.name, lambda c: (fail(c, why), ()))
            return False
        return True

    def _gave_up(self, cluster: Cluster) -> bool:
        # A backend that fails at every try would be asked for ever, and its user would wait for ever.
        # It may have been created long before it was let in.
        return self._clock() >= cluster.changed_at + cluster.spec.start_timeout

    async def _publish(self, cluster: Cluster) -> bool:
        """Open the way; False when it would not lead to this cluster, and that is recorded.

        The proxy dials where the agent says. So a user who replaces the agent could have it dial, and speak to, any
        other program of that host.
        """
        route = route_to(cluster, await self._credentials(cluster))
        ports = [port for port in (route.port, route.dashboard_port) if port is not None]
        look = self._backend(cluster).listens(cluster.name, ports)
        if not await ask(f"tell where cluster {cluster.name} listens", look):
            address = " and ".join(f"{route.host}:{port}" for port in ports)
            log.warning("cannot open the way to cluster %s: %s is not its own", cluster.name, address)
            why = reasons.reason(reasons.FOREIGN_ADDRESS, address=address)
            await self._records.change(cluster.name, lambda c: (fail(c, why), ()))
            return False
        await self._routes.put(route)
        return True

    async def _start_workers(self, cluster: Cluster, names: Sequence[str]) -> bool:
        """Start workers; False when the backend refused for good, and that is recorded."""
        launch = await self._launch_of(cluster)
        scheduler = scheduler_address(cluster)
        try:
            await ask(
                f"start workers of cluster {cluster.name}",
                self._backend(cluster).start_workers(launch, scheduler, names),
            )
        except (Invalid, BackendFailed) as error:
            why = reasons.reason(reasons.CANNOT_START, why=error.message, detail=error.detail or "")
            if not _is_final(error):
                # Who waits for these workers must read why they do not come, while we go on trying.
                await self._records.change(cluster.name, lambda c: delay_workers(c, names, why, self._clock()))
                raise
            log.warning("cannot start workers of cluster %s: %s", cluster.name, error.message)
            await self._records.change(cluster.name, lambda c: refuse_workers(c, names, why, self._clock()))
            return False
        return True

    async def _launch_of(self, cluster: Cluster) -> base.Launch:
        files = self._files.build(cluster, await self._credentials(cluster))
        return base.Launch(cluster.name, cluster.owner, cluster.attempt, cluster.spec, files)

    async def _credentials(self, cluster: Cluster) -> Credentials:
        credentials = await self._store.credentials(cluster.name)
        if credentials is None:
            raise BackendFailed(f"cannot go on with cluster {cluster.name}: its credentials are not in the store")
        return credentials

    async def _with_log(self, cluster: Cluster) -> Cluster:
        """Add the end of the scheduler's log to the reason: where there is one, it says more than any sentence."""
        reason = cluster.reason
        if reason is None or reason.log_tail or reason.code in reasons.WANTED:
            return cluster
        try:
            logs = await ask(
                f"read the logs of cluster {cluster.name}",
                self._backend(cluster).logs(cluster.name, lines=LOG_LINES),
                deadline=LOG_DEADLINE,
            )
        except TidegateError as error:
            log.info("%s", error.message)
            return cluster
        tail = next((entry.text for entry in logs if entry.process == "scheduler"), "")
        return replace(cluster, reason=replace(reason, log_tail=tail))

    def _backend(self, cluster: Cluster) -> base.Backend:
        backend = self._backends.get(cluster.backend)
        if backend is None:
            raise BackendFailed(
                f"cannot reach cluster {cluster.name}: this gateway has no backend {cluster.backend!r} any more",
                detail=f"it has {', '.join(self._backends) or 'none'}: put it back until its clusters have ended",
            )
        return backend


def scheduler_address(cluster: Cluster) -> str:
    """Return where the workers of a running cluster find their scheduler."""
    if cluster.scheduler is None or not cluster.host:
        raise ValueError(f"cluster {cluster.name} has no scheduler to connect to")
    host = f"[{cluster.host}]" if ":" in cluster.host else cluster.host
    return f"tls://{host}:{cluster.scheduler.port}"


def _is_final(error: TidegateError) -> bool:
    return isinstance(error, Invalid) or (isinstance(error, BackendFailed) and error.permanent)
