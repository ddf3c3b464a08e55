"""What the official ``dask_gateway`` client reads when something cannot be: words, soon, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from typing import Any

import aiohttp
import dask.config
import pytest
from dask_gateway import BasicAuth, Gateway, GatewayCluster
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewayWarning

from tests.e2e.gateways import GatewayProcess
from tests.support import eventually_sync

pytestmark = pytest.mark.timeout(180)

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

    with Gateway(gateway.url, auth=BasicAuth(**gateway.client_config["gateway"]["auth"]["kwargs"])) as user:
        options = user.cluster_options()
        assert list(options) == ["worker_cores", "worker_memory"]
        with pytest.raises(ValueError, match="must be <= 1"):
            options.worker_cores = 2
        with pytest.raises(ValueError, match="it is fixed at 1 by the administrator of this gateway"):
            user.submit(worker_cores=2)


# -- limits and errors -------------------------------------------------------------------------------------------------


def test_too_many_workers_become_as_many_as_fit(user: Gateway) -> None:
    """A warning names both numbers and the resource; it does not hang, as dask-gateway does."""
    options = user.cluster_options()
    options.worker_memory = options._fields["worker_memory"].max  # one such worker fills the machine
    with user.new_cluster(options) as cluster:
        words = r"Scale request of 1000000000 workers would exceed resource limit of 1 .*this machine has"
        with pytest.warns(GatewayWarning, match=words):
            cluster.scale(10**9)
        with pytest.warns(GatewayWarning, match="Using `maximum=1, minimum=0` instead"):
            cluster.adapt(minimum=0, maximum=10**9)
        eventually_sync(lambda: len(cluster.scheduler_info["workers"]) == 1, 60)


def test_bad_input_is_named(user: Gateway, cluster: GatewayCluster) -> None:
    """As ``ValueError``, which this client makes of 404 and 422; the cluster is as before."""
    attempts: dict[str, Callable[[], object]] = {
        "Scale expects a non-negative integer, got -1": lambda: cluster.scale(-1),
        "Scale expects a non-negative integer, got 'two'": lambda: cluster.scale("two"),
        "Scale expects a non-negative integer, got 1.5": lambda: cluster.scale(1.5),
        "minimum=5 is above maximum=2": lambda: cluster.adapt(minimum=5, maximum=2),
        "minimum must be a non-negative integer, got -1": lambda: cluster.adapt(minimum=-1),
        "Cluster nonsense not found": lambda: user.get_cluster("nonsense"),
        "Cluster nothing not found": lambda: user.connect("nothing"),
    }
    for words, attempt in attempts.items():
        with pytest.raises(ValueError, match=re.escape(words)):
            attempt()

    assert user.get_cluster(cluster.name).status is ClusterStatus.RUNNING
    assert not cluster.scheduler_info["workers"]


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

    report = await asyncio.to_thread(user.get_cluster, name)
    assert report.status is ClusterStatus.RUNNING


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
        eventually_sync(lambda: user.get_cluster(cluster.name).status is ClusterStatus.FAILED, 30)

    assert cluster.name in [c.name for c in user.list_clusters("failed")]
    with pytest.raises(GatewayClusterError, match=f"Cluster {cluster.name} has failed: The scheduler ended by itself"):
        user.connect(cluster.name)
