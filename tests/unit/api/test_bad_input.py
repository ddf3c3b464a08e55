"""Whatever is sent, the answer is a reason in JSON: never a 5xx, never our inside."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.in_process import Gateway
from tidegate.api.app import create_app
from tidegate.api.body import BODY_LIMIT
from tidegate.authn.base import Presented
from tidegate.console.routes import Console
from tidegate.model.principal import Principal

NOT_OBJECTS = {
    "not JSON": b"hello",
    "an array": b"[]",
    "text": b'"x"',
    "a number": b"7",
    "null": b"null",
    "nothing": b"",
    "blanks": b" \n",
    "cut off": b'{"count": ',
    "not UTF-8": b'{"count": "\xff\xfe"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"count": NaN}',
    "infinity": b'{"minimum": -Infinity}',
    "a huge number": b'{"count": ' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"count": "\\ud800"}',
    "twice": b'{"count": 1}{"count": 2}',
}

TAKES_A_BODY = [
    ("POST", "/api/v1/clusters/"),
    ("POST", "/api/v1/clusters/{name}/scale"),
    ("POST", "/api/v1/clusters/{name}/adapt"),
    ("POST", "/api/v2/clusters"),
    ("PATCH", "/api/v2/clusters/{name}"),
    ("POST", "/internal/dashboard-access"),
]


@pytest.fixture
async def running(gateway: Gateway) -> str:
    """The name of a running cluster of alice's."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    return cluster.name


def reason_of(body: Any) -> str:
    """Return the words of an error in either protocol."""
    error = body["error"]
    return error if isinstance(error, str) else error["message"]


@pytest.mark.parametrize("kind", NOT_OBJECTS)
async def test_a_body_that_is_no_object_is_refused_with_a_reason(gateway: Gateway, running: str, kind: str) -> None:
    """Everywhere a body is taken, 422 and a sentence, quickly."""
    client = gateway.client("alice", **{"Content-Type": "application/json"})
    for method, path in TAKES_A_BODY:
        url = path.replace("{name}", running)
        reply = await asyncio.wait_for(client.request(method, url, content=NOT_OBJECTS[kind]), 20)

        assert reply.status_code == 422, (path, reply.text)
        assert reply.headers["content-type"].startswith("application/json")
        assert len(reason_of(reply.json())) < 500


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_is_bounded(gateway: Gateway, running: str, chunked: bool) -> None:
    """20 MB are refused with the limit, whether their size was announced or not, and are not kept in memory.

    With 413, but in version 1, whose official client drops the words of that, with 422.
    """
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(320):
            read += 2**16
            yield b" " * 2**16

    client = gateway.client("alice", **{"Content-Type": "application/json"})
    for method, path in TAKES_A_BODY:
        content: Any = body() if chunked else b" " * (20 * 2**20)
        reply = await client.request(method, path.replace("{name}", running), content=content)

        assert reply.status_code == (422 if path.startswith("/api/v1/") else 413)
        assert f"{BODY_LIMIT:,}" in reason_of(reply.json())


async def test_a_body_within_the_limit_is_read(gateway: Gateway) -> None:
    """The limit is not below what it says."""
    body = b'{"cluster_options": {}' + b" " * (BODY_LIMIT - 23) + b"}"
    assert len(body) == BODY_LIMIT

    assert (await gateway.client("alice").post("/api/v1/clusters/", content=body)).status_code == 201
    assert (await gateway.client("alice").post("/api/v1/clusters/", content=body + b" ")).status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"workers": -1}, "count"),
        ({"workers": "two"}, "count"),
        ({"workers": True}, "count"),
        ({"workers": None}, "count"),
        ({"workers": 1, "adaptive": None}, "workers"),
        ({}, "workers"),
        ({"adaptive": {"minimum": 5, "maximum": 2}}, "minimum"),
        ({"adaptive": {"minimum": "x"}}, "minimum"),
        ({"adaptive": {"lowest": 1}}, "adaptive.lowest"),
        ({"adaptive": 3}, "adaptive"),
        ({"workers": 1, "group": "gpu"}, "group"),
        ({"workers": 1, "group": 7}, "group"),
        ({"worker": 1}, "worker"),
    ],
)
async def test_a_wrong_patch_names_the_field(gateway: Gateway, running: str, body: Any, field: str) -> None:
    """422, and the field is what to change."""
    reply = await gateway.client("alice").patch(f"/api/v2/clusters/{running}", json=body)

    assert reply.status_code == 422
    assert reply.json()["error"]["code"] == "invalid"
    assert reply.json()["error"]["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"options": {"worker_cores": 99}}, "worker_cores"),
        ({"options": {"worker_cores": "x" * 1000}}, "worker_cores"),
        ({"options": {"foo": 1}}, "foo"),
        ({"options": []}, "options"),
        ({"options": {"queue": "short"}}, "queue"),
        ({"hints": {"python": 3}}, "hints.python"),
        ({"hints": {"versions": {"python": "3" * 60}}}, "hints.versions.python"),
        ({"name": "mine"}, "name"),
    ],
)
async def test_a_wrong_creation_names_the_field(gateway: Gateway, body: Any, field: str) -> None:
    """422, and nothing was created."""
    reply = await gateway.client("alice").post("/api/v2/clusters", json=body)

    assert reply.status_code == 422
    assert reply.json()["error"]["field"] == field
    assert (await gateway.client("alice").get("/api/v2/clusters")).json()["clusters"] == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/v2/clusters?limit=0", "limit"),
        ("/api/v2/clusters?limit=501", "limit"),
        ("/api/v2/clusters?limit=x", "limit"),
        ("/api/v2/clusters?state=foo", "state"),
        ("/api/v2/clusters?state=", "state"),
        ("/api/v2/clusters?cursor=%21", "cursor"),
        ("/api/v2/clusters?cursor=W10=", "cursor"),
        ("/api/v2/clusters?cursor=WzFlOTk5LCJ4Il0=", "cursor"),
        ("/api/v2/clusters?cursor=eyJhIjoxfQ==", "cursor"),
        ("/api/v2/events?after=-1", "after"),
        ("/api/v2/events?after=99999999999999999999", "after"),
        ("/api/v2/clusters/NAME/logs?lines=0", "lines"),
    ],
)
async def test_a_wrong_query_names_the_parameter(gateway: Gateway, running: str, path: str, field: str) -> None:
    """422, and the parameter is what to change."""
    reply = await gateway.client("alice").get(path.replace("NAME", running))

    assert reply.status_code == 422, reply.text
    assert reply.json()["error"]["field"] == field


async def test_a_body_must_say_that_it_is_json(gateway: Gateway) -> None:
    """In version 2; a form of a foreign page could be JSON in disguise."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        reply = await gateway.client("alice", **{"Content-Type": kind}).post("/api/v2/clusters", content=b"{}")
        assert reply.status_code == 422
        assert "application/json" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/api/v1/nonsense", "/api/v2/nonsense", "/api/agent/nonsense", "/api", "/nonsense"])
async def test_an_unknown_route_is_404_in_json(gateway: Gateway, path: str) -> None:
    """For everyone, logged in or not."""
    for client in (gateway.client(), gateway.client("alice")):
        reply = await client.get(path)
        assert reply.status_code == 404
        assert reason_of(reply.json()) == "There is nothing at this address"


async def test_a_wrong_method_names_the_right_ones(gateway: Gateway) -> None:
    """405 with Allow."""
    reply = await gateway.client("alice").put("/api/v2/options", json={})

    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET"
    assert reply.json()["error"]["code"] == "method-not-allowed"


@pytest.mark.parametrize(
    "name", ["a%2Fb", "..%2f..", "%00", "%ff", "x" * 5000, "NAME ", "NAME%0a", "'; drop table", "é"]
)
async def test_a_strange_name_is_a_cluster_that_is_not_there(gateway: Gateway, running: str, name: str) -> None:
    """404 or no such route, never an error of ours."""
    for version in ("v1", "v2"):
        reply = await gateway.client("alice").get(f"/api/{version}/clusters/{name.replace('NAME', running)}")
        assert reply.status_code == 404, reply.text


@pytest.mark.parametrize("path", ["usage?cluster=%00", "usage?user=a%00b", "limits?user=%00", "clusters?owner=%00"])
async def test_a_character_that_no_text_has_is_told_by_name(gateway: Gateway, path: str) -> None:
    """Some databases fail at it: it comes to none."""
    reply = await gateway.client("alice").get(f"/api/v2/{path}")
    assert reply.status_code == 422
    assert reply.json()["error"]["field"] == path.partition("?")[2].partition("=")[0]


@pytest.mark.parametrize("query", ["until=0001-01-01", "since=0001-01-01&until=0001-02-01", "since=1969-12-31"])
async def test_days_before_there_were_books_are_refused(gateway: Gateway, query: str) -> None:
    """The calendar goes back further than the days from which the default could be counted."""
    reply = await gateway.client("alice").get(f"/api/v2/usage?{query}")
    assert reply.status_code == 422
    assert "cannot tell of this use" in reply.json()["error"]["message"]


KEYS = st.sampled_from(["options", "hints", "workers", "adaptive", "minimum", "count", "python", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(body=JSON)
async def test_any_json_gets_an_answer_that_is_not_ours_to_blame(gateway: Gateway, body: Any) -> None:
    """Random JSON on every route that takes a body: below 500."""
    cluster = await gateway.create()
    await gateway.become_running(cluster.name)
    client = gateway.client("alice", **{"Content-Type": "application/json"})
    for method, path in TAKES_A_BODY:
        raw = json.dumps(body).encode()
        reply = await client.request(method, path.replace("{name}", cluster.name), content=raw)
        assert reply.status_code < 500, (path, raw, reply.text)


class Exploding:
    """An authenticator with a mistake in it."""

    scheme = "Basic"

    async def authenticate(self, presented: Presented) -> Principal | None:
        """Make the mistake."""
        raise KeyError("our inside")


async def test_a_surprise_is_an_incident(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets a number, the log gets the number and the traceback, and nobody gets our inside."""
    broken = replace(gateway, app=create_app(replace(gateway.services, logins={"exploding": Exploding()}), Console()))

    with caplog.at_level(logging.ERROR):
        replies = [await broken.client("alice").get(f"/api/{v}/options") for v in ("v1", "v2")]
        page = await broken.client("alice", Accept="text/html").get("/")

    for text in (replies[0].json()["error"], replies[1].json()["error"]["message"], page.text):
        incident = re.search(r"incident ([0-9a-f]{8})", text)
        assert incident is not None, text
        assert f"incident {incident[1]}:" in caplog.text
    assert [reply.status_code for reply in (*replies, page)] == [500] * 3
    assert replies[1].json()["error"]["incident"] in replies[1].text
    assert "Traceback" in caplog.text
    assert all("Traceback" not in r.text and "our inside" not in r.text for r in (*replies, page))


async def test_the_health_check_notices_a_store_that_is_gone(gateway: Gateway) -> None:
    """503, so that whoever watches takes it out."""
    await gateway.store.close()

    for path in ("/api/health", "/api/v2/health"):
        reply = await gateway.client().get(path)
        assert (reply.status_code, reply.json()) == (503, {"status": "fail"})
