"""Every row that is measured, and the goals: how many times better than dask-gateway in the same run, or at most what.

Machines differ, so a goal is a ratio wherever there is something to compare with. A ratio says how many times better
Tidegate is: how many times faster, smaller, or more. This file is the one place where goals stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One row of the tables.

    Parameters
    ----------
    key : str
        Its name in the result files.
    title : str
        In Markdown.
    unit : str
        Of its samples: ``s``, ``B``, ``B/s``, ``1/s``, ``cores``, or empty for a ratio.
    more : bool
        Whether more is better.
    ratio : float, optional
        Goal: so many times better than the peer.
    limit : float, optional
        Goal: the median is at most this, in the unit.
    headline : bool
        Whether the README quotes it.
    plotted : bool
        Whether it appears in the group's plot.
    """

    key: str
    title: str
    unit: str = "s"
    more: bool = False
    ratio: float | None = None
    limit: float | None = None
    headline: bool = False
    plotted: bool = True


@dataclass(frozen=True)
class Group:
    """Rows that are measured together, by ``groups/<name>.py``; ``rounds`` by default.

    ``plots`` maps each unit that is drawn to a word for the name of its file.
    """

    name: str
    title: str
    rounds: int
    rows: tuple[Row, ...]
    plots: Mapping[str, str] = field(default_factory=lambda: {"s": "seconds"})


def _requests(kind: str, records: int, connections: int) -> tuple[Row, ...]:
    plural = "s" if connections > 1 else ""
    what = f"{kind}, {records:,} clusters on record, {connections} connection{plural}"
    key = f"{kind} {records} {connections}"
    reference = kind == "list" and connections == 16 and records == 10
    return (
        Row(f"{key} rate", f"{what}: requests", "1/s", more=True, ratio=1.0 if reference else None, headline=reference),
        Row(f"{key} p50", f"{what}: p50"),
        Row(f"{key} p99", f"{what}: p99"),
    )


LIFECYCLE = Group(
    "lifecycle",
    "The life of a cluster",
    10,
    (
        Row("new_cluster", "`new_cluster()` returns", ratio=10, headline=True),
        Row("connected", "… and a client is connected", headline=True),
        Row("1 worker", "`scale(1)` → worker registered", ratio=12, headline=True),
        Row("4 workers", "`scale(4)` → 4 workers registered", headline=True),
        Row("10 workers", "`scale(10)` → 10 workers registered", ratio=20, headline=True),
        Row("shutdown", "`shutdown()` of 10 workers → every process gone", ratio=20, headline=True),
    ),
)

ADAPTIVE = Group(
    "adaptive",
    "Adaptive scaling",
    5,
    (
        Row("up", "adaptive: submit → first worker", ratio=8, headline=True),
        Row("down", "adaptive: result fetched → no worker", headline=True),
    ),
)

BYSTANDER = Group(
    "bystander",
    "A bystander",
    5,
    (
        Row("before p50", "another user's list, nothing else going on: p50"),
        Row("before p99", "… p99"),
        Row("during p50", "another user's list while ten clusters are created at once: p50"),
        Row("during p99", "another user's list while ten clusters are created at once: p99", headline=True),
        Row("during max", "… the slowest"),
        Row("ten clusters", "ten clusters created at once → all running"),
    ),
)

API = Group(
    "api",
    "The API through the public port",
    3,
    (
        *(
            row
            for kind in ("list", "read")
            for records in (10, 1000)
            for connections in (1, 16, 64)
            for row in _requests(kind, records, connections)
        ),
        Row(
            "own read rate",
            "read by our own protocol, 10 clusters on record, 16 connections: requests",
            "1/s",
            more=True,
        ),
        Row(
            "list cpu",
            "CPU of the whole gateway per list request, 10 clusters on record, 16 connections",
            plotted=False,
        ),
        Row("list growth", "p99 of list with 1,000 clusters on record / with 10, 16 connections", "", limit=1.5),
        Row("generator", "the load generator against a server that does nothing", "1/s", more=True, plotted=False),
    ),
    {"1/s": "requests"},
)

PROXYING = Group(
    "proxying",
    "Clients to schedulers, through the proxy",
    5,
    (
        Row("up 1", "TLS to the scheduler, 1 connection", "B/s", more=True, ratio=1.15, headline=True),
        Row("down 1", "TLS from the scheduler, 1 connection", "B/s", more=True, ratio=1.15, headline=True),
        Row("up 8", "TLS to the scheduler, 8 connections", "B/s", more=True, ratio=1.15),
        Row("down 8", "TLS from the scheduler, 8 connections", "B/s", more=True, ratio=1.15),
        Row("cpu up", "CPU of the proxy per GB to the scheduler", ratio=1 / 0.7, headline=True),
        Row("cpu down", "CPU of the proxy per GB from the scheduler", ratio=1 / 0.7, headline=True),
        Row("rtt p50", "64 bytes there and back: p50"),
        Row("rtt p99", "64 bytes there and back: p99"),
        Row("added p50", "what the proxy adds to a round trip of 64 bytes: p50", ratio=2, headline=True),
        Row("connect p50", "connect, TLS handshake, 64 bytes there and back: p50", plotted=False),
    ),
    {"B/s": "throughput", "s": "seconds"},
)

DASHBOARDS = Group(
    "dashboards",
    "Dashboards through the proxy",
    10,
    (
        Row("page", "`/status`: the page"),
        Row("message p50", "WebSocket: a message there, the first bytes of its answer back: p50"),
        Row("message p99", "WebSocket: a message there, the first bytes of its answer back: p99"),
    ),
)

RESOURCES = Group(
    "resources",
    "Memory and CPU when nothing happens",
    1,
    (
        Row("cluster memory", "memory (PSS) of an idle cluster, of 30", "B", ratio=3, headline=True),
        Row("cluster memory opened", "… after its dashboard was opened once", "B"),
        Row("cluster cpu", "CPU of an idle cluster, of 30", "cores", ratio=3, headline=True),
        Row("server memory 0", "memory of the server, no cluster", "B"),
        Row("server memory 10", "memory of the server, 10 clusters", "B"),
        Row("server memory 30", "memory of the server, 30 clusters", "B"),
        Row("server cpu", "CPU of the server, 30 idle clusters", "cores"),
    ),
    {"B": "memory", "cores": "cpu"},
)

RECOVERY = Group(
    "recovery",
    "After SIGKILL",
    5,
    (
        Row("control", "control killed → the API answers (it restarts itself)", limit=1.5, headline=True),
        Row("server", "server killed and started again by a script → the API answers", limit=1.5, headline=True),
    ),
)

SCALE = Group(
    "scale",
    "500 simulated clusters with 10 workers each",
    1,
    (
        Row("create", "create 500 clusters → all running"),
        Row("resize", "`scale(10)` each → 5,000 workers running"),
        Row("stop", "stop 500 clusters → all ended"),
    ),
)

GROUPS = (LIFECYCLE, ADAPTIVE, BYSTANDER, API, PROXYING, DASHBOARDS, RESOURCES, RECOVERY, SCALE)


def group_of(name: str) -> Group:
    """Return the group of this name."""
    return next(group for group in GROUPS if group.name == name)
