"""The unmodified ``dask_gateway`` client from PyPI against the application, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dask_gateway import BasicAuth
from dask_gateway import Gateway as OfficialGateway
from dask_gateway.client import ClusterStatus, GatewayClusterError, GatewayServerError, GatewayWarning

from tests.in_process import Gateway, gateway_in_process, listening
from tidegate.api.body import BODY_LIMIT
from tidegate.authn.roster import Roster
from tidegate.model.cluster import Target


@pytest.fixture
async def address(gateway: Gateway) -> AsyncIterator[str]:
    """Where the gateway listens."""
    async with listening(gateway) as address:
        yield address


@pytest.fixture
async def official(gateway: Gateway, address: str) -> AsyncIterator[OfficialGateway]:
    """The official client, as alice."""
    auth = BasicAuth("alice", gateway.tokens["alice"])
    async with OfficialGateway(address, auth=auth, asynchronous=True) as client:
        yield client


async def test_it_lists_submits_reads_and_stops(gateway: Gateway, official: OfficialGateway) -> None:
    """The everyday calls."""
    options = await official.cluster_options()
    options.worker_cores = 2
    name = await official.submit(options)
    await gateway.become_running(name)

    (listed,) = await official.list_clusters()
    report = await official.get_cluster(name)
    started = await official._wait_for_start(name)
    await official.stop_cluster(name)

    assert (listed.name, listed.status, listed.security) == (name, ClusterStatus.RUNNING, None)
    assert report.options["worker_cores"] == 2
    assert started.security is not None
    assert started.dashboard_link.endswith(f"/clusters/{name}/status")
    assert (await gateway.store.load(name)).target is Target.STOPPED
    assert [c.name for c in await official.list_clusters(status="stopping")] == [name]
    assert (await official.get_versions())["server"]["version"]


async def test_it_shows_what_a_limit_did(gateway: Gateway, official: OfficialGateway) -> None:
    """As a warning with both numbers."""
    name = await official.submit()
    await gateway.become_running(name)

    with pytest.warns(GatewayWarning, match=r"1000000000 workers would exceed .* 20 workers. Scaling to 20 instead"):
        await official.scale_cluster(name, 10**9)
    with pytest.warns(GatewayWarning, match="Using `maximum=20, minimum=0` instead"):
        await official.adapt_cluster(name, 0, 100)


async def test_it_shows_every_refusal_in_our_words(gateway: Gateway, official: OfficialGateway) -> None:
    """Each class of errors that this client has, with the sentence in it."""
    name = await official.submit()
    foreign = (await gateway.create("mallory")).name

    with pytest.raises(GatewayClusterError, match=f"cluster {name} is not running"):
        await official.scale_cluster(name, 1)
    with pytest.raises(ValueError, match="Scale expects a non-negative integer, got -1"):
        await official.scale_cluster(name, -1)
    with pytest.raises(ValueError, match=f"Cluster {foreign} not found"):
        await official.get_cluster(foreign)
    with pytest.raises(ValueError, match="Unknown fields"):
        await official.submit(nonsense=1)
    await official.stop_cluster(foreign)
    assert (await gateway.store.load(foreign)).target is Target.RUNNING


async def test_it_shows_why_a_start_failed(gateway: Gateway, official: OfficialGateway) -> None:
    """The reason and the end of the log, not "see logs"."""
    name = await official.submit()
    await gateway.become_failed(name)

    with pytest.raises(GatewayClusterError, match=r"exit code 1(.|\n)*ModuleNotFoundError"):
        await official._wait_for_start(name)


async def test_it_keeps_the_words_of_a_gateway_that_cannot_now(gateway: Gateway, official: OfficialGateway) -> None:
    """503 would lose them; this client shows those of 500."""
    await official.list_clusters()
    await gateway.store.close()

    with pytest.raises(GatewayServerError, match="cannot reach the records"):
        await official.list_clusters()


class OnBehalf(BasicAuth):
    """What the guide for administrators shows: the client has no option for it, but takes an authenticator."""

    def pre_request(self, resp: Any) -> tuple[dict[str, str], Any]:
        """Return the headers of BasicAuth, and one more."""
        headers, context = super().pre_request(resp)
        return {**headers, "Tidegate-On-Behalf-Of": "bob"}, context


async def test_an_administrator_acts_on_behalf_by_an_authenticator(tmp_path: Path) -> None:
    """The cluster is bob's, and connects."""
    async with gateway_in_process(tmp_path, roster=Roster(admins=("alice",))) as gateway, listening(gateway) as address:
        auth = OnBehalf("alice", gateway.tokens["alice"])
        async with OfficialGateway(address, auth=auth, asynchronous=True) as client:
            name = await client.submit()
            await gateway.become_running(name)
            assert (await client._wait_for_start(name)).security is not None
        assert (await gateway.store.load(name)).owner == "bob"


async def test_a_wrong_token_is_refused_after_one_retry(address: str) -> None:
    """As 401, which it raises as it is."""
    async with OfficialGateway(address, auth=BasicAuth("alice", "wrong"), asynchronous=True) as client:
        with pytest.raises(Exception, match="401"):
            await client.list_clusters()


async def test_a_large_body_is_refused_over_real_http(gateway: Gateway, official: OfficialGateway) -> None:
    """20 MB get an answer that names the limit, not a cut connection, and the next request is served."""
    with pytest.raises(Exception, match=f"larger than {BODY_LIMIT:,} bytes"):
        await official.submit(environment="x" * (20 * 2**20))

    assert await official.list_clusters() == []
