"""The nouns: a cluster, its worker groups, its workers, and why one ended.

A ``Cluster`` is an immutable value: every change makes a new one (``dataclasses.replace``), and the store accepts it
only when the record is still at the revision that it was made from. Times are seconds since the epoch, as floats.
Memory is in bytes, cores are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tidegate.model.activity import NO_ACTIVITY, Activity
from tidegate.model.prices import FREE, Prices
from tidegate.model.share import ClientLeaf, Share, ShareLink

DEFAULT_GROUP = "default"


class ClusterState(str, Enum):
    """Where a cluster is in its life. The moves between them are in ``model/lifecycle.py``."""

    REQUESTED = "requested"
    """Admitted and recorded; nothing was started yet, or we do not know that it was."""
    STARTING = "starting"
    """The scheduler was launched and has not reported yet."""
    RUNNING = "running"
    """The scheduler reported, and the way to it is open in every proxy."""
    STOPPING = "stopping"
    """It is being taken away, because someone asked or because it failed."""
    STOPPED = "stopped"
    """It ended as wanted and nothing of it runs."""
    FAILED = "failed"
    """It ended for a reason nobody wanted, and nothing of it runs."""

    @property
    def ended(self) -> bool:
        """Whether this state is never left."""
        return self in (ClusterState.STOPPED, ClusterState.FAILED)


class Target(str, Enum):
    """What the cluster is wanted to become."""

    RUNNING = "running"
    STOPPED = "stopped"


class WorkerState(str, Enum):
    """Where a worker is in its life."""

    REQUESTED = "requested"
    """Recorded under its name; not handed to the backend yet, or we do not know that it was."""
    STARTING = "starting"
    """Handed to the backend; the scheduler has not seen it yet."""
    RUNNING = "running"
    """The scheduler has it."""
    STOPPING = "stopping"
    """Retired by the scheduler or no longer wanted; the backend takes it away."""
    ENDED = "ended"
    """Nothing of it runs. Kept for a while, with its reason."""

    @property
    def active(self) -> bool:
        """Whether it counts towards the size of its group."""
        return self in (WorkerState.REQUESTED, WorkerState.STARTING, WorkerState.RUNNING)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something ended or is stuck: a code for programs, a sentence for the user, the log that shows it.

    Parameters
    ----------
    code : str
        One of the codes listed in ``model/reasons.py``.
    message : str
        A sentence for the user: what happened, which value against which limit, what to do.
    detail : str
        For the operator.
    log_tail : str
        The last lines of the log of the process that the reason is about.
    """

    code: str
    message: str
    detail: str = ""
    log_tail: str = ""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """What to start, resolved from the options and the administrator's policy; never changed afterwards.

    Parameters
    ----------
    worker_cores : float
        Cores of one worker.
    worker_memory : int
        Memory of one worker in bytes.
    worker_threads : int
        Threads in which one worker runs tasks; 0 for its cores, rounded up.
    worker_gpus : int
        GPUs of one worker.
    scheduler_cores : float
        Cores that are set aside for the scheduler; 0 for no limit of its own, which counts for nothing.
    scheduler_memory : int
        The same in bytes of memory.
    max_workers : int
        The most workers that the cluster may have, over all groups.
    max_workers_reason : str
        Where that number comes from, to be named when a request is clamped.
    environment : str
        Which software runs the work: the backend says what it means (local: the path of a Python).
    image : str
        The image, where the backend knows images; else empty.
    start_timeout : float
        Seconds from launch until the scheduler must have reported.
    idle_timeout : float or None
        Seconds for which nothing runs after which the cluster ends; None for never.
    no_client_timeout : float or None
        Seconds for which none of its clients is left, and nothing runs, after which it ends; None for never.
    lifetime : float or None
        Seconds for which it may run at the most; None for no limit.
    end_warning : float
        How many seconds before such an end it is announced.
    hub_server : str
        The notebook server of a JupyterHub with which it ends (see ``Principal.server``); empty where it ends with
        none.
    extra : mapping
        What only one backend understands.
    """

    worker_cores: float = 1
    worker_memory: int = 2 * 1024**3
    worker_threads: int = 0
    worker_gpus: int = 0
    scheduler_cores: float = 0
    scheduler_memory: int = 0
    max_workers: int = 1000
    max_workers_reason: str = ""
    environment: str = ""
    image: str = ""
    start_timeout: float = 120.0
    idle_timeout: float | None = None
    no_client_timeout: float | None = None
    lifetime: float | None = None
    end_warning: float = 300.0
    hub_server: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Adaptive:
    """The bounds between which the load decides the size of a group."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class WorkerGroup:
    """Workers of one kind. A cluster has at least the group ``default``.

    Parameters
    ----------
    name : str
        Its name within the cluster.
    wanted : int
        How many workers it should have: set by hand, or by the load within ``adaptive``.
    asked : int or None
        How many the load asks for, while it decides, or were asked for when the cluster was made: more than ``wanted``
        where limits leave no room for them, or others need that room more.
    adaptive : Adaptive or None
        The bounds, while the load decides.
    launched : int
        How many workers were ever named in this group: the next name counts on from here.
    failures : int
        How often workers ended that nobody asked to end, since the group was last whole for a while.
    retry_at : float
        Until when no replacement is started, after failures.
    trouble : Reason or None
        Why the latest worker ended that nobody asked to end; cleared when as many run as are wanted.
    """

    name: str = DEFAULT_GROUP
    wanted: int = 0
    adaptive: Adaptive | None = None
    launched: int = 0
    failures: int = 0
    retry_at: float = 0.0
    trouble: Reason | None = None
    asked: int | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process (with its nanny), under a name that is never used twice in its cluster.

    ``started_at`` is when the scheduler first had it, None if it never did.
    """

    name: str
    group: str = DEFAULT_GROUP
    state: WorkerState = WorkerState.REQUESTED
    changed_at: float = 0.0
    reason: Reason | None = None
    started_at: float | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A place in the line of those for whom limits leave no room (see ``model/line.py``).

    Parameters
    ----------
    since : float
        When it began to wait.
    limit : str
        Which limit keeps it waiting, as ``limits.Limit.place`` writes it; empty where nobody waits behind it: the limit
        was lowered, and it waits in vain; or its load has its fair share already.
    reason : str
        The same, in words.
    place : int
        How many are before it, and itself; 0 where that is not known. Filled in where a record is shown: the store does
        not keep it, or each that leaves the line would change the records of all behind.
    """

    since: float
    limit: str
    reason: str
    place: int = 0


@dataclass(frozen=True, slots=True)
class SchedulerFacts:
    """What the agent in the scheduler reported. Nothing here is trusted further than its own cluster.

    ``attempt`` says which launch reported; ``port`` and ``dashboard_port`` are where it listens (the *host* comes from
    the backend); ``versions`` maps ``python``, ``distributed``, ``dask``, ... to version strings.
    """

    attempt: int
    port: int
    dashboard_port: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One cluster, as recorded.

    Parameters
    ----------
    name : str
        Global, random, lower-case: it stands in URLs, in the SNI name and in the names of jobs and pods.
    owner : str
        Name of the principal it belongs to.
    backend : str
        Which backend runs it.
    spec : ClusterSpec
        What runs.
    options : mapping
        The user's options with the defaults filled in, as v1 and v2 show them.
    state, target
        Where it is, and where it is wanted.
    created_at, started_at, stopped_at : float
        Times; ``started_at`` is when it became RUNNING.
    changed_at : float
        When the record last changed in a way that effects follow from. *An observation that began before this is
        worth nothing* (see ``lifecycle.plan``).
    attempt : int
        Number of the current launch; a report that bears another number is told to exit.
    reason : Reason or None
        Why it ends or ended, when it did not end because its owner asked.
    host : str or None
        Where the backend saw the scheduler.
    scheduler : SchedulerFacts or None
        What the scheduler's agent reported.
    groups : tuple of WorkerGroup
    workers : tuple of Worker
        The live ones, and those that ended recently.
    shares : tuple of Share
        What its owner gives others, one for each grantee.
    links : tuple of ShareLink
        Links to its dashboard that are not withdrawn.
    leaves : tuple of ClientLeaf
        The certificates of those who connect by a share, also the withdrawn ones.
    owner_groups : tuple of str
        The groups that its owner was in when they made it, sorted: for each of them it counts.
    queued : bool
        Whether it was never let in: it holds nothing and starts nothing until there is room.
    waiting : Waiting or None
        Its place in the line, while it waits to be let in, or for workers that were asked for.
    alias : str
        What its owner calls it, if anything (see ``model/naming.py``).
    labels : mapping of str to str
        What its owner notes of it; nothing follows from it.
    prices : Prices
        What it costs to run, as it was when the cluster was made.
    activity : Activity
        What its ends by themselves hang on.
    share_epoch : int
        Counts what was withdrawn: dashboard tickets of others than the owner that were signed in an earlier epoch are
        worth nothing.
    revision : int
        Counts the changes of this record.
    """

    name: str
    owner: str
    backend: str
    spec: ClusterSpec
    created_at: float
    options: Mapping[str, Any] = field(default_factory=dict)
    state: ClusterState = ClusterState.REQUESTED
    target: Target = Target.RUNNING
    started_at: float | None = None
    stopped_at: float | None = None
    changed_at: float = 0.0
    attempt: int = 1
    reason: Reason | None = None
    host: str | None = None
    scheduler: SchedulerFacts | None = None
    groups: tuple[WorkerGroup, ...] = (WorkerGroup(),)
    workers: tuple[Worker, ...] = ()
    shares: tuple[Share, ...] = ()
    links: tuple[ShareLink, ...] = ()
    leaves: tuple[ClientLeaf, ...] = ()
    share_epoch: int = 0
    owner_groups: tuple[str, ...] = ()
    queued: bool = False
    waiting: Waiting | None = None
    alias: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    prices: Prices = FREE
    activity: Activity = NO_ACTIVITY
    revision: int = 0

    def group(self, name: str = DEFAULT_GROUP) -> WorkerGroup:
        """Return the group of that name; ``KeyError`` when there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def with_group(self, group: WorkerGroup) -> Cluster:
        """Return this cluster with the group of the same name replaced."""
        return replace(self, groups=tuple(group if g.name == group.name else g for g in self.groups))

    def with_workers(self, *changed: Worker) -> Cluster:
        """Return this cluster with these workers replaced by name, or added."""
        by_name = {w.name: w for w in self.workers} | {w.name: w for w in changed}
        return replace(self, workers=tuple(by_name.values()))

    def active_workers(self, group: str | None = None) -> tuple[Worker, ...]:
        """Return the workers that count towards the size (of one group, or of all)."""
        return tuple(w for w in self.workers if w.state.active and group in (None, w.group))

    @property
    def reported(self) -> bool:
        """Whether the scheduler of the *current* attempt has reported."""
        return self.scheduler is not None and self.scheduler.attempt == self.attempt
