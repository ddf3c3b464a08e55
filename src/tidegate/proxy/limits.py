"""Every deadline and every cap of the proxy, in one place.

The proxy talks to anyone who can reach its port. Whatever a stranger can make it hold (a connection, a buffer, a
moment of the scheduler's time) has a limit here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

DESCRIPTORS_PER_CONNECTION = 6
"""Two sockets, and two pipes while bytes wait in both directions."""

DESCRIPTORS_RESERVED = 100
"""Listener, control connections, log, connections to the API, the event loop's own, and some air."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines are in seconds, sizes in bytes."""

    hello_seconds: float = 5.0
    """From accept until the first request head's first bytes, or a whole ClientHello, are there. A client sends its
    hello at once: this is two lost packets on a bad line."""
    header_seconds: float = 10.0
    """For one HTTP request head, and for a TLS handshake. (nginx has 60, Apache 20 to 40; heads are small.)"""
    idle_seconds: float = 75.0
    """How long an HTTP connection stays open between two requests; nginx's and aiohttp's number."""
    body_seconds: float = 30.0
    """Between two pieces of a request body."""
    whole_body_seconds: float = 60.0
    """For all of it: 1 MiB comes in ten seconds over a bad mobile line, and most bodies are a few kB. Whoever sends one
    byte at a time would hold a slot here and a connection of control's for as long as they like."""
    dial_seconds: float = 10.0
    """To connect to a scheduler."""
    restart_seconds: float = 2.0
    """How long a request waits for an API that has just gone away: longer than a restart of it takes (1.5 s)."""
    table_seconds: float = 10.0
    """How long a connection to a cluster waits in a proxy process that has just started and was not told any route."""
    upstream_seconds: float = 120.0
    """How long a dashboard may be silent in the middle of an answer: a scheduler that takes in a large graph is."""
    drain_seconds: float = 30.0
    """After SIGTERM: how long cluster connections may go on before they are cut."""
    orphan_seconds: float = 600.0
    """Without control for so long, the process ends when it knows no cluster and no cluster connection is left."""
    access_seconds: float = 3.0
    """How long control's yes to a program's credential is remembered: long enough for a page with all its parts, and
    short enough that a revoked token is refused within the five seconds that are promised."""

    body_bytes: int = 2**20
    """Of a request: far above any message of the protocols."""
    head_bytes: int = 16 * 1024
    """Of one line of a request head. Bokeh's session tokens travel in a header of several kB."""
    message_bytes: int = 20 * 2**20
    """Of one WebSocket message of a dashboard: Bokeh's own limit. Its whole page comes in one; distributed's stream of
    the 100,000 tasks that it keeps has 16 MiB."""
    client_message_bytes: int = 2**20
    """Of one WebSocket message of a client: mouse movements and ranges. It is held until it is complete, so this times
    the number of WebSockets is what strangers to us can make us hold."""

    connections: int = 10_000
    """In all, per process."""
    connections_per_address: int = 1_000
    """From one client address (one /64 for IPv6), per process; not from this machine, nor from another proxy, where
    all users have one address."""
    waiting: int = 2_500
    """Connections that wait for a whole ClientHello, request head or body, idle ones between two requests among them;
    beyond that the one that has waited longest makes room. A quarter of all: the silent leave room for the others."""
    websockets_per_cluster: int = 100
    """To dashboards of one cluster: a person has a dozen pages open, a class room with one cluster some dozens."""
    page_burst: int = 20
    """Dashboard pages of one cluster that may be loaded at once: JupyterLab restores a dozen panes together."""
    pages_per_second: float = 1.0
    """... and after that. A page costs the scheduler up to 0.25 s; eight seconds of page loads without a limit have
    silenced a scheduler for good."""

    @property
    def connections_per_cluster(self) -> int:
        """To one cluster's scheduler, per process: a quarter of all. Whoever runs code in a cluster can connect to it
        from this machine, where addresses have no limit. Honest clients of a cluster are some dozens."""
        return max(1, self.connections // 4)

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) > 0:
                raise ValueError(f"cannot use the limit {item.name}={getattr(self, item.name)!r}: it must be above 0")


def connections_within(descriptors: int, wanted: int) -> int:
    """Return how many connections fit into a process that may open so many files.

    Parameters
    ----------
    descriptors : int
        The process's limit (``RLIMIT_NOFILE``).
    wanted : int
        What is asked for.
    """
    return max(1, min(wanted, (descriptors - DESCRIPTORS_RESERVED) // DESCRIPTORS_PER_CONNECTION))
