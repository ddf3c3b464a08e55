"""Bodies of the dask-gateway protocol, made up: right ones, nearly right ones, and bytes that are no JSON at all.

Whatever is sent, the answer is one that the official client understands, and the record keeps within its limits.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.in_process import Gateway, gateway_in_process
from tidegate.model.cluster import Cluster

UNDERSTOOD = {200, 201, 204, 404, 409, 422}
"""Statuses of which the official client shows the words, or knows what they mean."""

KEYS = st.sampled_from(
    ["count", "minimum", "maximum", "active", "cluster_options", "worker_cores", "worker_memory", "x"]
)
NUMBERS = st.one_of(st.integers(), st.integers(-1, 30), st.floats(), st.sampled_from([10**400, -(10**400), 1e308, 0.1]))
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.sampled_from(["3", "NaN", "\ud800", "a\0b"])
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)
OBJECTS = st.dictionaries(KEYS, ANYTHING, max_size=5)
SIZES = st.dictionaries(st.sampled_from(["count", "minimum", "maximum", "active"]), LEAVES, max_size=4)
CREATIONS = st.fixed_dictionaries(
    {"cluster_options": st.dictionaries(st.sampled_from(["worker_cores", "worker_memory", "profile", "x"]), LEAVES)}
)
BODIES = st.one_of(
    st.one_of(OBJECTS, SIZES, CREATIONS, ANYTHING).map(lambda body: json.dumps(body).encode()),
    st.binary(max_size=50),
    st.one_of(SIZES, CREATIONS).map(lambda body: json.dumps(body).encode("utf-16")),
    st.one_of(SIZES, CREATIONS).flatmap(lambda body: st.integers(0, 40).map(lambda at: json.dumps(body).encode()[:at])),
)
PATHS = st.sampled_from(["/api/v1/clusters/", "/api/v1/clusters/{name}/scale", "/api/v1/clusters/{name}/adapt"])


@dataclass
class Asked:
    """A gateway in this process, asked from outside of any loop."""

    runner: asyncio.Runner
    gateway: Gateway
    client: httpx.AsyncClient
    name: str

    def post(self, path: str, body: bytes) -> httpx.Response:
        """Send a body."""
        headers = {"Content-Type": "application/json"}
        return self.runner.run(self.client.post(path.replace("{name}", self.name), content=body, headers=headers))

    def load(self, name: str) -> Cluster:
        """Return a record."""
        found: Cluster = self.runner.run(self.gateway.store.load(name))
        return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A gateway with a running cluster of alice's."""
    folder: Path = tmp_path_factory.mktemp("asked")
    with asyncio.Runner() as runner:
        opening = gateway_in_process(folder)
        gateway = runner.run(opening.__aenter__())
        try:
            cluster = runner.run(gateway.create())
            runner.run(gateway.become_running(cluster.name))
            yield Asked(runner, gateway, gateway.client("alice"), cluster.name)
        finally:
            runner.run(opening.__aexit__(None, None, None))


@settings(deadline=None)
@given(PATHS, BODIES)
def test_any_body_gets_an_answer_of_the_protocol(asked: Asked, path: str, body: bytes) -> None:
    """Each status says what dask-gateway's says, errors are words, and no size is beyond its limit."""
    reply = asked.post(path, body)
    event(f"{path}: {reply.status_code}")

    assert reply.status_code in UNDERSTOOD, (path, body, reply.text)
    told: Any = reply.json()
    if reply.status_code >= 400:
        assert list(told) == ["error"], (path, body, reply.text)
        assert isinstance(told["error"], str)
        assert 0 < len(told["error"]) < 1000, (path, body, reply.text)
    elif reply.status_code == 201:
        assert list(told) == ["name"]
        made = asked.load(told["name"])
        assert (1 <= made.options["worker_cores"] <= 8, 0.5 <= made.options["worker_memory"] <= 16) == (True, True)
    else:
        assert set(told) == {"ok", "msg"}
        group = asked.load(asked.name).group()
        most = asked.load(asked.name).spec.max_workers
        assert 0 <= group.wanted <= most
        assert group.adaptive is None or 0 <= group.adaptive.minimum <= group.adaptive.maximum <= most
