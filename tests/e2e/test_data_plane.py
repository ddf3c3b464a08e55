"""Every process between a client and its scheduler is killed, again and again, and the client sees only its result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.e2e.gateways import GatewayProcess
from tests.e2e.test_restart import connected, knocking, slow_task
from tests.support import eventually_sync
from tidegate.server.listener import find_living
from tidegate.wire.holder import connect

MakeGateway = Callable[..., GatewayProcess]

pytestmark = pytest.mark.timeout(240)


def kill_and_wait_for_another(gateway: GatewayProcess, module: str) -> None:
    """Kill every process that runs a module, and wait until as many others run it."""
    before = set(gateway.processes(f"-m {module}"))
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually_sync(
        lambda: len(set(gateway.processes(f"-m {module}")) - before) == len(before), 30, f"{module} is started again"
    )


def holder_answers(gateway: GatewayProcess) -> bool:
    """Whether there is a holder to connect to."""
    try:
        connect(gateway.data / "run").close()
    except OSError:
        return False
    return True


def test_a_client_that_computes_survives_the_death_of_every_process_in_between(make_gateway: MakeGateway) -> None:
    """All proxies, the holder, proxies again, the supervisor, a new version's start: one connection, all futures."""
    gateway = make_gateway().start()
    started, go_on = gateway.folder / "started", gateway.folder / "go-on"
    with connected(gateway, workers=2) as (_cluster, client), knocking(gateway) as refused:
        connection = client.scheduler_comm.comm
        proxies = len(gateway.processes("-m tidegate.proxy"))
        # Each its own: what Dask puts behind a task that does not end would wait for it, not for the data plane.
        busy, free = client.scheduler_info()["workers"]
        (data,) = client.scatter([bytes(range(256)) * 4000], workers=[free])
        waiting = client.submit(slow_task(started, go_on), 7, workers=[busy])
        eventually_sync(started.exists, 30, "the task runs")

        for _ in range(3):
            kill_and_wait_for_another(gateway, "tidegate.proxy")
            assert client.submit(len, data, workers=[free]).result(timeout=30) == 256 * 4000
        kill_and_wait_for_another(gateway, "tidegate.holder")
        eventually_sync(lambda: holder_answers(gateway), 30)
        assert sum(client.gather(client.map(lambda x: x, range(50), workers=[free]))) == 1225
        eventually_sync(lambda: all_held(gateway), 30, "the new holder knows everything")
        kill_and_wait_for_another(gateway, "tidegate.proxy")
        gateway.send(signal.SIGKILL)
        gateway.wait()
        gateway.start()
        # One that was only just starting when the supervisor was killed comes late, and is sent away again.
        eventually_sync(lambda: len(gateway.processes("-m tidegate.proxy")) == proxies, 30, "one too many ends")
        kill_and_wait_for_another(gateway, "tidegate.proxy")
        go_on.touch()

        assert waiting.result(timeout=60) == 49
        assert client.gather(data) == bytes(range(256)) * 4000
        assert client.scheduler_comm.comm is connection, "the connection was cut and made anew"
    assert refused == []


def test_the_holder_is_restored_when_the_supervisor_was_dead(make_gateway: MakeGateway) -> None:
    """Proxies alone hold the port then; the next supervisor needs not bind it, and gets the socket all the same."""
    gateway = make_gateway().start()
    url = gateway.url
    with connected(gateway) as (_cluster, client), knocking(gateway) as refused:
        gateway.send(signal.SIGKILL)
        gateway.wait()
        (holder,) = gateway.processes("-m tidegate.holder")
        os.kill(holder, signal.SIGKILL)
        assert client.submit(int, 7).result(timeout=30) == 7

        gateway.start()

        assert gateway.url == url
        assert client.submit(int, 8).result(timeout=30) == 8
    assert refused == []


def test_a_holder_that_does_not_answer_is_replaced(make_gateway: MakeGateway) -> None:
    """A stopped process keeps nobody from starting; who hangs on it is told to the next one."""
    gateway = make_gateway().start()
    with connected(gateway) as (_cluster, client):
        gateway.send(signal.SIGKILL)
        gateway.wait()
        (holder,) = gateway.processes("-m tidegate.holder")
        os.kill(holder, signal.SIGSTOP)

        gateway.start()

        assert holder not in gateway.processes("-m tidegate.holder")
        assert client.submit(int, 7).result(timeout=30) == 7


def all_held(gateway: GatewayProcess) -> bool:
    """Whether every proxy has told the holder all that it has."""
    living = find_living(gateway.data / "run")
    there = set(gateway.processes("-m tidegate.proxy"))
    return {proxy.pid for proxy in living} == there and all(proxy.status["held"] for proxy in living)
