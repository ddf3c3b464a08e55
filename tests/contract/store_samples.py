"""What the suites for stores are fed with: databases to open, and clusters of every shape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tidegate.model.activity import NO_ACTIVITY, Activity
from tidegate.model.admission import Admission
from tidegate.model.cluster import (
    Adaptive,
    Cluster,
    ClusterSpec,
    ClusterState,
    Reason,
    SchedulerFacts,
    Target,
    Waiting,
    Worker,
    WorkerGroup,
    WorkerState,
)
from tidegate.model.event import Event
from tidegate.model.limits import Rules
from tidegate.model.prices import FREE, Prices
from tidegate.model.share import ClientLeaf, Grantee, GranteeKind, Right, Share, ShareLink
from tidegate.store.base import Credentials, Store
from tidegate.store.sql import SqlStore

NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Database:
    """One empty database; every call of ``open`` is another process as far as the store can tell."""

    folder: Path
    url: str | None = None

    def make(self, **settings: Any) -> SqlStore:
        """Return a store on this database that is not started yet."""
        return SqlStore(self.folder, url=self.url, **{"clock": lambda: NOW, **settings})

    @asynccontextmanager
    async def open(self, **settings: Any) -> AsyncIterator[Store]:
        """Start a store on this database, and close it in the end."""
        store = self.make(**settings)
        await store.start()
        try:
            yield store
        finally:
            await store.close()


def make_cluster(number: int = 1, **values: Any) -> Cluster:
    """Return a plain cluster; of two the one with the higher number is the newer."""
    values = {"owner": "alice", "backend": "local", "spec": ClusterSpec(), "created_at": NOW + number} | values
    return Cluster(name=f"{number:016x}", **values)


async def overwrite(store: Store, cluster: Cluster) -> Cluster:
    """Record a cluster over what there is, whatever it holds."""
    # With an event it is written even where nothing differs.
    happened = [Event("changed", "")]
    saved = await store.admit(cluster.name, Admission(Rules(), lambda before, ledger: (cluster, happened)))
    assert saved is not None
    return saved


async def read_back(store: Store, cluster: Cluster) -> Cluster:
    """Return a cluster as the database has it, and not as the store that wrote it remembers it."""
    found = await store.find(owner=cluster.owner, limit=10_000)
    return next(one for one in found if one.name == cluster.name)


def make_credentials(name: str = "1") -> Credentials:
    """Return credentials in which every secret says what it is and whose."""
    return Credentials(
        **{
            part: f"secret-{part}-{name}"
            for part in (
                *("ca_cert", "ca_key", "client_cert", "client_key", "scheduler_cert", "scheduler_key"),
                *("worker_cert", "worker_key", "agent_token", "dashboard_secret", "ticket_key"),
                *("clients_ca_cert", "clients_ca_key"),
            )
        },
        variables={"KEY": f"secret-variable-{name}"},
    )


def workers(*names: str, state: WorkerState = WorkerState.RUNNING) -> tuple[Worker, ...]:
    """Return workers of these names."""
    return tuple(Worker(name, state=state, changed_at=NOW) for name in names)


def differing_fields(one: Cluster, other: Cluster) -> list[str]:
    """Return what differs by name: the comparison of two whole clusters in words takes minutes for generated ones."""
    return [field.name for field in fields(Cluster) if getattr(one, field.name) != getattr(other, field.name)]


def write_and_be_killed(database: Database, name: str, saves: int) -> int:
    """Let another process change a cluster, kill it in the midst of that, and return the last revision that it said."""
    writer = Path(__file__).with_name("store_writer.py")
    command = [sys.executable, str(writer), str(database.folder), database.url or "", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(saves)]
        process.kill()
    return int(lines[-1])


# -- clusters of every shape -----------------------------------------------------------------------------------------

# PostgreSQL's texts hold no NUL; names never do, and what comes from a process stands in JSON, which escapes it.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
texts = st.text(max_size=40)
times = st.floats(min_value=0, max_value=4e9)
counts = st.integers(min_value=0, max_value=2**40)
documents = st.dictionaries(
    texts.filter(lambda key: "\0" not in key),
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    max_size=4,
)
reasons = st.builds(Reason, code=texts, message=texts, detail=texts, log_tail=texts)
specs = st.builds(
    ClusterSpec,
    worker_cores=st.floats(0.1, 1e4) | st.integers(1, 100),
    worker_memory=counts,
    worker_threads=counts,
    worker_gpus=counts,
    scheduler_cores=st.floats(0, 1e4),
    scheduler_memory=counts,
    max_workers=counts,
    max_workers_reason=texts,
    environment=texts,
    image=texts,
    start_timeout=times,
    idle_timeout=st.none() | times,
    no_client_timeout=st.none() | times,
    lifetime=st.none() | times,
    end_warning=times,
    hub_server=names,
    extra=documents,
)
facts = st.builds(
    SchedulerFacts,
    attempt=counts,
    port=st.integers(1, 65535),
    dashboard_port=st.none() | st.integers(1, 65535),
    versions=st.dictionaries(names, texts, max_size=3),
)


def _unique_by_name(values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[tuple[Any, ...]]:
    name_of: Callable[[Any], str] = lambda value: value.name  # noqa: E731
    return st.lists(values, unique_by=name_of, max_size=size).map(tuple)


group_tuples = _unique_by_name(
    st.builds(
        WorkerGroup,
        name=names,
        wanted=st.integers(0, 2**20),  # times the memory of a worker it must fit a column: what is held is counted
        adaptive=st.none() | st.builds(Adaptive, minimum=counts, maximum=counts),
        launched=counts,
        failures=counts,
        retry_at=times,
        trouble=st.none() | reasons,
        asked=st.none() | counts,
    ),
    size=3,
)
worker_tuples = _unique_by_name(
    st.builds(
        Worker,
        name=st.sampled_from([f"default-{n}" for n in range(9)]),
        group=names,
        state=st.sampled_from(WorkerState),
        changed_at=times,
        reason=st.none() | reasons,
        started_at=st.none() | times,
    ),
    size=6,
)
activities = st.builds(
    Activity,
    idle_since=st.none() | times,
    had_client=st.booleans(),
    clientless_since=st.none() | times,
    active_at=times,
    kept_until=st.none() | times,
    warned=st.dictionaries(names, times, max_size=2),
    question=counts,
    asked_at=st.none() | times,
    at_hub=st.booleans(),
)
grantees = st.builds(Grantee, st.sampled_from(GranteeKind), names)
clusters = st.builds(
    Cluster,
    name=st.just("generated"),
    owner=names,
    backend=names,
    spec=specs,
    created_at=times,
    options=documents,
    state=st.sampled_from(ClusterState),
    target=st.sampled_from(Target),
    started_at=st.none() | times,
    stopped_at=st.none() | times,
    changed_at=times,
    attempt=counts,
    reason=st.none() | reasons,
    host=st.none() | names,
    scheduler=st.none() | facts,
    groups=group_tuples,
    workers=worker_tuples,
    shares=st.lists(st.builds(Share, grantees, st.sampled_from(Right), times, names), max_size=3).map(tuple),
    links=st.lists(st.builds(ShareLink, names, times, times, names, texts), max_size=3).map(tuple),
    leaves=st.lists(
        st.builds(ClientLeaf, names, names, st.lists(grantees, max_size=2).map(tuple), st.booleans()), max_size=3
    ).map(tuple),
    share_epoch=counts,
    owner_groups=st.lists(names, max_size=2, unique=True).map(lambda groups: tuple(sorted(groups))),
    queued=st.booleans(),
    waiting=st.none() | st.builds(Waiting, since=times, limit=names, reason=texts),
    alias=names,
    labels=st.dictionaries(names, texts, max_size=3),
    prices=st.just(FREE) | st.builds(Prices, *[st.floats(0, 100)] * 3),
    activity=st.just(NO_ACTIVITY) | activities,
    revision=st.just(0),
)
