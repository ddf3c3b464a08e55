"""Our own client with real clusters: what users do with them from a notebook."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from distributed import Client
from distributed.core import Status
from distributed.deploy.cluster import Cluster

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually, eventually_sync
from tidegate import (
    ClusterStatus,
    Gateway,
    GatewayCluster,
    GatewayClusterError,
    GatewayValueError,
    GatewayWarning,
    TokenAuth,
)

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def user(gateway: GatewayProcess) -> Iterator[Gateway]:
    """A client of the gateway's user. What a test leaves behind is stopped."""
    with Gateway(gateway.url, auth=TokenAuth(gateway.token)) as user:
        yield user
        for report in user.list_clusters():
            user.stop_cluster(report.name)


@pytest.fixture
def cluster(user: Gateway) -> Iterator[GatewayCluster]:
    """A cluster of theirs, without workers."""
    with user.new_cluster() as cluster:
        yield cluster


@contextmanager
def dask_configuration(gateway: GatewayProcess, text: str) -> Iterator[None]:
    """Let the user have this in a configuration file of Dask, where their clusters' processes read it."""
    file = gateway.home / ".config" / "dask" / "zz.yaml"
    file.write_text(text)
    try:
        yield
    finally:
        file.unlink()


def workers_of(cluster: GatewayCluster) -> int:
    """Return how many workers the object knows of."""
    return len(cluster.scheduler_info["workers"])


def test_a_cluster_computes_and_ends_with_its_object(user: Gateway, gateway: GatewayProcess) -> None:
    """Four lines and a `with`: a cluster like any other of Dask's."""
    with user.new_cluster(worker_cores=1) as cluster:
        assert isinstance(cluster, Cluster)
        assert cluster.status is Status.running
        cluster.scale(2)
        with cluster.get_client() as client:
            client.wait_for_workers(2, timeout=60)
            assert client.gather(client.map(lambda x: x**2, range(10))) == [x**2 for x in range(10)]
        assert workers_of(cluster) == 2
        assert cluster.name in repr(cluster)
        assert cluster.name in cluster._repr_html_()

    assert cluster.status is Status.closed
    eventually_sync(lambda: user.get_cluster(cluster.name).status is ClusterStatus.STOPPED, 30)


def test_dasks_own_client_connects_where_the_gateway_can_be_asked(cluster: GatewayCluster) -> None:
    """And in the moment in which the cluster ends, before the object has heard of it, the reason is what one reads."""
    assert cluster.scheduler_address.startswith("gateway://")
    with Client(cluster, set_as_default=False) as client:
        assert client.scheduler_info()["type"] == "Scheduler"
    cluster.gateway.stop_cluster(cluster.name)

    with pytest.raises((OSError, GatewayClusterError), match=f"cluster {cluster.name}: it .*stopped"):
        Client(cluster, set_as_default=False)


def test_the_object_follows_the_workers(cluster: GatewayCluster) -> None:
    """Up and down, without being asked."""
    cluster.scale(2)
    eventually_sync(lambda: workers_of(cluster) == 2, 30)
    cluster.scale(1)
    eventually_sync(lambda: workers_of(cluster) == 1, 30)


def test_two_objects_follow_the_same_cluster(user: Gateway, cluster: GatewayCluster) -> None:
    """A second notebook does not take the news away from the first."""
    with user.connect(cluster.name) as other:
        cluster.scale(1)
        eventually_sync(lambda: workers_of(cluster) == workers_of(other) == 1, 30)
        other.scale(2)
        eventually_sync(lambda: workers_of(cluster) == workers_of(other) == 2, 30)

    assert user.get_cluster(cluster.name).status is ClusterStatus.RUNNING, "connecting is not owning"


async def test_everything_works_from_a_loop(gateway: GatewayProcess) -> None:
    """Context managers, awaits, clients and logs, in one event loop and without a thread."""
    async with Gateway(gateway.url, auth=TokenAuth(gateway.token), asynchronous=True) as user:
        options = await user.cluster_options()
        async with user.new_cluster(options, worker_cores=1) as cluster:
            adaptive = cluster.adapt(minimum=1, maximum=2)
            assert (bool(adaptive), adaptive.minimum, adaptive.maximum) == (True, 1, 2)
            await adaptive
            await cluster.wait_for_workers(1, timeout=60)
            async with cluster.get_client() as client:
                assert await client.submit(lambda: 42) == 42
            async with user.connect(cluster.name) as other:
                assert other.name == cluster.name
            assert "Scheduler" in await cluster.get_logs()
            await cluster.scale(0)
            await eventually(lambda: workers_of(cluster) == 0, 30)
            name = cluster.name
        assert name not in [report.name for report in await user.list_clusters()]


def test_a_cluster_can_outlive_its_object(user: Gateway, gateway: GatewayProcess) -> None:
    """With `shutdown=False`, adaptive scaling included; `from_name` finds it again."""
    cluster = user.new_cluster()
    cluster.adapt(minimum=1, maximum=2)
    cluster.close(shutdown=False)

    report = user.get_cluster(cluster.name)
    assert report.status is ClusterStatus.RUNNING
    assert report.adaptive == (1, 2)
    with GatewayCluster.from_name(
        cluster.name, address=gateway.url, auth=TokenAuth(gateway.token), shutdown_on_close=True
    ) as again:
        again.wait_for_workers(1, timeout=60)
    assert user.get_cluster(cluster.name).status in (ClusterStatus.STOPPING, ClusterStatus.STOPPED)


def test_adapt_returns_its_bounds_at_once(cluster: GatewayCluster) -> None:
    """As JupyterLab's panel expects it; the gateway's limit fills in what was left open."""
    adaptive = cluster.adapt(maximum=3)

    assert adaptive
    assert (adaptive.minimum, adaptive.maximum) == (0, 3)
    adaptive.stop()
    assert cluster.gateway.get_cluster(cluster.name).adaptive is None


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda c: c.scale(-1), "Scale expects a non-negative integer, got -1"),
        (lambda c: c.scale("two"), "Scale expects a non-negative integer, got 'two'"),
        (lambda c: c.adapt(minimum=5, maximum=2), "minimum=5 is above maximum=2"),
        (lambda c: c.gateway.new_cluster(nonsense=1), "nonsense"),
        (lambda c: c.gateway.new_cluster(worker_cores=10**6), "cannot set worker_cores to 1000000"),
        (lambda c: c.gateway.get_cluster("a/b"), "cannot find cluster 'a/b'"),
        (lambda c: c.gateway.connect("nonsense"), "cannot find cluster 'nonsense'"),
        (lambda c: c.gateway.stop_cluster("nonsense"), "cannot find cluster 'nonsense'"),
    ],
)
def test_bad_input_is_named(cluster: GatewayCluster, act: object, words: str) -> None:
    """What, which value, which rule; and nothing happens."""
    with pytest.raises(GatewayValueError) as caught:
        act(cluster)  # type: ignore[operator]

    assert words in str(caught.value)
    assert [r.name for r in cluster.gateway.list_clusters()] == [cluster.name]


def test_too_many_workers_become_as_many_as_are_allowed(cluster: GatewayCluster) -> None:
    """With a warning that names the limit; waiting for more than that is refused at once."""
    with pytest.warns(GatewayWarning, match="Scale request of 1000000000 workers would exceed resource limit of"):
        cluster.scale(10**9)
    cluster.scale(0)

    with pytest.raises(GatewayClusterError, match="at the most"):
        cluster.wait_for_workers(10**6)


def test_waiting_ends_early_when_workers_keep_failing(user: Gateway, gateway: GatewayProcess) -> None:
    """With what their logs say, long before the timeout."""
    broken = "distributed: {worker: {preload: [no_such_module]}}"
    with dask_configuration(gateway, broken), user.new_cluster() as cluster:
        cluster.scale(2)
        with pytest.raises(GatewayClusterError) as caught:
            cluster.wait_for_workers(2, timeout=100)

    assert "its workers keep ending" in str(caught.value)
    assert "No module named 'no_such_module'" in caught.value.log_tail


def test_waiting_has_a_timeout(cluster: GatewayCluster) -> None:
    """The same error as with Dask's own clusters."""
    with pytest.raises(TimeoutError, match="0/1 workers"):
        cluster.wait_for_workers(1, timeout=0.1)


def test_a_cluster_that_cannot_start_says_why(user: Gateway, gateway: GatewayProcess) -> None:
    """The reason and the end of the log are the error, and nothing is left running."""
    broken = "distributed: {scheduler: {preload: [no_such_module]}}"
    with dask_configuration(gateway, broken), pytest.raises(GatewayClusterError) as caught:
        user.new_cluster()

    assert "The scheduler ended by itself" in str(caught.value)
    assert "No module named 'no_such_module'" in str(caught.value)
    assert user.list_clusters() == []


def test_a_cluster_that_was_stopped_says_so(user: Gateway, cluster: GatewayCluster) -> None:
    """To whoever connects, by its object or by its name; its clients do not try for half a minute to come back."""
    client = cluster.get_client()

    user.stop_cluster(cluster.name)
    eventually_sync(lambda: client.status == "closed" and cluster.status is Status.closed, 30)
    eventually_sync(lambda: user.get_cluster(cluster.name).status.ended, 30)

    for connect in (lambda: Client(cluster), cluster.get_client, lambda: user.connect(cluster.name)):
        with pytest.raises(GatewayClusterError, match=f"cluster {cluster.name}: it was stopped"):
            connect()


def test_logs_are_there_during_and_after(user: Gateway) -> None:
    """Of every process, by name; workers also by address."""
    with user.new_cluster() as cluster:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
        (address,) = cluster.scheduler_info["workers"]
        logs = cluster.get_logs(cluster=False)
        assert set(logs) == {"Scheduler", "default-1"}
        assert set(cluster.get_logs(cluster=False, scheduler=False, workers=[address])) == {"default-1"}
        assert set(cluster.get_logs(workers=False)) == {"Cluster", "Scheduler"}
    eventually_sync(lambda: user.get_cluster(cluster.name).status.ended, 30)

    assert "Scheduler at" in user.get_logs(cluster.name)["scheduler"]


def test_the_dashboard_link_leads_to_the_dashboard(cluster: GatewayCluster, gateway: GatewayProcess) -> None:
    """A program gets the page with its token, and nobody gets it without."""
    assert httpx.get(cluster.dashboard_link, headers=gateway.headers, timeout=60).status_code == 200
    assert httpx.get(cluster.dashboard_link, timeout=60).status_code != 200


def test_options_are_obeyed(user: Gateway) -> None:
    """By form and by single value; and they are on record."""
    options = user.cluster_options()
    options.worker_memory = "1 GiB"

    with user.new_cluster(options, worker_cores=2) as cluster:
        cluster.scale(1)
        cluster.wait_for_workers(1, timeout=60)
        (worker,) = cluster.scheduler_info["workers"].values()
        assert worker["nthreads"] == 2
        assert worker["memory_limit"] == 2**30
        assert user.get_cluster(cluster.name).options["worker_cores"] == 2


def test_asking_and_connecting_can_be_two_steps(user: Gateway) -> None:
    """`submit` returns at once; lists show the cluster in its state."""
    name = user.submit()

    assert name in [report.name for report in user.list_clusters(["pending", "running"])]
    with user.connect(name, shutdown_on_close=True) as cluster:
        assert [report.name for report in user.list_clusters("running")] == [name]
        assert user.get_cluster(name).security.sni == cluster.security.sni == f"daskgateway-{name}"
    assert user.list_clusters("running") == []


def test_a_client_can_shut_the_cluster_down(user: Gateway, gateway: GatewayProcess) -> None:
    """From inside the loop, where the cluster's methods return awaitables."""
    cluster = GatewayCluster(gateway.url, auth=TokenAuth(gateway.token), worker_cores=1)
    client = cluster.get_client()

    client.shutdown()

    assert cluster.status is Status.closed
    assert cluster.name not in [report.name for report in user.list_clusters()]
    cluster.close()


def test_an_object_that_is_collected_ends_its_cluster(user: Gateway) -> None:
    """`cluster = gateway.new_cluster()` once more in the same cell leaves one cluster, not two."""
    cluster = user.new_cluster()
    name = cluster.name
    del cluster
    gc.collect()

    eventually_sync(lambda: user.get_cluster(name).status.ended, 30)


def test_the_widget_scales_and_tells_what_goes_wrong(cluster: GatewayCluster) -> None:
    """The buttons do what the methods do; errors and warnings stand beside them."""
    tabs = cluster._widget()
    scaling, accordion, message = tabs.children[1].children
    by_hand, by_load = accordion.children
    workers, scale = by_hand.children
    minimum, maximum, adapt = by_load.children

    workers.value = 1
    scale.click()
    cluster.wait_for_workers(1, timeout=60)
    eventually_sync(lambda: "Workers: 1<" in scaling.value, 30)
    assert message.value == ""
    workers.value = -3
    scale.click()
    assert "non-negative integer, got -3" in message.value
    minimum.value, maximum.value = 1, 2
    adapt.click()
    assert message.value == ""
    assert "Adaptive, 1 to 2 workers" in scaling.value
    assert cluster.name in tabs.children[0].children[0].value


def test_versions_that_fit_warn_of_nothing(user: Gateway) -> None:
    """The cluster runs in this very Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", GatewayWarning)
        with user.new_cluster() as cluster:
            assert user.get_cluster(cluster.name).versions["python"] == user.get_versions()["client"]["python"]
