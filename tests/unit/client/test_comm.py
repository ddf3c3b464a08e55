"""Connections that are cut before they are one: the gateway is asked why, and its sentence is what one reads."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import dask.config
import pytest
from distributed import Client
from distributed.comm import listen
from distributed.comm.core import CommClosedError
from distributed.core import rpc
from distributed.security import Security

from tidegate.client import comm
from tidegate.client.comm import ClusterUnreachable, GatewayConnector, register
from tidegate.client.errors import NOT_THERE, GatewayServerError
from tidegate.client.security import GatewaySecurity

from .conftest import CLUSTER, StubGateway, cuts, refuses, says

pytest.importorskip("cryptography", reason="makes the certificates of these tests")

REASON = {"code": "idle", "message": "nobody used it for 30 min", "log_tail": ""}
ENDED = says({**CLUSTER, "state": "stopped", "reason": REASON})
STOPPING = says({**CLUSTER, "target": "stopped"})
RUNNING = says(CLUSTER)


@pytest.fixture(autouse=True)
def ours() -> None:
    """Whatever was imported before, our own code serves the addresses."""
    register()


@pytest.fixture(scope="module")
def tls() -> Security:
    """Certificate and key that both sides have here."""
    return Security.temporary()


@pytest.fixture
async def cut(tls: Security, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """The port of a server that cuts every connection, as far on as the parameter says."""
    moment = request.param
    if moment == "greeting":  # Dask's comms have agreed on their formats, its scheduler has not answered
        listener = listen("tls://127.0.0.1:0", lambda comm: comm.abort(), **tls.get_listen_args("scheduler"))
        await listener.start()
        yield int(listener.contact_address.rpartition(":")[2])
        listener.stop()
        return

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if moment == "hello":  # as a gateway does that has no such cluster
            await reader.read(65536)
        writer.transport.abort() if moment == "reset" else writer.close()

    context = None if moment == "hello" else _server_context(tls, tmp_path)
    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


def _server_context(tls: Security, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "pem").write_text(f"{tls.tls_scheduler_cert}\n{tls.tls_scheduler_key}")
    context.load_cert_chain(folder / "pem")
    return context


@pytest.fixture
def security(tls: Security, stub: StubGateway) -> Callable[..., GatewaySecurity]:
    """Return what makes the security of a cluster of the stub."""

    def make(**settings: Any) -> GatewaySecurity:
        known = stub.settings(auth_type=None, **settings)
        return GatewaySecurity(tls.tls_client_cert, tls.tls_client_key, CLUSTER["scheduler"]["sni"], known)

    return make


moments = pytest.mark.parametrize("cut", ["hello", "handshake", "reset", "greeting"], indirect=True)


@moments
@pytest.mark.parametrize(("answer", "why"), [(ENDED, "nobody used it for 30 min"), (STOPPING, "it is being stopped")])
async def test_a_client_that_is_cut_by_the_end_reads_why(
    stub: StubGateway, cut: int, security: Callable[..., GatewaySecurity], answer: Any, why: str
) -> None:
    """In the handshake, after it, or after Dask's own: with the gateway that a cluster object brings along."""
    stub.will(answer)

    with pytest.raises(OSError, match=why) as caught:
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", security=security(), asynchronous=True, timeout=20)

    assert str(caught.value).startswith("cannot connect to cluster c0ffee: ")


VIEW = says({**CLUSTER, "owner": "bob", "mine": False, "rights": ["dashboard", "logs", "see"]})
GONE = refuses(404, "not-found", "Cluster c0ffee not found")


@moments
@pytest.mark.parametrize(("answer", "why"), [(VIEW, "bob shares it with you to view, not to use"), (GONE, NOT_THERE)])
async def test_a_client_that_is_cut_by_a_withdrawn_share_reads_why(
    stub: StubGateway, cut: int, security: Callable[..., GatewaySecurity], answer: Any, why: str
) -> None:
    """The scheduler refuses its certificate; the gateway says what is left of the share."""
    stub.will(answer)

    with pytest.raises(OSError, match=why) as caught:
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", security=security(), asynchronous=True, timeout=20)

    assert str(caught.value).startswith("cannot connect to cluster c0ffee: ")


@moments
async def test_an_address_alone_tells_why_too(stub: StubGateway, cut: int, tls: Security) -> None:
    """The gateway of the configuration gives the credentials, and the reason."""
    known = {"certificate": tls.tls_client_cert, "key": tls.tls_client_key, "sni": CLUSTER["scheduler"]["sni"]}
    stub.will(says(known), ENDED)

    with dask.config.set({"tidegate.address": stub.address}), pytest.raises(OSError, match="nobody used it"):
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", asynchronous=True, timeout=20)


@pytest.mark.parametrize("cut", ["handshake"], indirect=True)
async def test_remote_calls_keep_the_reason(
    stub: StubGateway, cut: int, security: Callable[..., GatewaySecurity]
) -> None:
    """Dask raises an error with words of its own in place of what broke a call."""
    stub.will(ENDED)
    arguments = security().get_connection_args("client")

    async with rpc(f"gateway://127.0.0.1:{cut}/c0ffee", connection_args=arguments) as scheduler:
        with pytest.raises(ClusterUnreachable, match="nobody used it"):
            await scheduler.identity()


@pytest.mark.parametrize("cut", ["handshake"], indirect=True)
async def test_the_gateway_may_hear_of_the_end_a_moment_later(
    stub: StubGateway, cut: int, security: Callable[..., GatewaySecurity]
) -> None:
    """A scheduler that has just died cuts before anybody has told the gateway."""
    stub.will(RUNNING, RUNNING, ENDED)

    with pytest.raises(OSError, match="nobody used it"):
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", security=security(), asynchronous=True, timeout=20)


@pytest.mark.parametrize("cut", ["hello", "handshake"], indirect=True)
@pytest.mark.parametrize("answer", [RUNNING, cuts], ids=["it runs", "the gateway does not answer"])
async def test_what_the_gateway_cannot_explain_stays_what_it_is(
    stub: StubGateway, cut: int, security: Callable[..., GatewaySecurity], answer: Any
) -> None:
    """But never an error without words."""
    stub.will(answer)

    with pytest.raises(CommClosedError) as caught:
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", security=security(), asynchronous=True, timeout=20)

    assert not isinstance(caught.value, ClusterUnreachable)
    assert str(caught.value)


@pytest.mark.parametrize("cut", ["handshake"], indirect=True)
async def test_who_brings_a_certificate_and_no_gateway_is_told_nothing_of_another(
    stub: StubGateway, cut: int, tls: Security
) -> None:
    """The official client's cluster may be behind another gateway than the configured one: that is not asked."""
    stub.will(ENDED)

    with dask.config.set({"tidegate.address": stub.address}), pytest.raises(CommClosedError):
        await Client(f"gateway://127.0.0.1:{cut}/c0ffee", security=tls, asynchronous=True, timeout=20)

    assert stub.requests == []


async def test_clusters_of_one_name_at_two_gateways_are_two(stub: StubGateway, nobody: str) -> None:
    """What one gateway gave for a name is not shown to what another has under it."""
    key = ("http://first.test", "c0ffee")
    comm._known[key] = (float("inf"), {"ssl_context": "of the first"})
    try:
        assert await comm.Target("c0ffee", stub.settings(address=key[0])).connection_args() == comm._known[key][1]
        with pytest.raises(GatewayServerError):
            await comm.Target("c0ffee", stub.settings(address=nobody)).connection_args()
    finally:
        comm._known.clear()


async def test_credentials_that_are_refused_are_not_sent_again_and_again(stub: StubGateway) -> None:
    """Dask tries every other error of the system for half a minute."""
    stub.will(refuses(401, "unauthenticated", "who are you?"))

    with dask.config.set({"tidegate.address": stub.address}), pytest.raises(ClusterUnreachable, match="cannot log in"):
        await GatewayConnector().connect("127.0.0.1:1/c0ffee")

    assert len(stub.requests) == 1
