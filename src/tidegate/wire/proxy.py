"""What control and a proxy process say to each other over the proxy's Unix socket.

One JSON object a line. Control asks, with an ``id``; the proxy answers with the same ``id`` and ``"ok": true``, or
``"ok": false`` and ``error``. Every operation may be repeated.

==============  ====================================================================================================
``op``          meaning
==============  ====================================================================================================
``replace``     ``routes``: the whole table; what is not in it is withdrawn
``put``         ``route``: one route, new or changed
``delete``      ``name``: withdraw one route, and cut its connections
``end``         ``by``: a session, or a token, has ended; so is what tickets opened that it vouched for
``status``      answers ``pid``, ``version``, ``address``, ``connections`` (per cluster name), ``mark`` (a word from the
                settings that it was started with), ``accepting``, ``draining``, ``held`` (whether the holder has
                all that passes through it) and ``routes`` (how many)
``drain``       stop when the last cluster connection is gone; until then go on serving. With ``"accept": false`` new
                connections are left to other processes with the same listener
==============  ====================================================================================================

Unasked, the proxy sends ``{"event": "connections", "counts": {name: n, ...}}`` to every connected control: when one is
connected and whenever the counts change, at most once a second.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PROTOCOL = 2
"""Raised with every change of what is said here: proxies of another number are replaced, not adopted."""

LINE_LIMIT = 64 * 2**20
"""Bytes of one line: a full table of ten thousand routes is about 20 MB."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one cluster.

    Parameters
    ----------
    name : str
        The cluster.
    host : str
        Where its scheduler listens, from the backend; the proxies dial no other.
    port : int
        Port of its TLS comm, from the agent.
    dashboard_port : int or None
        Port of its dashboard (HTTPS with the scheduler's leaf), from the agent.
    dashboard_secret : str
        What the dashboard demands in ``names.DASHBOARD_HEADER``. The cluster's own processes know it.
    ca : str
        PEM of the cluster's authority: the only one that the proxy accepts the dashboard's certificate from.
    ticket_key : str
        What tickets are signed with. The cluster's own processes do not know it.
    share_epoch : int
        Counts what was withdrawn: tickets of an earlier epoch are refused, and pages that they opened are ended.
    """

    name: str
    host: str
    port: int
    dashboard_port: int | None
    dashboard_secret: str = field(repr=False)
    ca: str = field(repr=False)
    ticket_key: str = field(repr=False)
    share_epoch: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Route:
        """Build a route from its JSON form."""
        return cls(**data)
