"""Real Dask through the proxy: a stock client with a server name, and the dashboards that a scheduler really serves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import dask
import pytest
from distributed import Client, Scheduler, Security, Worker

from tests.proxy_rig import TICKET_KEY, Rig
from tidegate.wire.names import TICKET_COOKIE
from tidegate.wire.tickets import Ticket, sign

NAME = "0123456789abcdef"
HOST = f"{NAME}.localhost"


class NamedSecurity(Security):
    """Stock security, with the server name by which the proxy finds the cluster."""

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Return what a connection is made with."""
        return {**super().get_connection_args(role), "server_hostname": f"daskgateway-{NAME}"}


@pytest.fixture
async def cluster(rig: Rig) -> AsyncIterator[tuple[Rig, Security]]:
    """Return a proxy with a real scheduler and worker behind it, and how a client trusts them."""
    cert, key = (str(path) for path in rig.authority.leaf(rig.folder, NAME))
    ca = rig.folder / "ca.pem"
    ca.write_text(rig.authority.pem)
    files = {
        f"tls_{role}_{kind}": path
        for role in ("scheduler", "worker", "client")
        for kind, path in (("cert", cert), ("key", key))
    }
    security = Security(tls_ca_file=str(ca), require_encryption=True, **files)
    tls = {f"distributed.scheduler.dashboard.tls.{kind}": path for kind, path in (("cert", cert), ("key", key))}
    with dask.config.set(tls):
        scheduler = Scheduler(
            protocol="tls", host="127.0.0.1", port=0, security=security, dashboard_address="127.0.0.1:0"
        )
        async with scheduler:
            assert scheduler.http_server is not None
            async with Worker(scheduler.address, nthreads=1, security=security, dashboard_address="127.0.0.1:0"):
                rig.publish(NAME, scheduler.port, dashboard_port=scheduler.http_server.port)
                yield (
                    rig,
                    NamedSecurity(
                        tls_ca_file=str(ca), tls_client_cert=cert, tls_client_key=key, require_encryption=True
                    ),
                )


async def test_a_client_computes_through_the_proxy(cluster):
    """Tasks, and twenty megabytes there and back."""
    rig, security = cluster
    async with Client(f"tls://127.0.0.1:{rig.port}", security=security, asynchronous=True) as client:
        assert rig.proxy.counts()[NAME] >= 1
        assert await client.submit(lambda x: x + 1, 41) == 42
        data = bytes(20_000_000)
        future = await client.scatter(data, direct=False)
        assert await client.submit(len, future) == len(data)
        assert await client.gather(future, direct=False) == data


async def test_an_unknown_cluster_fails_at_once(cluster):
    """A client does not wait for its timeout to learn that there is no such cluster."""
    rig, security = cluster
    rig.loaded()
    rig.proxy.routes.delete(NAME)
    began = time.monotonic()

    with pytest.raises(OSError):
        await Client(f"tls://127.0.0.1:{rig.port}", security=security, asynchronous=True, timeout=60)

    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "page", ["status", "individual-task-stream", "individual-progress", "profile", "system", "graph", "workers"]
)
async def test_a_dashboard_page_and_its_websocket(cluster, page: str):
    """The page that Bokeh serves, its files, and the session that it opens."""
    rig, _ = cluster
    ticket = f"{TICKET_COOKIE}={sign(Ticket(NAME, 'alice', time.time() + 60), TICKET_KEY)}"
    headers = {"Cookie": ticket, "Origin": f"http://{HOST}:{rig.port}"}
    async with rig.browser() as browser:
        async with browser.get(rig.url(f"/{page}", HOST), headers=headers) as reply:
            text = await reply.text()
            assert reply.status == 200
        token = text.partition('"token":"')[2].partition('"')[0]
        assert token
        url = rig.url(f"/{page}/ws", HOST)
        socket = await browser.ws_connect(url, headers=headers, protocols=("bokeh", token))
        assert socket.protocol == "bokeh"
        message = await asyncio.wait_for(socket.receive(), 10)
        assert message.type is aiohttp.WSMsgType.TEXT
        await socket.close()
