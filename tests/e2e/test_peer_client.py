"""The official ``dask_gateway`` client, as it comes from PyPI, with real clusters: nobody has to change a notebook."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import dask.config
import httpx
import pytest
from dask_gateway import BasicAuth, Gateway, GatewayCluster, __version__
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewaySecurity, GatewayWarning
from distributed import Client

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually, eventually_sync
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore

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


@pytest.fixture(autouse=True, scope="module")
def quiet_finalizer() -> Iterator[None]:
    """Take the finalizer of ``Gateway`` away: with today's distributed it raises for every object that was closed.

    Python tells of that while it collects garbage, and 3.11 fails if it was compiling something just then.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(Gateway, "__del__")
        yield
        gc.collect()


@contextmanager
def configuration(gateway: GatewayProcess) -> Iterator[None]:
    """Let this process have what the gateway left for its user's notebooks."""
    section = gateway.client_config["gateway"]
    settings = {
        "gateway.address": section["address"],
        "gateway.auth.type": section["auth"]["type"],
        "gateway.auth.kwargs": section["auth"]["kwargs"],
    }
    with dask.config.set(settings):
        yield


@pytest.fixture
def user(gateway: GatewayProcess) -> Iterator[Gateway]:
    """The client of the gateway's user. What a test leaves behind is stopped."""
    with configuration(gateway), Gateway() as user:
        yield user
        for report in user.list_clusters():
            user.stop_cluster(report.name)


@pytest.fixture
def cluster(user: Gateway) -> Iterator[GatewayCluster]:
    """A cluster of theirs, without workers."""
    with user.new_cluster() as cluster:
        yield cluster


@pytest.fixture
async def stranger(gateway: GatewayProcess) -> AsyncIterator[Gateway]:
    """Another user's client, with a token of their own."""
    store = SqlStore(gateway.data)
    await store.start()
    try:
        _, secret = await mint_token(store, Principal("mallory"), "test", now=0.0)
    finally:
        await store.close()
    async with Gateway(gateway.url, auth=BasicAuth("mallory", secret), asynchronous=True) as client:
        yield client


def status_of(user: Gateway, name: str) -> str:
    """Return the name of a cluster's status."""
    status: str = user.get_cluster(name).status.name
    return status


# -- from the first line on --------------------------------------------------------------------------------------------


def test_a_notebook_needs_no_arguments(gateway: GatewayProcess, user: Gateway) -> None:
    """Address and credential come from the file that the first start left; Python's end is the cluster's end."""
    ran = gateway.run_python(WHOLE_DAY)

    assert ran.returncode == 0, ran.stderr
    assert "connected: 42\nconstructed: 5\nleft: []\n" in ran.stdout
    forgotten = ran.stdout.split("forgotten: ")[1].strip()
    eventually_sync(lambda: status_of(user, forgotten) == "STOPPED", 30)


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
    assert status_of(user, name) == "RUNNING", "an object that only connected leaves the cluster"
    user.stop_cluster(name)
    user.stop_cluster(name)
    eventually_sync(lambda: status_of(user, name) == "STOPPED", 30)


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

    with user.new_cluster() as other, pytest.raises(OSError, match="Timed out trying to connect"):
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
    assert status_of(user, cluster.name) == "RUNNING"

    again = GatewayCluster.from_name(cluster.name, shutdown_on_close=True)
    again.close(shutdown=False)
    assert status_of(user, cluster.name) == "RUNNING"

    GatewayCluster.from_name(cluster.name).shutdown()
    eventually_sync(lambda: status_of(user, cluster.name) == "STOPPED", 30)


async def test_everything_in_one_event_loop(gateway: GatewayProcess) -> None:
    """The same without a thread: every method awaited, every object a context."""
    with configuration(gateway):
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


# -- options -----------------------------------------------------------------------------------------------------------


def test_options_are_checked_before_they_are_sent(user: Gateway) -> None:
    """By the client's own fields, made from what the gateway says: bounds, kinds, choices."""
    options = user.cluster_options()

    assert set(options) >= {"worker_cores", "worker_memory", "environment"}
    assert "GiB" in options._fields["worker_memory"].label
    assert options._widget() is not None
    for name, value in [("worker_cores", 0), ("worker_memory", 10.0**6), ("environment", "nonsense")]:
        with pytest.raises(ValueError, match=r"must be|not a valid|<="):
            options[name] = value
    with pytest.raises(TypeError):
        options.worker_cores = "two"
    with pytest.raises(AttributeError, match="No option 'nonsense' available"):
        options.nonsense = 1


def test_options_are_obeyed(user: Gateway) -> None:
    """From the form, from keywords, which win, and from the notebook's configuration."""
    options = user.cluster_options()
    options.worker_memory = 1

    with user.new_cluster(options, worker_cores=2) as cluster:
        cluster.scale(1)
        eventually_sync(lambda: cluster.scheduler_info["workers"], 60)
        (worker,) = cluster.scheduler_info["workers"].values()
    assert (worker["nthreads"], worker["memory_limit"]) == (2, 2**30)

    with dask.config.set({"gateway.cluster.options": {"worker_cores": 2}}):
        assert user.cluster_options().worker_cores == 2
        assert user.cluster_options(use_local_defaults=False).worker_cores == 1
        name = user.submit()
    assert user.get_cluster(name).options["worker_cores"] == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"nonsense": 1}, r"Unknown fields \['nonsense'\]: this gateway offers worker_cores"),
        ({"worker_cores": 10**6}, "cannot set worker_cores to 1000000: it must lie between 1 and"),
        ({"worker_cores": "two"}, "cannot set worker_cores to 'two': it must be a whole number"),
        ({"environment": "nonsense"}, "cannot set environment to 'nonsense': choose one of notebook"),
    ],
)
def test_what_the_client_did_not_check_the_gateway_does(user: Gateway, given: dict[str, Any], words: str) -> None:
    """Keywords go unchecked; nothing is made of wrong ones."""
    for create in (user.submit, user.new_cluster):
        with pytest.raises(ValueError, match=words):
            create(**given)
    assert user.list_clusters() == []


def test_what_the_administrator_fixed_stays(make_gateway: Callable[..., GatewayProcess]) -> None:
    """The form knows one value only; a keyword is refused with the words of who fixed it."""
    gateway = make_gateway("--config", "fixed.yaml")
    (gateway.home / "fixed.yaml").write_text("options:\n  worker_cores: {fixed: true}\n  worker_memory:\n")
    gateway.start()

    with configuration(gateway), Gateway() as user:
        options = user.cluster_options()
        assert list(options) == ["worker_cores", "worker_memory"]
        with pytest.raises(ValueError, match="must be <= 1"):
            options.worker_cores = 2
        with pytest.raises(ValueError, match="it is fixed at 1 by the administrator of this gateway"):
            user.submit(worker_cores=2)


# -- limits and errors -------------------------------------------------------------------------------------------------


def test_too_many_workers_become_as_many_as_fit(user: Gateway, gateway: GatewayProcess) -> None:
    """A warning names both numbers and the resource; it does not hang, as dask-gateway does."""
    options = user.cluster_options()
    options.worker_memory = options._fields["worker_memory"].max  # one such worker fills the machine
    with user.new_cluster(options) as cluster:
        words = r"Scale request of 1000000000 workers would exceed resource limit of 1 .*this machine has"
        with pytest.warns(GatewayWarning, match=words):
            cluster.scale(10**9)
        with pytest.warns(GatewayWarning, match="Using `maximum=1, minimum=0` instead"):
            cluster.adapt(minimum=0, maximum=10**9)
        eventually_sync(lambda: len(gateway.processes("--name")) == 0, 1)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda c: c.scale(-1), "Scale expects a non-negative integer, got -1"),
        (lambda c: c.scale("two"), "Scale expects a non-negative integer, got 'two'"),
        (lambda c: c.scale(1.5), "Scale expects a non-negative integer, got 1.5"),
        (lambda c: c.adapt(minimum=5, maximum=2), "minimum=5 is above maximum=2"),
        (lambda c: c.adapt(minimum=-1), "minimum must be a non-negative integer, got -1"),
        (lambda c: c.gateway.get_cluster("nonsense"), "Cluster nonsense not found"),
        (lambda c: c.gateway.connect("nonsense"), "Cluster nonsense not found"),
    ],
)
def test_bad_input_is_named(cluster: GatewayCluster, act: Callable[[GatewayCluster], object], words: str) -> None:
    """As ``ValueError``, which this client makes of 404 and 422; the cluster is as before."""
    with pytest.raises(ValueError, match=re.escape(words)):
        act(cluster)

    assert status_of(cluster.gateway, cluster.name) == "RUNNING"


@pytest.mark.parametrize("password", ["", "nonsense", "tdg_" + 43 * "x"])
def test_a_wrong_password_opens_nothing(gateway: GatewayProcess, password: str) -> None:
    """401, after the one retry that this client makes."""
    with Gateway(gateway.url, auth=BasicAuth("root", password)) as nobody:
        for ask in (nobody.list_clusters, nobody.cluster_options, nobody.new_cluster):
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                ask()
            assert caught.value.status == 401


async def test_a_foreign_cluster_does_not_exist(user: Gateway, cluster: GatewayCluster, stranger: Gateway) -> None:
    """Not to be seen, sized, stopped or connected to, in the same words as a name that never was."""
    name = cluster.name
    attempts: list[Callable[[str], Any]] = [
        stranger.get_cluster,
        stranger.connect,
        lambda other: stranger.scale_cluster(other, 1),
        lambda other: stranger.adapt_cluster(other, minimum=1),
    ]
    for attempt in attempts:
        answers = []
        for other in (name, "0123456789abcdef"):
            with pytest.raises(ValueError, match="not found") as caught:
                await attempt(other)
            answers.append(str(caught.value).replace(other, "NAME"))
        assert answers[0] == answers[1]
    assert await stranger.list_clusters(list(ClusterStatus)) == []

    await stranger.stop_cluster(name)

    assert await asyncio.to_thread(status_of, user, name) == "RUNNING"


def test_a_stopped_cluster_says_so(user: Gateway, cluster: GatewayCluster) -> None:
    """To whoever sizes it or connects to it; stopping it again is no error."""
    cluster.shutdown()
    with pytest.raises(GatewayClusterError, match=f"cluster {cluster.name} is not running"):
        user.scale_cluster(cluster.name, 1)
    with pytest.raises(GatewayClusterError, match=f"cluster {cluster.name} is not running"):
        user.adapt_cluster(cluster.name, minimum=1)
    with pytest.raises(GatewayClusterError, match="is already stopped"):
        user.connect(cluster.name)
    user.stop_cluster(cluster.name)

    report = user.get_cluster(cluster.name)
    assert report.stop_time >= report.start_time
    assert (report.security, report.scheduler_address, report.dashboard_link) == (None, None, None)


@pytest.fixture
def broken_scheduler(gateway: GatewayProcess) -> Iterator[None]:
    """The user's own configuration keeps every scheduler from starting."""
    file = Path(gateway.home) / ".config" / "dask" / "zz.yaml"
    file.write_text("distributed: {scheduler: {preload: [no_such_module]}}")
    yield
    file.unlink()


@pytest.mark.usefixtures("broken_scheduler")
def test_a_cluster_that_cannot_start_says_why(user: Gateway) -> None:
    """The reason and the end of the log reach the user, where this client by itself would say "see logs"."""
    with pytest.raises(GatewayClusterError, match=r"The scheduler ended by itself(.|\n)*no_such_module") as caught:
        user.new_cluster()

    assert "see logs" not in str(caught.value)
    assert user.list_clusters() == []


def test_a_cluster_that_failed_says_why(user: Gateway, gateway: GatewayProcess) -> None:
    """A scheduler that is killed is told of to whoever connects, and the list shows FAILED."""
    with user.new_cluster(shutdown_on_close=False) as cluster, cluster.get_client(set_as_default=False) as client:
        pid = client.run_on_scheduler(lambda: __import__("os").getpid())
        assert pid in gateway.processes()
        os.kill(pid, signal.SIGKILL)
        eventually_sync(lambda: status_of(user, cluster.name) == "FAILED", 30)

    assert cluster.name in [c.name for c in user.list_clusters("failed")]
    with pytest.raises(GatewayClusterError, match=f"Cluster {cluster.name} has failed: The scheduler ended by itself"):
        user.connect(cluster.name)


# -- speed -------------------------------------------------------------------------------------------------------------


class Counting(Gateway):
    """The official client, but it counts how often it looks whether a cluster has started."""

    looks = 0

    async def _cluster_report(self, cluster_name: str, wait: bool = False) -> Any:
        self.looks += wait
        return await super()._cluster_report(cluster_name, wait=wait)


async def test_a_start_is_one_look(gateway: GatewayProcess) -> None:
    """``?wait`` is held until RUNNING; an early answer would cost this client half a second of sleep."""
    with configuration(gateway):
        async with Counting(asynchronous=True) as user:
            name = await user.submit()

            report = await user._wait_for_start(name)

            assert (report.status, user.looks) == (ClusterStatus.RUNNING, 1)
            assert report.security is not None
            await user.stop_cluster(name)
            await eventually(lambda: not gateway.processes(name), 30)


@pytest.mark.usefixtures("broken_scheduler")
async def test_a_failure_is_one_look(gateway: GatewayProcess) -> None:
    """The reason arrives as the answer to the request that waits for the start."""
    with configuration(gateway):
        async with Counting(asynchronous=True) as user:
            name = await user.submit()

            with pytest.raises(GatewayClusterError, match="failed to start"):
                await user._wait_for_start(name)

            assert user.looks == 1
