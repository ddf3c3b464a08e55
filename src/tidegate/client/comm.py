"""``gateway://host:port/name``: a cluster as an address, for where there is room for an address alone.

``Client("gateway://dask.example.org:8000/3f9c0a51be27d846")`` connects to that cluster, with nothing else said:
``distributed`` finds this by its entry point, and it finds certificate and key with the credentials of the
configuration. So the cell that JupyterLab's Dask panel puts into a notebook holds no secret.
"""

from __future__ import annotations

import time
from typing import Any

from distributed.comm.addressing import parse_host_port
from distributed.comm.core import Connector, FatalCommClosedError
from distributed.comm.registry import Backend
from distributed.comm.tcp import TLSConnector
from distributed.utils import ensure_ip, get_ip

from tidegate.client.config import resolve
from tidegate.client.errors import GatewayError
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.client.security import GatewaySecurity
from tidegate.client.transport import Transport
from tidegate.wire.names import SNI_PREFIX

KEEP_SECONDS = 600.0
"""For how long certificate and key of a cluster are kept, so that not every connection asks the gateway for them. They
are good for as long as the cluster lives; but nobody says here when it has ended."""


class GatewayConnector(Connector):
    """Opens connections to schedulers behind a gateway."""

    def __init__(self) -> None:
        self._tls = TLSConnector()

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Any:
        """Connect to ``host:port/name``; without an ``ssl_context``, the gateway is asked for what it takes."""
        host, port, name = parse_address(address)
        if connection_args.get("ssl_context") is None:
            connection_args |= await _connection_args(name)
        connection_args["server_hostname"] = SNI_PREFIX + name
        netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            return await self._tls.connect(netloc, deserialize=deserialize, **connection_args)
        except FatalCommClosedError as error:
            # What the gateway has no cluster for, it cuts off without a word.
            _known.pop(name, None)
            raise FatalCommClosedError(await _why(name) or str(error)) from None


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


_known: dict[str, tuple[float, dict[str, Any]]] = {}


async def _connection_args(name: str) -> dict[str, Any]:
    """Return what to connect to the cluster ``name`` with, from the gateway of the configuration."""
    until, args = _known.get(name, (0.0, {}))
    if until < time.monotonic():
        body = await _ask(f"/api/v2/clusters/{name}/credentials")
        security = GatewaySecurity(body["certificate"], body["key"], body["sni"])
        args = security.get_connection_args("client")
        _known[name] = (time.monotonic() + KEEP_SECONDS, args)
    return dict(args)


async def _why(name: str) -> str | None:
    """Return why there is no way to the cluster ``name``, if the gateway can tell."""
    try:
        body = await _ask(f"/api/v2/clusters/{name}")
    except GatewayError as error:
        return str(error)
    report = ClusterReport.from_json(body, public_address="", scheduler_netloc="")
    return None if report.status is ClusterStatus.RUNNING else str(report.end_error("connect to"))


async def _ask(path: str) -> Any:
    transport = Transport(resolve())
    try:
        return await transport.request("GET", path)
    finally:
        await transport.close()
