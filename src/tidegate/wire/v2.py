"""Our own protocol, version 2, as JSON.

Conventions
-----------
* Times are seconds since the epoch, as numbers, as everywhere in Tidegate; absent ones are null.
* Every key is always there; readers ignore keys that they do not know, so that keys can be added.
* An error is ``{"error": {"code", "message", "field", "incident"}}``: the code is for programs, the message a sentence
  for people, ``field`` names what to change, ``incident`` what to tell the administrator.
* Secrets are in the replies that one asks for to get them (``Credentials``; ``MintedToken`` in ``v2_tokens.py``), never
  in one that lists.

What follows a rule of the model (how many workers, which bounds) is taken as it comes and judged there, so that a rule
and its sentence stand in one place; the schema still names the type.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tidegate.model.cluster import Cluster, ClusterState, Reason, WorkerGroup, WorkerState
from tidegate.model.event import RecordedEvent
from tidegate.model.line import shortage
from tidegate.model.permissions import Action, Rights
from tidegate.model.principal import Principal
from tidegate.wire.names import SNI_PREFIX
from tidegate.wire.request import Request
from tidegate.wire.v2_ends import EndingBody
from tidegate.wire.v2_limits import WaitingBody
from tidegate.wire.v2_naming import Alias, Labels
from tidegate.wire.v2_shares import LinkBody, ShareBody

Count = Annotated[Any, WithJsonSchema({"type": "integer", "minimum": 0})]
"""A number of workers, judged by ``model.policy``."""

OptionalCount = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "null"}]})]

Word = Annotated[str, Field(max_length=50)]
Text = Annotated[str, Field(max_length=4096)]


# -- what is asked -----------------------------------------------------------------------------------------------------


class Hints(Request):
    """What a client says of itself, so that the cluster can fit it."""

    python: Text = Field("", description="Path of the interpreter that the client runs in.")
    versions: dict[Word, Word] = Field(
        default_factory=dict, max_length=50, description="Its versions of python, distributed, dask, ..."
    )

    def to_model(self) -> dict[str, str]:
        """Return the hints as ``Clusters.create`` takes them; versions bear ``version.`` before their name."""
        hints = {"python": self.python} if self.python else {}
        return hints | {f"version.{name}": version for name, version in self.versions.items()}


class NewCluster(Request):
    """A cluster to create."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"options": {"worker_cores": 2}, "hints": {"python": "/usr/bin/python3"}}]},
    )

    options: dict[str, Any] | None = Field(
        None, repr=False, description="Values for some of the options that GET /options lists."
    )
    hints: Hints = Field(default_factory=Hints)
    alias: Alias = None
    labels: Labels = None
    shutdown_on_close: bool = Field(
        False, description="Whether it is to end when all its clients are gone and nothing runs on it."
    )


class NewBounds(Request):
    """Bounds between which the load decides the size; null is no bound."""

    minimum: OptionalCount = None
    maximum: OptionalCount = None


class ClusterPatch(Request):
    """A new size: either ``workers`` (by hand) or ``adaptive`` (by the load; null turns that off); or, from an
    administrator, ``max_workers``, the most that the cluster may have.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"workers": 4}, {"adaptive": {"minimum": 2, "maximum": 10}}]},
    )

    workers: Count = None
    adaptive: NewBounds | None = None
    max_workers: Count = None
    group: Text = Field("default", description="The worker group that is meant.")


# -- what is answered --------------------------------------------------------------------------------------------------


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str = Field(examples=["not-found"])
    message: str = Field(
        examples=["cannot find this cluster: there is none of this name, or it is neither yours nor shared with you"]
    )
    field: str | None = None
    incident: str | None = None


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: ErrorDetail


class ReasonBody(BaseModel):
    """Why something ended or is stuck."""

    code: str = Field(examples=["out-of-memory"])
    message: str
    log_tail: str = Field("", description="The end of the log that shows it; empty in lists.")

    @classmethod
    def from_model(cls, reason: Reason, *, brief: bool = False) -> ReasonBody:
        """Return the JSON form; ``brief`` leaves the log out. The operator's detail is never told."""
        return cls(code=reason.code, message=reason.message, log_tail="" if brief else reason.log_tail)


class BoundsBody(BaseModel):
    """The bounds between which the load decides the size of a group."""

    minimum: int
    maximum: int


class GroupBody(BaseModel):
    """A worker group: how many are wanted, how many there are, and what keeps them from being there."""

    name: str
    wanted: int
    adaptive: BoundsBody | None
    running: int
    starting: int
    failures: int = Field(description="How often workers ended that nobody asked to end, since it was last whole.")
    trouble: ReasonBody | None

    @classmethod
    def from_model(cls, cluster: Cluster, group: WorkerGroup, *, brief: bool = False) -> GroupBody:
        """Return the JSON form of ``group``."""
        active = cluster.active_workers(group.name)
        running = sum(worker.state is WorkerState.RUNNING for worker in active)
        bounds = group.adaptive
        return cls(
            name=group.name,
            wanted=group.wanted,
            adaptive=BoundsBody(minimum=bounds.minimum, maximum=bounds.maximum) if bounds else None,
            running=running,
            starting=len(active) - running,
            failures=group.failures,
            trouble=ReasonBody.from_model(group.trouble, brief=brief) if group.trouble else None,
        )


class WorkersBody(BaseModel):
    """Workers over all groups."""

    wanted: int
    running: int
    starting: int


class SchedulerBody(BaseModel):
    """How to reach the scheduler: TLS to the gateway's proxy address, with this name as SNI."""

    sni: str = Field(examples=["daskgateway-3f9c0a51be27d846"])


class ClusterBody(BaseModel):
    """A cluster."""

    name: str = Field(examples=["3f9c0a51be27d846"])
    alias: str | None = Field(description="What its owner calls it.", examples=["training"])
    labels: dict[str, str] = Field(description="What its owner notes of it.")
    owner: str
    mine: bool = Field(description="Whether it is the caller's.")
    state: ClusterState
    target: str = Field(description="What it is wanted to become: running or stopped.")
    created_at: float
    started_at: float | None
    stopped_at: float | None
    options: dict[str, Any]
    groups: list[GroupBody]
    workers: WorkersBody
    max_workers: int
    max_workers_reason: str
    reason: ReasonBody | None = Field(description="Why it ends or ended, when nobody asked for it.")
    versions: dict[str, str] = Field(description="The scheduler's versions of python, distributed, dask, ...")
    scheduler: SchedulerBody
    dashboard_link: str | None = Field(description="Path below the gateway's address, while there is a dashboard.")
    notes: list[str] = Field(description="What its owner should know now, in sentences.")
    rights: list[Action] = Field(description="What the caller may do with it.")
    shares: list[ShareBody] = Field(description="Who else may do what, for who may share it; empty for others.")
    links: list[LinkBody] = Field(description="Links to its dashboard, perhaps expired, for who may share it.")
    waiting: WaitingBody | None = Field(description="Its place in the line, while limits leave it no room.")
    ending: EndingBody | None = Field(description="When it ends by itself, if nothing changes; null if unknown.")
    note: str | None = Field(None, description="In the answer to a change: how it differs from what was asked.")

    @classmethod
    def from_model(
        cls, cluster: Cluster, rights: Rights, *, mine: bool, brief: bool = False, note: str | None = None
    ) -> ClusterBody:
        """Return the JSON form of ``cluster`` for somebody with these rights, who owns it if ``mine``; ``brief``, as in
        lists, leaves the logs out.
        """
        open_book = Action.SHARE in rights
        groups = [GroupBody.from_model(cluster, group, brief=brief) for group in cluster.groups]
        facts = cluster.scheduler if cluster.reported else None
        open_dashboard = cluster.state is ClusterState.RUNNING and facts and facts.dashboard_port
        return cls(
            name=cluster.name,
            alias=cluster.alias or None,
            labels=dict(cluster.labels),
            owner=cluster.owner,
            mine=mine,
            state=cluster.state,
            target=cluster.target.value,
            created_at=cluster.created_at,
            started_at=cluster.started_at,
            stopped_at=cluster.stopped_at,
            options=dict(cluster.options),
            groups=groups,
            workers=WorkersBody(
                wanted=sum(group.wanted for group in groups),
                running=sum(group.running for group in groups),
                starting=sum(group.starting for group in groups),
            ),
            max_workers=cluster.spec.max_workers,
            max_workers_reason=cluster.spec.max_workers_reason,
            reason=ReasonBody.from_model(cluster.reason, brief=brief) if cluster.reason else None,
            versions=dict(facts.versions) if facts else {},
            scheduler=SchedulerBody(sni=SNI_PREFIX + cluster.name),
            dashboard_link=f"/clusters/{cluster.name}/status" if open_dashboard else None,
            notes=notes_of(cluster),
            rights=[action for action in Action if action in rights],
            shares=[ShareBody.from_model(share) for share in cluster.shares] if open_book else [],
            links=[LinkBody.from_model(link) for link in cluster.links] if open_book else [],
            waiting=WaitingBody.from_model(cluster),
            ending=EndingBody.from_model(cluster),
            note=note,
        )


def notes_of(cluster: Cluster) -> list[str]:
    """Return what the owner should know now: which workers do not come to be, and why."""
    if cluster.state.ended:
        return []
    several = len(cluster.groups) > 1
    troubles = [
        f"Workers{f' of group {group.name}' if several else ''} do not stay: {group.trouble.message}"
        for group in cluster.groups
        if group.trouble is not None and group.failures > 0
    ]
    return [*troubles, *shortage(cluster)]


class ClusterList(BaseModel):
    """A page of clusters, newest first."""

    clusters: list[ClusterBody]
    next_cursor: str | None = Field(description="Give it as ?cursor= for the next page; null on the last.")


class Credentials(BaseModel):
    """What a client connects to its scheduler with. ``certificate`` also holds the authority to trust."""

    certificate: str
    key: str = Field(repr=False)
    sni: str


class LogBody(BaseModel):
    """The log of one process: the scheduler's or a worker's."""

    process: str
    text: str


class Logs(BaseModel):
    """The logs of a cluster, the scheduler's first."""

    logs: list[LogBody]


class EventBody(BaseModel):
    """Something that happened to a cluster."""

    id: int
    at: float
    cluster: str
    kind: str = Field(examples=["cluster-running"])
    message: str
    data: dict[str, Any]

    @classmethod
    def from_model(cls, recorded: RecordedEvent) -> EventBody:
        """Return the JSON form of ``recorded``."""
        event = recorded.event
        return cls(
            id=recorded.id,
            at=recorded.at,
            cluster=recorded.cluster,
            kind=event.kind,
            message=event.message,
            data=dict(event.data),
        )


class Health(BaseModel):
    """Whether the gateway can serve."""

    status: str = Field(examples=["pass"])


class Version(BaseModel):
    """What this gateway is, and where its schedulers are reached when that is not its own address."""

    version: str
    proxy_address: str | None


class WhoAmI(BaseModel):
    """Who the gateway takes the caller for."""

    name: str
    groups: list[str]
    admin: bool
    method: str = Field(description="How the caller proved it: token, session, ...")

    @classmethod
    def from_model(cls, principal: Principal) -> WhoAmI:
        """Return the JSON form of ``principal``."""
        return cls(name=principal.name, groups=sorted(principal.groups), admin=principal.admin, method=principal.method)
