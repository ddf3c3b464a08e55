"""Clusters that end by themselves in a whole gateway, as their users meet it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import Gateway, TokenAuth
from tidegate.client.report import ClusterStatus

pytestmark = pytest.mark.timeout(180)

CONFIG = """
ends: {idle: 20 s, no_client: 3 s, warn: 10 s}
"""

KILLED = """
import sys, time
from tidegate import Gateway, TokenAuth
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


def test_a_cluster_whose_kernel_was_killed_ends(platform: GatewayProcess, alice: Gateway) -> None:
    """Nobody closed anything: its connections are gone, nothing runs, and it is stopped with a reason."""
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
    eventually_sync(lambda: reason_of(alice, name) == "no-client", 60, "it ends")


def test_an_idle_cluster_is_announced_and_ends_unless_it_is_kept(
    alice: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """The client says so before; to keep it gives it its time anew; then it ends, and its owner reads why."""
    with alice.new_cluster(shutdown_on_close=False) as cluster:
        eventually_sync(lambda: "nothing runs on it" in caplog.text, 60, "a warning")
        cluster.keep()
        ending = alice.get_cluster(cluster.name).ending
        assert ending is None or not ending.announced
        eventually_sync(lambda: reason_of(alice, cluster.name) == "idle", 90, "it ends")
        assert "nothing ran on it for 20 s" in alice.get_cluster(cluster.name).reason["message"]
