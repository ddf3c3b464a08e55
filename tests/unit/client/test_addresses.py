"""``gateway://`` addresses, sizes, and the certificate that goes with a server name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from distributed.comm.core import FatalCommClosedError
from distributed.comm.tcp import TLSConnector
from distributed.security import Security

from tidegate.client.comm import GatewayBackend, parse_address
from tidegate.client.errors import GatewayValueError
from tidegate.client.security import GatewaySecurity
from tidegate.client.sizes import checked_bounds, checked_count


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("gateway://host:8000/name", ("host", 8000, "name")),
        ("host:8000/name/", ("host", 8000, "name")),
        ("gateway://host/name", ("host", 8786, "name")),
        ("gateway://[::1]:8000/name", ("::1", 8000, "name")),
    ],
)
def test_an_address_names_host_port_and_cluster(address: str, parts: tuple[str, int, str]) -> None:
    """With or without its scheme."""
    assert parse_address(address) == parts


@pytest.mark.parametrize("address", ["gateway://host:8000", "gateway:///name", "host:8000/"])
def test_an_address_without_a_cluster_is_refused(address: str) -> None:
    """And says how it is written."""
    with pytest.raises(ValueError, match="gateway://host:port/name"):
        parse_address(address)


def test_nothing_listens_at_such_an_address() -> None:
    """It leads to a gateway."""
    with pytest.raises(ValueError, match="cannot listen"):
        GatewayBackend().get_listener("host:1/name", None)


@pytest.fixture
async def scheduler() -> AsyncIterator[SimpleNamespace]:
    """Something that speaks TLS with a certificate of its own authority, and remembers which name was asked for."""
    try:
        security = Security.temporary()
    except ImportError:
        pytest.skip("making a certificate needs cryptography")
    found = SimpleNamespace(certificate=security.tls_client_cert, key=security.tls_client_key, asked=[], address="")
    context = security.get_listen_args("scheduler")["ssl_context"]
    context.sni_callback = lambda _socket, name, _context: found.asked.append(name)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    found.address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    yield found
    server.close()


async def test_a_connection_asks_for_its_cluster(scheduler: SimpleNamespace) -> None:
    """The server name picks the cluster; the host name in the certificate does not count."""
    security = GatewaySecurity(scheduler.certificate, scheduler.key, "daskgateway-c0ffee")

    comm = await TLSConnector().connect(scheduler.address, **security.get_connection_args("client"))
    comm.abort()

    assert scheduler.asked == ["daskgateway-c0ffee"]
    assert "PRIVATE" not in repr(security) + security._repr_html_()


async def test_only_the_clusters_own_authority_is_believed(scheduler: SimpleNamespace) -> None:
    """Whoever has a certificate from elsewhere is not the cluster."""
    other = Security.temporary()
    security = GatewaySecurity(other.tls_client_cert, other.tls_client_key, "daskgateway-c0ffee")

    with pytest.raises(FatalCommClosedError, match="certificate does not match"):
        await TLSConnector().connect(scheduler.address, **security.get_connection_args("client"))


@pytest.mark.parametrize("count", [0, 4, np.int64(4)])
def test_a_count_is_a_whole_number(count: Any) -> None:
    """NumPy's too, as what Python and JSON know."""
    assert type(checked_count(count)) is int


@pytest.mark.parametrize("count", [-1, "two", 1.5, True, None])
def test_what_is_no_count_is_named(count: Any) -> None:
    """In the words of dask-gateway."""
    with pytest.raises(GatewayValueError, match="Scale expects a non-negative integer, got"):
        checked_count(count)


def test_bounds_in_the_wrong_order_are_named() -> None:
    """Both numbers stand in the sentence."""
    with pytest.raises(GatewayValueError, match="minimum=5 is above maximum=2"):
        checked_bounds(5, 2)
    assert checked_bounds(None, float("inf")) == {"minimum": None, "maximum": None}
