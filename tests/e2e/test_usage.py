"""Names and use in a whole gateway: one's own name for a cluster, in both clients, and books that miss no second."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway

from tests.e2e.gateways import GatewayProcess, serving
from tests.support import eventually_sync
from tidegate import ClusterStatus, Gateway, GatewayAuthError, GatewayCluster, GatewayError, TokenAuth

pytestmark = pytest.mark.timeout(180)

CONFIG = """
authentication: {admins: [root]}
prices: {core_hour: 3600, currency: EUR}
budgets: {users: {bob: {core_hours: 0.001}}, grace: 2 s}
options:
  worker_cores: {default: 1}
  worker_memory: {default: 1}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway where a second of a core costs one."""
    with serving(tmp_path_factory.mktemp("books") / "gateway", CONFIG) as gateway:
        yield gateway


@pytest.fixture
def alice(platform: GatewayProcess) -> Iterator[Gateway]:
    """A user, with our client."""
    with Gateway(platform.url, auth=TokenAuth(platform.mint("alice"))) as gateway:
        yield gateway


def used(gateway: Gateway) -> float:
    """Return the core-seconds of a user so far."""
    return float(gateway.usage().total.core_hours) * 3600


def test_a_cluster_is_found_by_the_name_that_it_was_given(platform: GatewayProcess, alice: Gateway) -> None:
    """By our client and by the official one; its name is free again at once when it is shut down."""
    with alice.new_cluster(name="training", labels={"project": "ice"}) as cluster:
        assert (cluster.alias, cluster.labels) == ("training", {"project": "ice"})
        assert "training" in repr(cluster)
        with pytest.raises(GatewayError, match=f"your cluster {cluster.name} has this name"):
            alice.new_cluster(name="training")
        with alice.connect("training") as again, again.get_client() as client:
            assert again.name == cluster.name
            assert client.run_on_scheduler(lambda: 7) == 7
        with (
            OfficialGateway(platform.url, auth=BasicAuth("alice", platform.mint("alice"))) as official,
            official.connect("training") as theirs,
        ):
            assert theirs.scheduler_address.endswith(cluster.name)
    with GatewayCluster(platform.url, auth=alice.auth, name="training") as after:
        assert after.name != cluster.name


def test_the_books_miss_no_second(platform: GatewayProcess, alice: Gateway) -> None:
    """What runs is metered from when it runs until it has ended, also while control is killed; then it stands still."""
    with alice.new_cluster(name="metered") as cluster:
        before = used(alice)
        cluster.scale(2)
        cluster.wait_for_workers(2, timeout=60)
        eventually_sync(lambda: alice.get_cluster("metered").workers == 2, 30, "both are on record")
        first, began = used(alice), time.time()
        assert first >= before

        (control,) = platform.processes("tidegate.server.control")
        os.kill(control, signal.SIGKILL)
        eventually_sync(lambda: platform.says("The control process is back"), 60, "control is started again")
        second, ended = used(alice), time.time()
        assert second - first == pytest.approx(2 * (ended - began), abs=1.0)
        name = cluster.name
    eventually_sync(lambda: alice.get_cluster(name).status.ended, 30, "it has ended")

    whole = alice.usage(by="cluster", cluster=name)
    assert [(line.cluster, line.alias) for line in whole] == [(name, "metered")]
    assert whole.total.cost == pytest.approx(whole.total.core_hours * 3600)
    assert used(alice) == used(alice) >= second


def test_an_administrator_reads_everybodys(platform: GatewayProcess, alice: Gateway) -> None:
    """By user; somebody else is told that it is not theirs."""
    with alice.new_cluster() as cluster:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
    with Gateway(platform.url, auth=TokenAuth(platform.mint("root"))) as root:
        told = {line.user: line.core_hours for line in root.usage("user", of="all")}
    assert told["alice"] > 0
    with pytest.raises(GatewayAuthError, match="only an administrator"):
        alice.usage(user="root")


def test_a_spent_budget_ends_what_runs(platform: GatewayProcess) -> None:
    """It is announced, ends with a reason that its owner reads, and nothing new is given to them."""
    with Gateway(platform.url, auth=TokenAuth(platform.mint("bob"))) as bob:
        with bob.new_cluster() as cluster:
            name = cluster.name
            cluster.scale(2)
            eventually_sync(lambda: bob.get_cluster(name).status.ended, 90, "the budget is spent, and the cluster ends")
        report = bob.get_cluster(name)
        assert report.status is ClusterStatus.STOPPED
        assert report.reason["code"] == "budget"
        assert "0.001 core-hours in 30 days for bob" in report.reason["message"]
        with pytest.raises(GatewayError, match=r"the budget is spent: 0\.001 core-hours in 30 days for bob, of which"):
            bob.new_cluster()
        (budget,) = bob.usage().budgets
        assert budget.used > budget.amount
