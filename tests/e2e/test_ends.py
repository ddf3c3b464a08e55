"""Clusters that end by themselves in a whole gateway, as their users meet it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway
from dask_gateway import GatewayClusterError as OfficialClusterError

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, GatewayClusterError, TokenAuth
from tidegate.client.report import ClusterStatus

pytestmark = pytest.mark.timeout(180)

CONFIG = """
ends: {idle: 20 s, no_client: 3 s, warn: 10 s}
options: {idle_timeout: {minimum: 0}, lifetime: {minimum: 0, default: 0}}
"""

KILLED = """
import sys, time
from tidegate import Gateway, GatewayClusterError, TokenAuth
cluster = Gateway(sys.argv[1], auth=TokenAuth(sys.stdin.readline().strip())).new_cluster()
client = cluster.get_client()
print(cluster.name, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that is in a hurry."""
    with serving(tmp_path_factory.mktemp("ends") / "gateway", CONFIG) as gateway:
        yield gateway


@pytest.fixture
def alice(platform: GatewayProcess) -> Iterator[Gateway]:
    """A user."""
    with Gateway(platform.url, auth=TokenAuth(platform.mint("alice"))) as gateway:
        yield gateway


def reason_of(gateway: Gateway, name: str) -> str | None:
    """Return the code of the reason for which a cluster has stopped."""
    report = gateway.get_cluster(name)
    return report.reason["code"] if report.status is ClusterStatus.STOPPED else None


def kill_proxies(platform: GatewayProcess) -> None:
    """Kill all proxies; others take their place, and what is connected goes on."""
    for pid in platform.processes("tidegate.proxy"):
        os.kill(pid, signal.SIGKILL)


def test_a_cluster_whose_kernel_was_killed_ends(platform: GatewayProcess, alice: Gateway) -> None:
    """Nobody closed anything: its connections are gone, nothing runs, and it is stopped with a reason.

    Those who counted the connections die as well: others count anew.
    """
    command = [sys.executable, "-c", KILLED, platform.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as kernel:
        assert kernel.stdin is not None
        assert kernel.stdout is not None
        kernel.stdin.write(platform.mint("alice") + "\n")
        kernel.stdin.flush()
        name = kernel.stdout.readline().strip()
        assert name
        # The proxies' counts are compared every two seconds.
        eventually_sync(lambda: alice.get_cluster(name).status is ClusterStatus.RUNNING, what="the cluster runs")
        eventually_sync(lambda: alice.get_cluster(name).ending is not None, what="nothing runs on it")
        kernel.send_signal(signal.SIGKILL)
    kill_proxies(platform)
    eventually_sync(lambda: reason_of(alice, name) == "no-client", 60, "it ends")


def test_an_idle_cluster_is_announced_and_ends_unless_it_is_kept(
    platform: GatewayProcess, alice: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The client says so before; to keep it gives it its time anew; then it ends, and its owner reads why.

    Its client stays connected while the proxies are killed, so it is never without one.
    """
    with alice.new_cluster(idle_timeout=0.2) as cluster, cluster.get_client():
        status, controls = cluster._widget().children[0].children
        keep, _ = controls.children
        kill_proxies(platform)
        eventually_sync(lambda: "<strong>Ends:</strong> in" in status.value, what="the notebook shows when it ends")
        assert keep.layout.display is None
        assert "ends in" in repr(cluster)
        eventually_sync(lambda: "nothing runs on it" in caplog.text, 60, "a warning")
        kept = platform.run_cli("clusters", "keep", cluster.name, "--for", "1 hour")
        assert re.search(r"ends in (1 h|59 min)", kept.stdout), kept.stderr
        ending = alice.get_cluster(cluster.name).ending
        assert ending is not None
        assert not ending.announced
        keep.click()
        eventually_sync(lambda: reason_of(alice, cluster.name) == "idle", 90, "it ends")
        assert "nothing ran on it for 12 s" in alice.get_cluster(cluster.name).reason["message"]


def test_a_lifetime_ends_what_runs(alice: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """It is announced; then whoever waits for a result is told, and reads why."""
    with alice.new_cluster(lifetime=0.15) as cluster, cluster.get_client() as client:
        cluster.scale(1)
        waiting = client.submit(time.sleep, 600)
        with pytest.raises(CancelledError):
            waiting.result(timeout=90)
        assert "its maximum lifetime of 9 s is over then" in caplog.text
        eventually_sync(lambda: reason_of(alice, cluster.name) == "lifetime", what="it ends")
        with pytest.raises(GatewayClusterError, match="it has run for 9 s: its maximum lifetime"):
            cluster.get_client()


def test_a_cluster_of_the_official_client_ends_idle_and_says_why(platform: GatewayProcess, alice: Gateway) -> None:
    """That client cannot say whether a cluster is to end with it, so it does not; idle it ends like any other."""
    login = BasicAuth("alice", platform.mint("alice"))
    with OfficialGateway(platform.url, auth=login) as gateway:
        cluster = gateway.new_cluster(idle_timeout=0.15, shutdown_on_close=False)
        name = cluster.name
        cluster.get_client().close()
        cluster.close()
        eventually_sync(lambda: reason_of(alice, name) == "idle", 60, "it ends, and not without clients after 3 s")
        assert gateway.get_cluster(name).status.name == "STOPPED"
        for use in (lambda: gateway.connect(name), lambda: gateway.scale_cluster(name, 1)):
            with pytest.raises((OfficialClusterError, ValueError), match="nothing ran on it for 9 s"):
                use()


def test_an_idle_cluster_ends_while_the_gateway_is_away(platform: GatewayProcess, alice: Gateway) -> None:
    """Its agent waits as long again; the gateway finds it ended when it is back, and tells why as if it had done it."""
    name = alice.submit(idle_timeout=0.15)
    eventually_sync(lambda: alice.get_cluster(name).ending is not None, what="nothing runs on it")
    platform.send(signal.SIGKILL)
    platform.wait()
    assert platform.processes(name)
    eventually_sync(lambda: not platform.processes(name), 60, "it ends by itself")
    platform.start()
    with Gateway(platform.url, auth=TokenAuth(platform.mint("alice"))) as gateway:
        eventually_sync(lambda: reason_of(gateway, name) == "idle", what="its reason")
        assert "nothing ran on it for 9 s" in gateway.get_cluster(name).reason["message"]
