"""Clusters and looks, as the tests of the rules need them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tidegate.model import reasons
from tidegate.model.cluster import (
    Adaptive,
    Cluster,
    ClusterSpec,
    ClusterState,
    SchedulerFacts,
    Target,
    Worker,
    WorkerGroup,
    WorkerState,
)
from tidegate.model.observation import ProcessSeen, ProcessState, Seen

NOW = 1_700_000_000.0
HOST = "10.0.0.7"
FACTS = SchedulerFacts(attempt=1, port=8786, dashboard_port=8787)

RUNS = ProcessSeen(ProcessState.RUNNING, host=HOST)
QUEUED = ProcessSeen(ProcessState.QUEUED, why="waiting for resources")
EXITED = ProcessSeen(ProcessState.EXITED, why="exit code 1", code="exited", log_tail="Traceback")


def make_cluster(state: ClusterState = ClusterState.REQUESTED, **values: Any) -> Cluster:
    """Return a cluster that has been in ``state`` since ten seconds before ``NOW``."""
    spec = ClusterSpec(max_workers=10, max_workers_reason="a test said so", start_timeout=60.0)
    begun = {"created_at": NOW - 10, "changed_at": NOW - 10}
    return Cluster("c1", "alice", "local", **{"spec": spec, "state": state} | begun | values)


def make_running(*workers: Worker, wanted: int = 0, **group: Any) -> Cluster:
    """Return a running cluster with these workers."""
    return make_cluster(
        ClusterState.RUNNING,
        host=HOST,
        scheduler=FACTS,
        started_at=NOW - 9,
        groups=(WorkerGroup(wanted=wanted, launched=len(workers), **group),),
        workers=workers,
    )


def make_worker(number: int, state: WorkerState = WorkerState.RUNNING, **values: Any) -> Worker:
    """Return the worker ``default-<number>``, unchanged since five seconds before ``NOW``."""
    return Worker(f"default-{number}", state=state, **{"changed_at": NOW - 5} | values)


def look(scheduler: ProcessSeen | None = RUNS, at: float = NOW, **workers: ProcessSeen) -> Seen:
    """Return a look; a worker is named ``default_1`` here."""
    named = {name.replace("_", "-"): process for name, process in workers.items()}
    alive = [p for p in (scheduler, *named.values()) if p is not None and p.state is not ProcessState.EXITED]
    return Seen(at, scheduler, named, remains=bool(alive))


# -- anything at all -------------------------------------------------------------------------------------------------

moments = st.floats(NOW - 1000, NOW + 10)
processes = st.builds(
    ProcessSeen,
    state=st.sampled_from(ProcessState),
    why=st.text(max_size=5),
    code=st.sampled_from(["", "killed", "unheard-of", *reasons.WORKER_CODES]),
    host=st.sampled_from(["", HOST]),
    expected=st.booleans(),
)
worker_names = st.sampled_from([f"default-{n}" for n in range(1, 7)])
looks = st.none() | st.builds(
    Seen,
    at=moments,
    scheduler=st.none() | processes,
    workers=st.dictionaries(worker_names, processes, max_size=6),
    remains=st.booleans(),
)
groups = st.builds(
    WorkerGroup,
    name=st.just("default"),
    wanted=st.integers(0, 10),
    adaptive=st.none() | st.builds(Adaptive, st.integers(0, 3), st.integers(3, 12)),
    launched=st.just(6),
    failures=st.integers(0, 2000),
    retry_at=st.just(0.0) | moments,
    trouble=st.none() | st.just(reasons.reason(reasons.LOST)),
)
crews = st.lists(
    st.builds(Worker, name=worker_names, state=st.sampled_from(WorkerState), changed_at=moments),
    unique_by=lambda w: w.name,
    max_size=6,
).map(tuple)


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Draw a cluster such as may be on record."""
    state = draw(st.sampled_from(ClusterState))
    cluster = make_cluster(
        state,
        changed_at=draw(moments),
        groups=(draw(groups),),
        workers=draw(crews) if state not in (ClusterState.REQUESTED, ClusterState.STARTING) else (),
    )
    if state in (ClusterState.REQUESTED, ClusterState.STARTING):
        scheduler, host = draw(st.none() | st.just(FACTS)), draw(st.none() | st.just(HOST))
        target = draw(st.sampled_from(Target))
    else:
        scheduler, host = FACTS, HOST
        target = draw(st.sampled_from(Target)) if state is ClusterState.RUNNING else Target.STOPPED
    return replace(cluster, scheduler=scheduler, host=host, target=target)
