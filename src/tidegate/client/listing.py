"""Which clusters there are: all pages of the gateway's list, as reports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tidegate.client.errors import GatewayValueError
from tidegate.client.report import ClusterReport, ClusterStatus

if TYPE_CHECKING:
    from tidegate.client.gateway import Gateway

ACTIVE = (ClusterStatus.PENDING, ClusterStatus.RUNNING)
"""What is listed when nothing is asked for, as in dask-gateway."""

WHOSE = ("mine", "shared", "all")

PAGE = 500
"""Clusters asked for at once: the most that the gateway puts on a page."""


async def list_clusters(
    gateway: Gateway, status: Any = None, of: str = "mine", owner: str | None = None
) -> list[ClusterReport]:
    """Return what ``Gateway.list_clusters`` does."""
    statuses = _statuses(status)
    if of not in WHOSE:
        raise GatewayValueError(f"cannot list the clusters of {of!r}: choose among {', '.join(WHOSE)}")
    query = {"state": ",".join(sorted(_states(statuses))), "limit": str(PAGE)}
    if owner is not None:
        query |= {"of": "all", "owner": owner}
    elif of != "mine":
        query["of"] = of
    reports: list[ClusterReport] = []
    while True:
        page = await gateway._http.request("GET", "/api/v2/clusters", params=query)
        netloc = await gateway._scheduler_netloc()
        reports += [gateway._to_report(body, netloc) for body in page["clusters"]]
        if not page.get("next_cursor"):
            return [report for report in reports if report.status in statuses]
        query["cursor"] = page["next_cursor"]


def _statuses(status: str | ClusterStatus | Iterable[str | ClusterStatus] | None) -> set[ClusterStatus]:
    wanted = [status] if isinstance(status, str | ClusterStatus) else status
    return {ClusterStatus.from_name(one) for one in (ACTIVE if wanted is None else wanted)}


def _states(statuses: set[ClusterStatus]) -> set[str]:
    """Return the states of the gateway in which clusters of these statuses may be."""
    states = {state for one in statuses for state in one.states}
    if ClusterStatus.STOPPING in statuses:
        states.update(("requested", "starting", "running"))  # wanted away, but not touched yet
    return states
