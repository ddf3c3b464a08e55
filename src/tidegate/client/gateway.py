"""The door to a gateway: what it offers, which clusters one has there, and new ones."""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

from tidegate.client.connection import Connection
from tidegate.client.errors import NOT_THERE, GatewayValueError
from tidegate.client.keeping import keep_cluster
from tidegate.client.limits import read_limits
from tidegate.client.listing import list_clusters
from tidegate.client.naming import NO_NAME, Naming
from tidegate.client.options import Options, merge
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.client.security import GatewaySecurity
from tidegate.client.sizes import checked_bounds, checked_count, plain
from tidegate.client.usage import read_usage
from tidegate.client.versions import local_versions, own_version
from tidegate.client.warn import warn

if TYPE_CHECKING:
    from tidegate.client.cluster import GatewayCluster

CLUSTERS = "/api/v2/clusters"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
"""What can be a cluster's name at all; anything else would be another path."""


class Gateway(Connection):
    """A client of one gateway.

    What is not given comes from the Dask configuration, ``tidegate:`` first, then ``gateway:`` (see
    ``tidegate.client.config``).

    Parameters
    ----------
    address : str, optional
        URL of the gateway.
    proxy_address : str or int, optional
        ``host:port`` where schedulers are reached, or a port on the gateway's host. By default what the gateway says,
        else its own address.
    public_address : str, optional
        URL of the gateway as a browser sees it, for links. By default ``address``.
    auth : str, type or instance, optional
        How to log in: ``"token"``, ``"basic"``, ``"jupyterhub"``, ``"kerberos"``, the dotted name of a class, a class,
        or an instance of one.
    asynchronous : bool, optional
        Whether to be used from a running event loop; methods then return awaitables.
    loop : tornado.ioloop.IOLoop, optional
        The loop to use. By default the running one if asynchronous, else one in a thread of its own.
    on_behalf_of : str, optional
        For administrators: the user on whose behalf everything is done. It is theirs, and it is on record who did it.

    Examples
    --------
    >>> gateway = Gateway()  # doctest: +SKIP
    >>> cluster = gateway.new_cluster(worker_cores=2)  # doctest: +SKIP
    """

    # -- what there is --------------------------------------------------------------------------------------------

    def cluster_options(self, use_local_defaults: bool = True) -> Any:
        """Return the options that the gateway offers, as an ``Options`` object to be changed.

        Parameters
        ----------
        use_local_defaults : bool, optional
            Whether to set what the configuration has under ``cluster.options``.
        """
        return self.sync(self._cluster_options, use_local_defaults)

    async def _cluster_options(self, use_local_defaults: bool = True) -> Options:
        body = await self._http.request("GET", "/api/v2/options")
        options = Options.from_json(body["options"], body.get("profiles") or ())
        if use_local_defaults:
            for name, value in self._settings.options.items():
                try:
                    options[name] = value
                except GatewayValueError as error:
                    raise GatewayValueError(
                        f"{error} (this value is set in your Dask configuration, under cluster.options)"
                    ) from None
        return options

    def list_clusters(
        self,
        status: str | ClusterStatus | Iterable[str | ClusterStatus] | None = None,
        *,
        of: str = "mine",
        owner: str | None = None,
    ) -> Any:
        """Return reports of clusters, newest first.

        Parameters
        ----------
        status : str, ClusterStatus or several, optional
            Which ones: ``pending``, ``running``, ``stopping``, ``stopped``, ``failed``. By default the first two.
        of : {"mine", "shared", "all"}, optional
            Whose: yours; those of others that are shared with you; or both, which for an administrator is every one.
        owner : str, optional
            Only this user's, of all that you may see.
        """
        return self.sync(list_clusters, self, status, of, owner)

    def get_cluster(self, cluster_name: str) -> Any:
        """Return the report of one cluster, also after its end; with what to connect with, while it runs."""
        return self.sync(self._full_report, cluster_name)

    async def _full_report(self, name: str) -> ClusterReport:
        report = await self._report(name)
        has_keys = report.status is ClusterStatus.RUNNING and report.may("connect")
        return replace(report, security=await self._security(name)) if has_keys else report

    async def _report(self, name: str) -> ClusterReport:
        body = await self._request_of(name, "GET")
        return self._to_report(body, await self._scheduler_netloc())

    def _to_report(self, body: Mapping[str, Any], netloc: str) -> ClusterReport:
        return ClusterReport.from_json(body, public_address=self._settings.public_address, scheduler_netloc=netloc)

    async def _security(self, name: str) -> GatewaySecurity:
        body = await self._request_of(name, "GET", "/credentials")
        return GatewaySecurity(body["certificate"], body["key"], body["sni"], self._settings)

    async def _request_of(self, name: str, method: str, below: str = "", **kwargs: Any) -> Any:
        """Send a request about the cluster ``name``."""
        absent = GatewayValueError(f"cannot find cluster {name!r} at {self.address}: {NOT_THERE}")
        absent.code = "not-found"
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise absent
        try:
            return await self._http.request(method, f"{CLUSTERS}/{name}{below}", **kwargs)
        except GatewayValueError as error:
            raise (absent if error.code == "not-found" else error) from None

    async def _scheduler_netloc(self) -> str:
        """Return where schedulers are reached; asks the gateway once, if nobody said so."""
        if self._settings.proxy_address is None and not self._asked_proxy:
            self._told_proxy = (await self._versions())["server"].get("proxy_address")
            self._asked_proxy = True
        return self._settings.scheduler_netloc(self._told_proxy)

    def get_logs(self, cluster_name: str, lines: int = 200) -> Any:
        """Return the last lines of the log of each process of a cluster, by name, also after its end."""
        return self.sync(self._logs, cluster_name, lines)

    async def _logs(self, name: str, lines: int = 200) -> dict[str, str]:
        body = await self._request_of(name, "GET", "/logs", params={"lines": str(lines)})
        return {log["process"]: log["text"] for log in body["logs"]}

    def limits(self, user: str | None = None, *, of: str = "mine") -> Any:
        """Return how much you may hold, and how much you do: ``Limits``, which prints as a table.

        Parameters
        ----------
        user : str, optional
            Whose, for administrators. By default yours.
        of : {"mine", "all"}, optional
            Or, for administrators, everybody's who has a cluster.

        Examples
        --------
        >>> gateway.limits()  # doctest: +SKIP
        """
        return self.sync(read_limits, self, user=user, of=of)

    def usage(
        self,
        by: str | Sequence[str] = "day",
        since: date | str | None = None,
        until: date | str | None = None,
        *,
        of: str = "mine",
        user: str | None = None,
        group: str | None = None,
        cluster: str | None = None,
    ) -> Any:
        """Return what was used, metered from what ran: a ``UsageReport``, which ``pandas.DataFrame`` takes as it is.

        Parameters
        ----------
        by : str or sequence of str, optional
            What to tell it apart by: ``"day"``, ``"user"``, ``"group"``, ``"cluster"``, or several.
        since, until : date or str, optional
            The first and the last day, in UTC. By default the last 30 days, until today.
        of : {"mine", "all"}, optional
            Whose: yours; or everybody's, for administrators.
        user, group : str, optional
            For administrators: only of this user, only of this group's members.
        cluster : str, optional
            Only of this cluster.

        Examples
        --------
        >>> gateway.usage(by="cluster").total.core_hours  # doctest: +SKIP
        """
        return self.sync(read_usage, self, by, since, until, of=of, user=user, group=group, cluster=cluster)

    def get_versions(self) -> Any:
        """Return the versions of the gateway and of this client."""
        return self.sync(self._versions)

    async def _versions(self) -> dict[str, Any]:
        server = await self._http.request("GET", "/api/v2/version")
        return {"server": server, "client": {"version": own_version(), **local_versions()}}

    # -- new and old clusters -------------------------------------------------------------------------------------

    def submit(
        self,
        cluster_options: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Ask for a cluster and return its global name at once; ``connect`` waits for it.

        Parameters
        ----------
        cluster_options : Options or mapping, optional
            What ``cluster_options`` returned. By default what the configuration has under ``cluster.options``.
        name, labels, **kwargs
            As for ``new_cluster``.
        """
        return self.sync(self._submit, cluster_options, kwargs, Naming(name, labels))

    async def _submit(
        self,
        cluster_options: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
        naming: Naming = NO_NAME,
        shutdown_on_close: bool = False,
    ) -> str:
        body: dict[str, Any] = {
            "options": {k: plain(v) for k, v in merge(cluster_options, kwargs, self._settings.options).items()},
            "hints": {"python": sys.executable or "", "versions": local_versions()},
            **naming.to_json(),
        }
        if shutdown_on_close:
            body["shutdown_on_close"] = True
        # The key makes the request repeatable: whichever try arrives, there is one cluster.
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        answer = await self._http.request("POST", CLUSTERS, json=body, headers=headers)
        return str(answer["name"])

    def new_cluster(
        self,
        cluster_options: Mapping[str, Any] | None = None,
        shutdown_on_close: bool = True,
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> GatewayCluster:
        """Ask for a cluster, wait until it runs, and return it.

        Parameters
        ----------
        cluster_options : Options or mapping, optional
            What ``cluster_options`` returned.
        shutdown_on_close : bool, optional
            Whether the cluster ends when the object is closed, or this Python ends.
        name : str, optional
            What you call it, such as ``"training"``: ``connect`` finds it by that, as does whatever takes a cluster's
            name. Two of your clusters cannot have one name at a time; one that is stopped gives it free.
        labels : mapping of str to str, optional
            What you note of it, such as ``{"project": "ice"}``.
        **kwargs
            Values for single options, such as ``worker_cores=2``.

        Raises
        ------
        GatewayClusterError
            When it cannot start; with the reason and the end of the log. Nothing is left running then.
        """
        from tidegate.client.cluster import GatewayCluster

        naming = Naming(name, labels)
        return GatewayCluster._of(self._sibling(), None, shutdown_on_close, cluster_options, kwargs, naming)

    def connect(self, cluster_name: str, shutdown_on_close: bool = False) -> GatewayCluster:
        """Return a cluster that exists, when it runs.

        Parameters
        ----------
        cluster_name : str
            Its name: the one that you gave it, or its global one.
        shutdown_on_close : bool, optional
            Whether the cluster ends when the object is closed, or this Python ends.
        """
        from tidegate.client.cluster import GatewayCluster

        return GatewayCluster._of(self._sibling(), cluster_name, shutdown_on_close)

    def scale_cluster(self, cluster_name: str, n: int) -> Any:
        """Set the number of workers of a cluster; the load no longer decides it."""
        return self.sync(self._scale_cluster, cluster_name, n)

    async def _scale_cluster(self, name: str, n: int) -> ClusterReport:
        return await self._patch(name, {"workers": checked_count(n)})

    def adapt_cluster(
        self, cluster_name: str, minimum: int | None = None, maximum: int | None = None, active: bool = True
    ) -> Any:
        """Let the load decide the number of workers of a cluster, between ``minimum`` and ``maximum``.

        Parameters
        ----------
        cluster_name : str
            Its name.
        minimum, maximum : int, optional
            By default 0, and what the gateway allows.
        active : bool, optional
            False leaves the cluster at its present size.
        """
        return self.sync(self._adapt_cluster, cluster_name, minimum, maximum, active)

    async def _adapt_cluster(
        self, name: str, minimum: int | None = None, maximum: int | None = None, active: bool = True
    ) -> ClusterReport:
        bounds = checked_bounds(minimum, maximum)
        return await self._patch(name, {"adaptive": bounds if active else None})

    async def _patch(self, name: str, body: Mapping[str, Any]) -> ClusterReport:
        answer = await self._request_of(name, "PATCH", json=body)
        if answer.get("note"):
            warn(answer["note"])
        return self._to_report(answer, await self._scheduler_netloc())

    def limit_cluster(self, cluster_name: str, n: int) -> Any:
        """For administrators: set how many workers a cluster may have at the most. Those that run go on."""
        return self.sync(self._limit_cluster, cluster_name, n)

    async def _limit_cluster(self, name: str, n: int) -> ClusterReport:
        return await self._patch(name, {"max_workers": plain(n)})

    def keep_cluster(self, cluster_name: str, duration: Any = None) -> Any:
        """Keep a cluster although nothing runs on it: for ``duration`` (as ``"8 hours"``), or its usual time anew."""
        return self.sync(keep_cluster, self, cluster_name, duration)

    def stop_cluster(self, cluster_name: str) -> Any:
        """Stop a cluster. One that has ended already is no error."""
        return self.sync(self._stop_cluster, cluster_name)

    async def _stop_cluster(self, name: str) -> None:
        await self._request_of(name, "DELETE")
