"""The official ``dask_gateway`` client, configured as a notebook of the gateway's user is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import dask.config
import pytest
from dask_gateway import BasicAuth, Gateway, GatewayCluster

from tests.e2e.gateways import GatewayProcess
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore


@pytest.fixture
def configured(gateway: GatewayProcess) -> Iterator[None]:
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
def user(configured: None) -> Iterator[Gateway]:
    """The client of the gateway's user. What a test leaves behind is stopped."""
    with Gateway() as user:
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


@pytest.fixture
def broken_scheduler(gateway: GatewayProcess) -> Iterator[None]:
    """The user's own configuration keeps every scheduler from starting."""
    file = gateway.home / ".config" / "dask" / "zz.yaml"
    file.write_text("distributed: {scheduler: {preload: [no_such_module]}}")
    yield
    file.unlink()
