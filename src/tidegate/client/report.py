"""A cluster as the gateway describes it, as a value."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any

from tidegate.client.errors import GatewayClusterError, GatewayValueError
from tidegate.client.keeping import ClusterEnding
from tidegate.client.security import GatewaySecurity
from tidegate.client.shares import ClusterShare


class ClusterStatus(IntEnum):
    """Where a cluster is in its life, in the words of dask-gateway."""

    PENDING = 1
    RUNNING = 2
    STOPPING = 3
    STOPPED = 4
    FAILED = 5

    @classmethod
    def from_name(cls, name: str | ClusterStatus) -> ClusterStatus:
        """Return the status of that name, in any case."""
        if isinstance(name, ClusterStatus):
            return name
        try:
            return cls[str(name).upper()]
        except KeyError:
            choices = ", ".join(status.name.lower() for status in cls)
            raise GatewayValueError(f"cannot find a status {name!r}: choose among {choices}") from None

    @property
    def states(self) -> tuple[str, ...]:
        """The states of the gateway that it stands for."""
        return ("requested", "starting") if self is ClusterStatus.PENDING else (self.name.lower(),)

    @property
    def ended(self) -> bool:
        """Whether it is never left."""
        return self in (ClusterStatus.STOPPED, ClusterStatus.FAILED)

    @property
    def usable(self) -> bool:
        """Whether the cluster can be worked with, now or soon."""
        return self in (ClusterStatus.PENDING, ClusterStatus.RUNNING)


@dataclass(frozen=True, repr=False)
class ClusterReport:
    """What the gateway says of one cluster.

    Parameters
    ----------
    name : str
    status : ClusterStatus
    options : mapping
        The options that it was made with.
    scheduler_address : str or None
        ``gateway://host:port/name`` while it runs: what ``Client`` connects to where ``tidegate`` is installed.
    dashboard_link : str or None
        Link for a browser, while there is a dashboard.
    start_time : datetime
        When it was asked for.
    stop_time : datetime or None
        When it had ended.
    workers : int
        How many workers run.
    starting : int
        How many are on their way.
    wanted : int
        How many should run.
    adaptive : tuple of int, or None
        Minimum and maximum, while the load decides the size.
    max_workers : int
        The most that it may have; ``max_workers_reason`` says why.
    versions : mapping
        The scheduler's versions of python, distributed and so on.
    reason : mapping or None
        ``code``, ``message`` and ``log_tail``: why it ended or ends, when nobody asked for it.
    trouble : mapping or None
        The same for the latest worker that ended.
    failures : int
        How often workers ended that nobody asked to end, since they were last as many as wanted.
    notes : tuple of str
        What its owner should know now.
    ending : ClusterEnding or None
        When it ends by itself, if nothing changes and that is in sight.
    owner : str
        Whose it is.
    alias : str
        What its owner calls it, if anything.
    labels : mapping of str to str
        What its owner notes of it.
    mine : bool
        Whether it is yours.
    rights : frozenset of str, or None
        What you may do with it: ``see``, ``connect``, ``scale``, ``stop``, ``logs``, ``dashboard``, ``share``,
        ``limit``. None where the gateway does not tell.
    shares : tuple of ClusterShare
        What others may do with it, if you may share it.
    security : GatewaySecurity or None
        Certificate and key to connect with, while it lives; not in lists.
    read_at : float
        When it was read, by a clock that nobody sets.
    """

    name: str
    status: ClusterStatus
    options: Mapping[str, Any]
    scheduler_address: str | None
    dashboard_link: str | None
    start_time: datetime
    stop_time: datetime | None = None
    workers: int = 0
    starting: int = 0
    wanted: int = 0
    adaptive: tuple[int, int] | None = None
    max_workers: int | None = None
    max_workers_reason: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: Mapping[str, str] | None = None
    trouble: Mapping[str, str] | None = None
    failures: int = 0
    notes: tuple[str, ...] = ()
    ending: ClusterEnding | None = None
    owner: str = ""
    alias: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    mine: bool = True
    rights: frozenset[str] | None = None
    shares: tuple[ClusterShare, ...] = ()
    security: GatewaySecurity | None = field(default=None, compare=False)
    read_at: float = field(default_factory=time.monotonic, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any], *, public_address: str, scheduler_netloc: str) -> ClusterReport:
        """Read what the gateway answered; keys that this version does not know are ignored."""
        name = body["name"]
        status = _status(body)
        groups = body.get("groups") or [{}]
        bounds = groups[0].get("adaptive")
        link = body.get("dashboard_link")
        stopped, rights = body.get("stopped_at"), body.get("rights")
        return cls(
            name=name,
            status=status,
            options=body["options"],
            scheduler_address=scheduler_address(scheduler_netloc, name) if status is ClusterStatus.RUNNING else None,
            dashboard_link=f"{public_address}{link}" if link else None,
            start_time=datetime.fromtimestamp(body["created_at"]),
            stop_time=None if stopped is None else datetime.fromtimestamp(stopped),
            workers=body["workers"]["running"],
            starting=body["workers"]["starting"],
            wanted=body["workers"]["wanted"],
            adaptive=(bounds["minimum"], bounds["maximum"]) if bounds else None,
            max_workers=body.get("max_workers"),
            max_workers_reason=body.get("max_workers_reason") or "",
            versions=body.get("versions") or {},
            reason=body.get("reason"),
            trouble=groups[0].get("trouble"),
            failures=groups[0].get("failures") or 0,
            notes=tuple(body.get("notes") or ()),
            ending=ClusterEnding.from_json(body.get("ending")),
            owner=body.get("owner") or "",
            alias=body.get("alias") or "",
            labels=body.get("labels") or {},
            mine=body.get("mine", True),
            rights=None if rights is None else frozenset(rights),
            shares=tuple(ClusterShare.from_json(share) for share in body.get("shares") or ()),
        )

    def __repr__(self) -> str:
        owner = "" if self.mine else f"of {self.owner}, "
        name = f"{self.alias}, {self.name}" if self.alias else self.name
        facts = f"status={self.status.name.lower()}, workers={self.workers}"
        return f"ClusterReport<{name}, {owner}{facts}{self.ends_in}>"

    @property
    def ends_in(self) -> str:
        """When it ends by itself, as the end of a line; empty if that is not in sight."""
        return f", ends in {self.ending.left}" if self.ending is not None and self.status.usable else ""

    def may(self, action: str) -> bool:
        """Whether you may do ``action`` to it, as far as the gateway tells."""
        return self.rights is None or action in self.rights

    def obstacle(self, doing: str) -> GatewayClusterError | None:
        """Return the error that says why ``doing`` (such as "connect to") does not work; None if nothing is known."""
        if not self.status.usable:
            return self.end_error(doing)
        if self.may("connect"):
            return None
        why = f"{self.owner} no longer shares it with you"
        if self.mine:
            why = "with a read-only token one may see and read, but not connect. Use one of scope full"
        elif self.rights:
            why = f"{self.owner} shares it with you to view, not to use"
        return GatewayClusterError(f"cannot {doing} cluster {self.name}: {why}", code="not-allowed")

    def end_error(self, doing: str) -> GatewayClusterError:
        """Return the error that says why ``doing`` (such as "connect to") does not work with a cluster that ended."""
        reason = self.reason or {}
        why = reason.get("message") or {
            ClusterStatus.STOPPING: "it is being stopped",
            ClusterStatus.STOPPED: "it was stopped",
        }.get(self.status, f"it is {self.status.name.lower()}")
        return GatewayClusterError(
            f"cannot {doing} cluster {self.name}: {why}",
            code=reason.get("code", ""),
            log_tail=reason.get("log_tail", ""),
        )

    def worker_error(self, doing: str) -> GatewayClusterError:
        """Return the error that says why its workers do not come to be."""
        trouble = self.trouble or {}
        return GatewayClusterError(
            f"cannot {doing} cluster {self.name}: its workers keep ending. {trouble.get('message', '')}",
            code=trouble.get("code", ""),
            log_tail=trouble.get("log_tail", ""),
        )


def scheduler_address(netloc: str, name: str) -> str:
    """Return what ``Client`` connects to where ``tidegate`` is installed."""
    return f"gateway://{netloc}/{name}"


def _status(body: Mapping[str, Any]) -> ClusterStatus:
    state = str(body["state"])
    status = next((one for one in ClusterStatus if state in one.states), ClusterStatus.PENDING)
    # What is wanted away is as good as going, from the moment that this is recorded.
    return ClusterStatus.STOPPING if body.get("target") == "stopped" and not status.ended else status
