"""Stopping, killing and starting again: what computes goes on, and nothing is left that nobody has on record."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from distributed import Client

from tests.e2e.gateways import GatewayProcess
from tests.support import ANY_TLS, eventually_sync
from tidegate import Gateway
from tidegate.client.auth import TokenAuth

MakeGateway = Callable[..., GatewayProcess]

pytestmark = pytest.mark.timeout(240)


def slow_task(started: Path, go_on: Path) -> Callable[[int], int]:
    """Return a task that says that it runs, and waits until the test lets it go on.

    It is made here so that it is sent to the worker by value: the worker cannot import this file.
    """
    begin, end = str(started), str(go_on)

    def square(number: int) -> int:
        import pathlib
        import time

        pathlib.Path(begin).touch()
        while not pathlib.Path(end).exists():
            time.sleep(0.02)
        return number * number

    return square


@contextmanager
def connected(gateway: GatewayProcess, *, workers: int = 1) -> Iterator[tuple[Any, Client]]:
    """Return a cluster with workers, and a Dask client. Both are closed in the end; the cluster goes on."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        cluster = user.new_cluster(shutdown_on_close=False)
        cluster.scale(workers)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
            yield cluster, client
        cluster.close(shutdown=False)


def clusters_of(gateway: GatewayProcess) -> dict[str, str]:
    """Return name and state of the user's clusters, as the API says."""
    answer = httpx.get(f"{gateway.url}/api/v2/clusters", headers=gateway.headers, timeout=30, verify=ANY_TLS)
    assert answer.status_code == 200, answer.text
    return {c["name"]: c["state"] for c in answer.json()["clusters"]}


def state_of(gateway: GatewayProcess, name: str) -> str:
    """Return the state of one cluster, or nothing when the API cannot be reached."""
    try:
        return clusters_of(gateway).get(name, "")
    except (httpx.HTTPError, AssertionError):
        return ""


@contextmanager
def knocking(gateway: GatewayProcess) -> Iterator[list[OSError]]:
    """Connect to the gateway's port without pause, and collect what was refused."""
    where = urlsplit(gateway.url)
    refused: list[OSError] = []
    over = threading.Event()

    def knock() -> None:
        while not over.wait(0.005):
            try:
                socket.create_connection((where.hostname or "", where.port or 0), timeout=30).close()
            except OSError as error:
                refused.append(error)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield refused
    finally:
        over.set()
        thread.join()


def control_pid(gateway: GatewayProcess) -> int:
    """Return the control process."""
    (pid,) = gateway.processes("tidegate.server.control")
    return pid


@pytest.mark.parametrize("victim", ["supervisor", "control"])
def test_a_computation_goes_on_when_the_server_is_killed(make_gateway: MakeGateway, victim: str) -> None:
    """SIGKILL in the middle of a task: its result arrives over the connection that was never cut."""
    gateway = make_gateway().start()
    started, go_on = gateway.folder / "started", gateway.folder / "go-on"
    with connected(gateway) as (cluster, client):
        connection = client.scheduler_comm.comm
        future = client.submit(slow_task(started, go_on), 7)
        eventually_sync(started.exists, 30, "the task runs")

        if victim == "supervisor":
            killed = control_pid(gateway)
            gateway.send(signal.SIGKILL)
            assert gateway.wait() == -signal.SIGKILL
            eventually_sync(lambda: not _alive(killed), 30, "control dies with its supervisor")
            gateway.start()
        else:
            os.kill(control_pid(gateway), signal.SIGKILL)
            eventually_sync(lambda: gateway.says("The control process is back"), 60, "control is started again")
        go_on.touch()

        assert future.result(timeout=60) == 49
        assert client.scheduler_comm.comm is connection, "the connection was cut and made anew"
        assert clusters_of(gateway) == {cluster.name: "running"}

        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)


def test_a_restart_refuses_no_connection(make_gateway: MakeGateway) -> None:
    """The listening socket lives in the holder, and the next supervisor gets it there."""
    gateway = make_gateway().start()
    url = gateway.url
    with connected(gateway), knocking(gateway) as refused:
        gateway.send(signal.SIGKILL)
        gateway.wait()
        gateway.start()

        assert gateway.url == url
    assert refused == []


def test_a_killed_proxy_is_started_again_on_the_same_socket(make_gateway: MakeGateway) -> None:
    """Connections wait in the kernel's queue meanwhile; none is refused."""
    gateway = make_gateway().start()
    before = set(gateway.processes("tidegate.proxy"))
    with knocking(gateway) as refused:
        for proxy in before:
            os.kill(proxy, signal.SIGKILL)
        eventually_sync(lambda: set(gateway.processes("tidegate.proxy")) - before, 30, "there is a new proxy")
        assert httpx.get(f"{gateway.url}/api/v2/health", timeout=30).status_code == 200
    assert refused == []


def test_clusters_are_taken_over_when_everything_of_the_server_was_killed(make_gateway: MakeGateway) -> None:
    """Even without a proxy left: the next start opens the way again, and the client comes back by itself."""
    gateway = make_gateway().start()
    with connected(gateway) as (cluster, client):
        for pid in (gateway.process.pid, *gateway.processes("tidegate.proxy")):
            os.kill(pid, signal.SIGKILL)
        gateway.wait()
        gateway.arguments[gateway.arguments.index("127.0.0.1:0")] = urlsplit(gateway.url).netloc
        gateway.start()

        eventually_sync(lambda: state_of(gateway, cluster.name) == "running", 30, "the cluster is taken over")
        eventually_sync(lambda: client.status == "running" and client.submit(int, 7).result(30) == 7, 60)


def test_one_ctrl_c_stops_the_gateway_and_names_what_goes_on(make_gateway: MakeGateway) -> None:
    """The scheduler and its workers are still there afterwards, and the next start has the cluster."""
    gateway = make_gateway().start()
    with connected(gateway) as (cluster, client):
        gateway.send(signal.SIGINT)
        assert gateway.wait() == 0

        assert cluster.name in gateway.text
        assert "tidegate clusters stop NAME" in gateway.text
        assert gateway.processes("tidegate.server.control") == []
        assert client.submit(int, 7).result(timeout=30) == 7, "the connection of the client goes on"
        gateway.start()
        assert clusters_of(gateway) == {cluster.name: "running"}


def test_a_second_ctrl_c_ends_the_clusters_and_waits_until_they_are_gone(make_gateway: MakeGateway) -> None:
    """When the command returns, no process of the gateway or of a cluster is left."""
    gateway = make_gateway().start()
    with connected(gateway):
        pass
    gateway.send(signal.SIGINT)
    eventually_sync(lambda: gateway.says("press Ctrl-C again"), 30)

    gateway.send(signal.SIGINT)
    assert gateway.wait() == 0

    assert "nothing is left running" in gateway.text
    assert gateway.processes("distributed") == gateway.processes("keeper") == []
    eventually_sync(lambda: not gateway.processes(), 30, "the proxies have ended, too")


def test_ctrl_c_without_clusters_ends_at_once(make_gateway: MakeGateway) -> None:
    """Nobody has to wait for, or press, a second one."""
    gateway = make_gateway().start()
    gateway.send(signal.SIGINT)

    assert gateway.wait() == 0
    assert "no cluster is running" in gateway.text
    assert not gateway.says("press Ctrl-C again")
    eventually_sync(lambda: not gateway.processes(), 30, "nothing is left")


def test_ctrl_c_during_the_start_leaves_nothing(make_gateway: MakeGateway) -> None:
    """Not even a proxy that holds the port."""
    gateway = make_gateway()
    gateway.launch()
    eventually_sync(lambda: gateway.processes("tidegate.proxy"), 30, "the start is under way")

    gateway.send(signal.SIGINT)
    gateway.wait()

    eventually_sync(lambda: not gateway.processes(), 30, "nothing is left")


def test_sigterm_stops_quickly_and_clusters_go_on(make_gateway: MakeGateway) -> None:
    """What a service manager sends must not cost a computation."""
    gateway = make_gateway().start()
    with connected(gateway) as (cluster, client):
        gateway.send(signal.SIGTERM)

        assert gateway.wait() == 0
        assert not gateway.says("press Ctrl-C again")
        assert client.submit(int, 7).result(timeout=30) == 7
        gateway.start()
        assert clusters_of(gateway) == {cluster.name: "running"}


def test_a_cluster_that_died_while_the_gateway_was_away_has_a_reason(make_gateway: MakeGateway) -> None:
    """The next start does not show it as running, and does not start it again."""
    gateway = make_gateway().start()
    with connected(gateway) as (cluster, _client):
        name = cluster.name
        gateway.send(signal.SIGTERM)
        gateway.wait()
    for pid in gateway.processes(name):
        os.kill(pid, signal.SIGKILL)
    eventually_sync(lambda: not gateway.processes(name), 30)

    gateway.start()

    eventually_sync(lambda: state_of(gateway, name) == "failed", 30, "the cluster has failed")
    answer = httpx.get(f"{gateway.url}/api/v2/clusters/{name}", headers=gateway.headers)
    assert answer.json()["reason"]["message"]


def test_a_gateway_that_moves_says_which_clusters_it_cannot_size(make_gateway: MakeGateway) -> None:
    """Their agents know the old address only; what they compute goes on, and they can be stopped."""
    gateway = make_gateway().start()
    old = gateway.url
    with connected(gateway) as (cluster, client):
        gateway.send(signal.SIGTERM)
        gateway.wait()
        with socket.create_server(("127.0.0.1", 0)) as free:
            gateway.arguments[gateway.arguments.index("127.0.0.1:0")] = f"127.0.0.1:{free.getsockname()[1]}"
        gateway.start()

        assert gateway.url != old
        assert gateway.says(f"Clusters that run ({cluster.name}) know the gateway at {old} only")
        assert client.submit(int, 7).result(timeout=30) == 7
        there = f"{gateway.url}/api/v2/clusters/{cluster.name}"
        assert httpx.delete(there, headers=gateway.headers).status_code == 202
        eventually_sync(lambda: not gateway.processes(cluster.name), 30, "the cluster is gone")


def test_the_data_folder_may_lie_deeper_than_a_socket_address_is_long(make_gateway: MakeGateway) -> None:
    """107 bytes are soon used up."""
    gateway = make_gateway(name="/".join(["a-folder-in-a-folder"] * 8)).start()

    with connected(gateway) as (_cluster, client):
        assert client.submit(int, 7).result(timeout=30) == 7


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
