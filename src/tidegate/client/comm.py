"""``gateway://host:port/name``: a cluster as an address, and the reason when there is no way to it any more.

``Client("gateway://dask.example.org:8000/3f9c0a51be27d846")`` connects to that cluster, with nothing else said:
``distributed`` finds this by its entry point, and it finds certificate and key with the credentials of the
configuration. So the cell that JupyterLab's Dask panel puts into a notebook holds no secret. ``Client(cluster)`` comes
this way too, with the certificate and the gateway that the object holds (``GatewaySecurity``).

A gateway has no words for who comes too late: below TLS there is nobody to speak, so it cuts the connection, and so
does a scheduler that ends. But it can be asked, over HTTP. Whatever is cut before Dask on both sides has agreed that it
is connected therefore raises the gateway's own sentence about the cluster.

``dask_gateway`` claims ``gateway://`` for itself whenever it is imported. Its code connects to our addresses too, but
tells no reason; so ours takes its place as soon as one of our clusters is connected to, and serves its addresses too.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from distributed.comm.addressing import parse_host_port
from distributed.comm.core import CommClosedError, Connector, FatalCommClosedError
from distributed.comm.registry import Backend, backends
from distributed.comm.tcp import TLS, TLSConnector
from distributed.utils import ensure_ip, get_ip

from tidegate.client.config import Settings, resolve
from tidegate.client.errors import NOT_THERE, GatewayAuthError, GatewayError, GatewayValueError
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.client.security import GatewaySecurity
from tidegate.client.transport import Transport
from tidegate.wire.names import SNI_PREFIX

KEEP_SECONDS = 600.0
"""For how long certificate and key of a cluster are kept, so that not every connection asks the gateway for them. They
are good for as long as the cluster lives; but nobody says here when it has ended."""

FIRST_ANSWERS = 2
"""So many messages come over a connection until Dask calls it connected: the greeting of its comms, and the scheduler's
answer to what was asked first. What is cut later is the business of who holds the connection."""

ASK_SECONDS = 3.0
"""For the gateway to say why: less than the fifth of its 30 s that Dask gives to a first try."""

NEWS_SECONDS = 1.0
"""How long to wait until the gateway knows, too, that a scheduler has ended which has just cut us off."""

NEWS_PAUSE = 0.1
"""Seconds between two questions meanwhile."""


class ClusterUnreachable(FatalCommClosedError):
    """There is no way to a cluster, and the gateway says why.

    Dask tries no more after this kind of error. Its remote calls raise another of the same type in its place, with
    words of their own; the reason stays what one reads.
    """

    def __str__(self) -> str:
        return str(self.__cause__) if isinstance(self.__cause__, ClusterUnreachable) else super().__str__()


class GatewayComm(TLS):
    """A connection to a scheduler behind a gateway; ``target`` is what to ask for when it is cut early."""

    target: Target | None = None
    _answers = 0

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next message."""
        try:
            message = await super().read(*args, **kwargs)
        except CommClosedError as error:
            raise await self._explain(error) from None
        self._answers += 1
        return message

    async def write(self, *args: Any, **kwargs: Any) -> Any:
        """Send a message."""
        try:
            return await super().write(*args, **kwargs)
        except CommClosedError as error:
            raise await self._explain(error) from None

    async def _explain(self, error: CommClosedError) -> CommClosedError:
        if self.target is None or self._answers >= FIRST_ANSWERS:
            return error
        return await self.target.explain(error, NEWS_SECONDS)


class GatewayConnector(Connector):
    """Opens connections to schedulers behind a gateway."""

    def __init__(self) -> None:
        self._tls = _TLSConnector()

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Any:
        """Connect to ``host:port/name``; without an ``ssl_context``, the gateway is asked for what it takes.

        ``gateway`` among the arguments is how to talk to the gateway; by default what the configuration says.
        """
        host, port, name = parse_address(address)
        settings = connection_args.pop("gateway", None)
        target = Target(name, settings)
        # Who brings a certificate and no gateway (dask_gateway does) means one that need not be the configured one.
        can_ask = settings is not None or connection_args.get("ssl_context") is None
        if connection_args.get("ssl_context") is None:
            connection_args |= await target.connection_args()
        connection_args["server_hostname"] = SNI_PREFIX + name
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            comm = await self._tls.connect(netloc, deserialize=deserialize, **connection_args)
        except CommClosedError as error:
            if not can_ask:
                raise
            # After all but a fatal error Dask tries again, and we are here again.
            patience = NEWS_SECONDS if isinstance(error, FatalCommClosedError) else 0.0
            raise await target.explain(error, patience) from None
        comm.target = target if can_ask else None
        return comm


class _TLSConnector(TLSConnector):
    comm_class = GatewayComm


class GatewayBackend(Backend):
    """The scheme ``gateway://`` of ``distributed``. One can connect there, not listen."""

    def get_connector(self) -> GatewayConnector:
        """Return what opens connections."""
        return GatewayConnector()

    def get_listener(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: nothing listens behind such an address but a gateway."""
        raise ValueError("cannot listen on a gateway:// address: use tls://")

    def get_address_host(self, loc: str) -> str:
        """Return the host."""
        return parse_address(loc)[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Return host and port."""
        return parse_address(loc)[:2]

    def resolve_address(self, loc: str) -> str:
        """Return the same address with the host as an IP address."""
        host, port, name = parse_address(loc)
        return f"{ensure_ip(host)}:{port}/{name}"

    def get_local_address_for(self, loc: str) -> str:
        """Return where this machine is seen from there."""
        host, port, name = parse_address(loc)
        return f"{get_ip(ensure_ip(host))}:{port}/{name}"


def register() -> None:
    """See to it that Dask comes here for ``gateway://``, also where the package is not installed or another is, too."""
    backends["gateway"] = GatewayBackend()


def parse_address(address: str) -> tuple[str, int, str]:
    """Return host, port and cluster name of ``host:port/name``, with or without its scheme.

    >>> parse_address("gateway://dask.example.org:8000/3f9c0a51be27d846")
    ('dask.example.org', 8000, '3f9c0a51be27d846')
    """
    netloc, _, name = address.removeprefix("gateway://").partition("/")
    name = name.strip("/")
    if not netloc or not name:
        raise ValueError(f"cannot find a cluster at {address!r}: write gateway://host:port/name")
    host, port = parse_host_port(netloc, 8786)
    return host, port, name


_known: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
"""Until when to connect with what, by the address of the gateway and the cluster's name: two gateways may have clusters
of one name."""


class Target:
    """The cluster that a connection is meant for, and the gateway that can be asked about it.

    Parameters
    ----------
    name : str
        The cluster's name.
    settings : Settings or None
        How to talk to the gateway; None for what the configuration says.
    """

    def __init__(self, name: str, settings: Settings | None) -> None:
        self._name = name
        self._settings = settings
        self._key = ("", name)

    async def connection_args(self) -> dict[str, Any]:
        """Return what to connect with, from the gateway."""
        self._settings = self._settings or resolve()
        self._key = (self._settings.address, self._name)
        until, args = _known.get(self._key, (0.0, {}))
        if until < time.monotonic():
            try:
                body = await self._ask("/credentials")
            except GatewayAuthError as error:
                raise ClusterUnreachable(str(error)) from None  # any other OSError Dask would try again, for long
            args = GatewaySecurity(body["certificate"], body["key"], body["sni"]).get_connection_args("client")
            _known[self._key] = (time.monotonic() + KEEP_SECONDS, args)
        return dict(args)

    async def explain(self, error: CommClosedError, patience: float) -> CommClosedError:
        """Return the error that says why the connection was cut, if the gateway knows within ``patience`` seconds."""
        _known.pop(self._key, None)
        if (why := await self._why(patience)) is not None:
            return ClusterUnreachable(why)
        # Dask has no words for the end of a connection in the middle of the TLS handshake.
        words = str(error) or f"cannot connect to cluster {self._name}: the connection was cut ({error.__cause__!r})"
        return type(error)(words)

    async def _why(self, patience: float) -> str | None:
        deadline = time.monotonic() + patience
        while True:
            try:
                body = await asyncio.wait_for(self._ask(), ASK_SECONDS)
            except GatewayValueError as error:
                is_absent = error.code == "not-found"
                return f"cannot connect to cluster {self._name}: {NOT_THERE}" if is_absent else str(error)
            except (GatewayError, asyncio.TimeoutError):
                return None
            report = ClusterReport.from_json(body, public_address="", scheduler_netloc="")
            if report.status is not ClusterStatus.RUNNING:
                return str(report.end_error("connect to"))
            if (obstacle := report.obstacle("connect to")) is not None:
                return str(obstacle)
            if time.monotonic() > deadline:
                return None
            await asyncio.sleep(NEWS_PAUSE)

    async def _ask(self, below: str = "") -> Any:
        # A transport of its own: one connects from whatever event loop a client has.
        transport = Transport(self._settings or resolve())
        try:
            return await transport.request("GET", f"/api/v2/clusters/{self._name}{below}")
        finally:
            await transport.close()
