"""The route table in every proxy: whole at the start, in step afterwards, whoever comes, goes, or falls silent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.memory_store import MemoryStore, Tables
from tests.support import eventually
from tests.unit.control.rig import ALICE, Rig
from tests.unit.model.samples import NOW, make_running
from tidegate.control import proxy_link
from tidegate.control.routing import Routing
from tidegate.model.cluster import ClusterState, Target
from tidegate.model.errors import BackendFailed
from tidegate.store.base import Credentials
from tidegate.wire.proxy import Route

SECRETS = Credentials(*(f"secret-{part}" for part in Credentials.__slots__))


class Proxy:
    """Of a proxy, the end of its control socket."""

    def __init__(self, folder: Path, pid: int | None = None) -> None:
        self.folder = folder
        self.pid = pid or os.getpid()
        self.table: dict[str, dict[str, Any]] = {}
        self.ops: list[str] = []
        self.silent = False
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Listen."""
        # A relative path, because that of a test's folder may be longer than a socket's may be.
        with contextlib.chdir(self.folder):
            self._server = await asyncio.start_unix_server(self._serve, f"proxy-{self.pid}.sock", limit=2**20)

    async def stop(self) -> None:
        """Stop listening, and hang up; the socket file stays, as after SIGKILL."""
        self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Cut the connections."""
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    def tell(self, **counts: int) -> None:
        """Tell how many connections there are."""
        for writer in self._writers:
            writer.write(json.dumps({"event": "connections", "counts": counts}).encode() + b"\n")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        while line := await reader.readline():
            message = json.loads(line)
            self.ops.append(message["op"])
            if message["op"] == "replace":
                self.table = {route["name"]: route for route in message["routes"]}
            elif message["op"] == "put":
                self.table[message["route"]["name"]] = message["route"]
            elif message["op"] == "delete":
                self.table.pop(message["name"], None)
            if not self.silent:
                writer.write(json.dumps({"id": message["id"], "ok": True}).encode() + b"\n")


def a_route(name: str = "c1", port: int = 8786) -> Route:
    """Return a route."""
    return Route(name, "127.0.0.1", port, 8787, "secret", "PEM", "key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose path is longer than a socket's may be."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    return deep


@pytest.fixture
def store() -> MemoryStore:
    """An empty store."""
    return MemoryStore(Tables(), lambda: NOW)


@pytest.fixture
async def proxy(folder: Path) -> AsyncIterator[Proxy]:
    """One proxy that listens."""
    proxy = Proxy(folder)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
async def routes(store: MemoryStore, folder: Path) -> AsyncIterator[Routing]:
    """A routing that is started by the test."""
    routes = Routing(store, folder)
    yield routes
    await routes.close()


async def test_a_proxy_gets_the_whole_table_when_it_is_found(store, proxy: Proxy, routes: Routing):
    """What runs and is to go on running, and nothing else, is in it before the start returns."""
    running = make_running()
    ending = replace(running, name="c2", target=Target.STOPPED)
    starting = replace(running, name="c3", state=ClusterState.STARTING)
    for cluster in (running, ending, starting):
        await store.insert(cluster, SECRETS, [])
    proxy.table = {"old": {}}

    await routes.start()

    assert set(proxy.table) == {"c1"}
    assert proxy.table["c1"]["host"] == running.host
    assert proxy.table["c1"]["ca"] == "secret-ca_cert"
    assert routes.proxies() == 1


async def test_secrets_that_cannot_be_read_cost_one_route_and_not_the_start(store, proxy, routes: Routing, caplog):
    """Sealed with a key that is gone: the operator is told, and every other cluster keeps its way."""
    for name in ("c1", "c2"):
        await store.insert(replace(make_running(), name=name), SECRETS, [])
    credentials = store.credentials

    async def unseal(name: str) -> Credentials | None:
        if name == "c1":
            raise BackendFailed("cannot read the secrets of cluster 'c1'", detail="another key")
        return await credentials(name)

    store.credentials = unseal
    await routes.start()
    assert set(proxy.table) == {"c2"}
    assert "no way leads to cluster c1: cannot read the secrets of cluster 'c1' (another key)" in caplog.text


async def test_a_change_is_there_when_it_returns(proxy: Proxy, routes: Routing):
    """Put and delete come back when the proxy has acknowledged."""
    await routes.start()
    await routes.put(a_route())
    assert proxy.table["c1"]["port"] == 8786
    await routes.put(a_route(port=9999))
    assert proxy.table["c1"]["port"] == 9999
    await routes.delete("c1")
    assert proxy.table == {}
    assert proxy.ops == ["replace", "put", "put", "delete"]


async def test_a_session_that_has_ended_is_told_to_every_proxy(proxy: Proxy, routes: Routing):
    """And it has ended there when the call returns."""
    await routes.start()

    await routes.end_vouched("session 1")

    assert proxy.ops[-1] == "end"


async def test_without_a_proxy_nothing_is_waited_for(routes: Routing):
    """There is nobody who could send a client astray."""
    await routes.start()
    async with asyncio.timeout(20):
        await routes.put(a_route())


async def test_a_proxy_that_has_just_come_up_does_not_miss_the_route(folder: Path, routes: Routing):
    """It was not there at the last look; the change waits for it all the same."""
    await routes.start()
    proxy = Proxy(folder)
    await proxy.start()
    await routes.put(a_route())
    assert set(proxy.table) == {"c1"}
    await proxy.stop()


async def test_changes_follow_the_table_in_order(proxy: Proxy, routes: Routing):
    """Many at once, of the same name: the last one stands."""
    await routes.start()
    await asyncio.gather(*(routes.put(a_route(port=n)) for n in range(1, 200)))
    assert proxy.table["c1"]["port"] == 199


async def test_a_connection_that_breaks_is_made_again_with_the_whole_table(proxy: Proxy, routes: Routing):
    """What changed in between is in it."""
    await routes.start()
    await routes.put(a_route())
    proxy.hang_up()
    proxy.table = {}
    await eventually(lambda: set(proxy.table) == {"c1"})
    assert proxy.ops[-1] == "replace"


async def test_a_silent_proxy_is_dropped_and_holds_nobody_up_again(store, folder: Path, proxy: Proxy, caplog):
    """The first change waits for the deadline; those after it do not; when it answers again it is in step."""
    routes = Routing(store, folder, patience=0.05)
    await routes.start()
    proxy.silent = True
    await routes.put(a_route("c1"))
    assert "did not acknowledge within 0.05 s" in caplog.text
    assert routes.proxies() == 0
    proxy.ops.clear()
    # It is connected again, and has been sent the table; it says nothing.
    await eventually(lambda: proxy.ops == ["replace"])
    await routes.put(a_route("c2"))
    await routes.delete("c1")
    assert caplog.text.count("did not acknowledge") == 1

    proxy.silent = False
    proxy.hang_up()
    await eventually(lambda: routes.proxies() == 1 and set(proxy.table) == {"c2"})
    await routes.close()


async def test_a_silent_proxy_does_not_keep_the_others_from_knowing(store, folder: Path, proxy: Proxy):
    """All are told at the same time, and only the silent one is waited for."""
    second = Proxy(folder, pid=os.getppid())
    await second.start()
    routes = Routing(store, folder, patience=30)
    await routes.start()
    second.silent = True
    putting = asyncio.create_task(routes.put(a_route()))
    await eventually(lambda: set(proxy.table) == {"c1"})
    assert not putting.done()
    await second.stop()
    await putting
    await routes.close()


async def test_the_socket_of_a_dead_proxy_is_removed(folder: Path, routes: Routing):
    """Its process is gone: so is what it left behind, and nothing waits for it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    proxy = Proxy(folder, pid=dead.pid)
    await proxy.start()
    await routes.start()
    assert routes.proxies() == 1
    await proxy.stop()
    await eventually(lambda: not list(folder.iterdir()))
    assert routes.proxies() == 0
    await routes.put(a_route())
    assert not routes._links


async def test_a_proxy_that_is_alive_and_refuses_is_tried_again(folder: Path, routes: Routing):
    """Between bind and listen a connection is refused: that is no reason to remove the socket."""
    proxy = Proxy(folder)
    await proxy.start()
    await proxy.stop()
    await routes.start()
    assert routes.proxies() == 0
    (socket,) = folder.iterdir()
    socket.unlink()
    await proxy.start()
    await eventually(lambda: routes.proxies() == 1)
    await proxy.stop()


async def test_connections_are_counted_over_all_proxies(folder: Path, proxy: Proxy, routes: Routing):
    """While one of them is away, nobody knows how many there are."""
    assert routes.connections("c1") is None
    second = Proxy(folder, pid=os.getppid())
    await second.start()
    await routes.start()
    proxy.tell(c1=2, c2=1)
    second.tell(c1=3)
    await eventually(lambda: routes.connections("c1") == 5)
    assert routes.connections("c2") == 1
    assert routes.connections("c3") == 0
    await second.stop()
    await eventually(lambda: routes.connections("c1") is None)


async def test_nonsense_from_a_proxy_breaks_nothing(proxy: Proxy, routes: Routing, caplog):
    """It is logged, and the connection made anew."""
    await routes.start()
    for writer in proxy._writers:
        writer.write(b"[1, 2\n")
    await eventually(lambda: "cannot understand the proxy" in caplog.text)
    await eventually(lambda: routes.proxies() == 1)
    await routes.put(a_route())
    assert set(proxy.table) == {"c1"}


async def test_new_proxies_are_found_while_it_runs(folder: Path, routes: Routing):
    """By looking once a second."""
    await routes.start()
    looking = asyncio.create_task(routes.run())
    proxy = Proxy(folder)
    await proxy.start()
    await eventually(lambda: routes.proxies() == 1)
    looking.cancel()
    await asyncio.wait([looking])
    await proxy.stop()


async def test_a_cluster_has_its_way_before_it_is_called_running_and_loses_it_with_its_end(rig: Rig, tmp_path: Path):
    """From the loop to the proxy."""
    proxy = Proxy(tmp_path)
    await proxy.start()
    name = await rig.bring_up()
    assert set(proxy.table) == {name}
    await rig.clusters.stop(ALICE, name)
    await rig.turn(name)
    assert proxy.table == {}
    await proxy.stop()


def test_nothing_secret_shows():
    """A change's repr leaves out its content."""
    assert "secret" not in repr(proxy_link.Change("put", {"route": a_route().to_json()}))


async def test_a_later_share_epoch_reaches_every_proxy(proxy: Proxy, routes: Routing):
    """It is there when the call returns; the rest of the way stays as it is."""
    await routes.start()
    await routes.put(a_route())
    await routes.raise_epoch("c1", 2)
    assert proxy.table["c1"] == replace(a_route(), share_epoch=2).to_json()


async def test_a_share_epoch_never_falls(proxy: Proxy, routes: Routing):
    """Who opens a way may have read the record before a withdrawal, and two withdrawals may overtake each other."""
    await routes.start()
    await routes.raise_epoch("c1", 2)
    assert proxy.table == {}
    await routes.put(replace(a_route(), share_epoch=1))
    await routes.raise_epoch("c1", 1)
    assert proxy.table["c1"]["share_epoch"] == 2
    await routes.put(replace(a_route(), share_epoch=3))
    assert proxy.table["c1"]["share_epoch"] == 3


async def test_the_share_epoch_of_the_record_is_in_the_table(store, proxy: Proxy, routes: Routing):
    """After a restart as well."""
    await store.insert(replace(make_running(), share_epoch=5), SECRETS, [])
    await routes.start()
    assert proxy.table["c1"]["share_epoch"] == 5
