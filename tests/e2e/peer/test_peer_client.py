"""The official ``dask_gateway`` client, as it comes from PyPI, with real clusters: nobody has to change a notebook."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from dask_gateway import Gateway, GatewayCluster, __version__
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewaySecurity
from distributed import Client

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually, eventually_sync

pytestmark = pytest.mark.timeout(180)

WHOLE_DAY = """
from dask_gateway import Gateway, GatewayCluster

gateway = Gateway()
name = gateway.submit(worker_cores=1)
with gateway.connect(name, shutdown_on_close=True) as cluster:
    cluster.scale(1)
    print("connected:", cluster.get_client().submit(sum, [20, 22]).result(timeout=60))
with GatewayCluster() as cluster:
    cluster.adapt(minimum=1, maximum=1)
    print("constructed:", cluster.get_client().submit(sum, [2, 3]).result(timeout=60))
print("left:", [c.name for c in gateway.list_clusters()])
cluster = gateway.new_cluster()
print("forgotten:", cluster.name)
"""


# -- from the first line on --------------------------------------------------------------------------------------------


def test_a_notebook_needs_no_arguments(gateway: GatewayProcess, user: Gateway) -> None:
    """Address and credential come from the file that the first start left; Python's end is the cluster's end."""
    ran = gateway.run_python(WHOLE_DAY)

    assert ran.returncode == 0, ran.stderr
    assert "connected: 42\nconstructed: 5\nleft: []\n" in ran.stdout
    forgotten = ran.stdout.split("forgotten: ")[1].strip()
    eventually_sync(lambda: user.get_cluster(forgotten).status is ClusterStatus.STOPPED, 30)


def test_everything_that_it_can_ask_synchronously(user: Gateway) -> None:
    """Each method of ``Gateway``, in the order of a working day."""
    assert user.get_versions()["client"] == {"version": __version__}
    assert user.get_versions()["server"]["version"]
    assert user.list_clusters() == []

    name = user.submit(worker_cores=1)
    assert [c.name for c in user.list_clusters()] == [name]
    with user.connect(name) as cluster:
        user.adapt_cluster(name, minimum=1, maximum=2)
        eventually_sync(lambda: len(cluster.scheduler_info["workers"]) == 1, 60)
        user.adapt_cluster(name, active=False)
        user.scale_cluster(name, 2)
        eventually_sync(lambda: len(cluster.scheduler_info["workers"]) == 2, 60)
        user.scale_cluster(name, 0)
        eventually_sync(lambda: not cluster.scheduler_info["workers"], 60)
    assert user.get_cluster(name).status is ClusterStatus.RUNNING, "an object that only connected leaves the cluster"
    user.stop_cluster(name)
    user.stop_cluster(name)
    eventually_sync(lambda: user.get_cluster(name).status is ClusterStatus.STOPPED, 30)


def test_lists_are_by_status(user: Gateway, cluster: GatewayCluster) -> None:
    """A name, an enum member, several, in any case; active clusters when nothing is asked for."""

    def listed(status: Any = None) -> set[str]:
        return {c.name for c in user.list_clusters(status)}

    assert listed() == listed("running") == listed(ClusterStatus.RUNNING) == {cluster.name}
    assert listed(["PENDING", "Running"]) == {cluster.name}
    assert cluster.name not in listed("stopped") | listed("failed") | listed("pending")
    with pytest.raises(ValueError, match="not a valid ClusterStatus"):
        user.list_clusters("dead")
    cluster.shutdown()
    eventually_sync(lambda: cluster.name in listed("stopped"), 30)
    assert listed() == set()


def test_a_report_has_all_that_it_knows(user: Gateway, cluster: GatewayCluster, gateway: GatewayProcess) -> None:
    """Addresses, times, options; the credentials with a single report only."""
    (listed,) = user.list_clusters()
    report = user.get_cluster(cluster.name)

    assert report.options["worker_cores"] == 1
    assert report.scheduler_address == f"gateway://{gateway.url.removeprefix('http://')}/{cluster.name}"
    assert report.dashboard_link == cluster.dashboard_link == f"{gateway.url}/clusters/{cluster.name}/status"
    assert report.start_time is not None
    assert report.stop_time is None
    assert listed.security is None
    assert isinstance(report.security, GatewaySecurity)
    assert "BEGIN" not in repr(report.security)


def test_the_client_connects_by_tls_with_its_own_certificate(user: Gateway, cluster: GatewayCluster) -> None:
    """``Client`` takes the cluster, or its address with its security; nobody comes in with another cluster's."""
    with cluster.get_client(set_as_default=False) as client:
        assert client.scheduler_info(n_workers=-1)["address"].startswith("tls://")
    report = user.get_cluster(cluster.name)
    with Client(report.scheduler_address, security=report.security, set_as_default=False) as client:
        assert client.run_on_scheduler(lambda: 42) == 42

    # Dask tries until its time is up, or gives up at the first refusal that it has words for: nobody is let in.
    refused = "Timed out trying to connect|TLS certificate does not match"
    with user.new_cluster() as other, pytest.raises(OSError, match=refused):
        Client(report.scheduler_address, security=other.security, set_as_default=False, timeout=2)


def test_an_object_looks_as_it_did(cluster: GatewayCluster, gateway: GatewayProcess) -> None:
    """Text, HTML and widget bear name and link; the link opens for its owner and for nobody else."""
    assert repr(cluster) == f"GatewayCluster<{cluster.name}, status=running>"
    assert cluster.name in cluster._repr_html_()
    assert cluster.dashboard_link in cluster._repr_html_()
    assert cluster._widget() is not None
    assert httpx.get(cluster.dashboard_link, headers=gateway.headers, timeout=60).status_code == 200
    assert httpx.get(cluster.dashboard_link, timeout=60).status_code == 401


def test_an_object_may_leave_its_cluster_and_another_may_end_it(user: Gateway) -> None:
    """``close(shutdown=False)``, ``from_name`` and ``shutdown_on_close``."""
    cluster = user.new_cluster(shutdown_on_close=False)
    cluster.close()
    assert user.get_cluster(cluster.name).status is ClusterStatus.RUNNING

    again = GatewayCluster.from_name(cluster.name, shutdown_on_close=True)
    again.close(shutdown=False)
    assert user.get_cluster(cluster.name).status is ClusterStatus.RUNNING

    GatewayCluster.from_name(cluster.name).shutdown()
    eventually_sync(lambda: user.get_cluster(cluster.name).status is ClusterStatus.STOPPED, 30)


@pytest.mark.usefixtures("configured")
async def test_everything_in_one_event_loop() -> None:
    """The same without a thread: every method awaited, every object a context."""
    async with Gateway(asynchronous=True) as user:
        options = await user.cluster_options()
        options.worker_cores = 1
        async with user.new_cluster(options) as cluster:
            name = cluster.name
            assert [c.name for c in await user.list_clusters("running")] == [name]
            await cluster.scale(1)
            async with cluster.get_client() as client:
                assert await client.submit(sum, [20, 22]) == 42
            await cluster.adapt(minimum=0, maximum=1)
            async with user.connect(name) as other:
                assert other.security is not None
            await user.scale_cluster(name, 0)
            await user.adapt_cluster(name, active=False)
        submitted = await user.submit()
        async with GatewayCluster.from_name(submitted, asynchronous=True) as cluster:
            assert cluster.status == "running"
        await user.stop_cluster(submitted)
        assert await user.list_clusters() == []
        assert (await user.get_versions())["server"]["version"]
        async with GatewayCluster(asynchronous=True, worker_cores=1) as cluster:
            assert (await user.get_cluster(cluster.name)).options["worker_cores"] == 1


# -- speed -------------------------------------------------------------------------------------------------------------


class Counting(Gateway):
    """The official client, but it counts how often it looks whether a cluster has started."""

    looks = 0

    async def _cluster_report(self, cluster_name: str, wait: bool = False) -> Any:
        self.looks += wait
        return await super()._cluster_report(cluster_name, wait=wait)


@pytest.mark.usefixtures("configured")
async def test_a_start_is_one_look(gateway: GatewayProcess) -> None:
    """``?wait`` is held until RUNNING; an early answer would cost this client half a second of sleep."""
    async with Counting(asynchronous=True) as user:
        name = await user.submit()

        report = await user._wait_for_start(name)

        assert (report.status, user.looks) == (ClusterStatus.RUNNING, 1)
        await user.stop_cluster(name)
        await eventually(lambda: not gateway.processes(name), 30)


@pytest.mark.usefixtures("configured", "broken_scheduler")
async def test_a_failure_is_one_look() -> None:
    """The reason arrives as the answer to the request that waits for the start."""
    async with Counting(asynchronous=True) as user:
        name = await user.submit()

        with pytest.raises(GatewayClusterError, match="failed to start"):
            await user._wait_for_start(name)

        assert user.looks == 1
