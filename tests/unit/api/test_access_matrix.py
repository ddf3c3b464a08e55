"""Every route of the application, called by nobody, with a wrong token, by another tenant, by the owner, and with a
read-only token of the owner's.

A route without a row here fails the test, so nobody can add one without saying who may call it. Foreign is told in the
same bytes as absent, everywhere.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.routing import Route

from tests.in_process import Gateway
from tidegate.api.access import RULES, GuardedRoute, anyone
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal, Scope
from tidegate.store.base import Credentials


@dataclass(frozen=True)
class Row:
    """The status for nobody, a wrong token, another tenant, the owner and their read-only token, and what is sent."""

    nobody: int
    wrong: int
    stranger: int
    owner: int
    body: bytes = b""
    reader: int = 0


def same(status: int, body: bytes = b"") -> Row:
    """Return the row of what is the same for all."""
    return Row(status, status, status, status, body, status)


def mine(owner: int, body: bytes = b"", stranger: int = 404) -> Row:
    """Return the row of what shows something to its owner."""
    return Row(401, 401, stranger, owner, body, owner)


def full(owner: int, body: bytes = b"", stranger: int = 404, reader: int = 403) -> Row:
    """Return the row of what changes something or hands out credentials: not for a read-only token."""
    return Row(401, 401, stranger, owner, body, reader)


def login(*, stranger: int = 404, owner: int = 200) -> Row:
    """Return the row of a page: a person is led to the login."""
    return Row(303, 303, stranger, owner, reader=owner)


EMPTY = b"{}"
AGENT = b'{"attempt": 1, "port": 1}'

MATRIX = {
    ("GET", "/api/version"): same(200),
    ("GET", "/api/health"): same(200),
    ("GET", "/api/v1/options"): mine(200, stranger=200),
    ("GET", "/api/v1/clusters/"): mine(200, stranger=200),
    ("POST", "/api/v1/clusters/"): full(201, EMPTY, stranger=201, reader=409),
    ("GET", "/api/v1/clusters/{name}"): full(200, reader=409),
    ("DELETE", "/api/v1/clusters/{name}"): full(204, stranger=204, reader=409),
    ("POST", "/api/v1/clusters/{name}/scale"): full(200, b'{"count": 1}', reader=409),
    ("POST", "/api/v1/clusters/{name}/adapt"): full(200, EMPTY, reader=409),
    ("GET", "/api/v2/health"): same(200),
    ("GET", "/api/v2/version"): same(200),
    ("GET", "/api/v2/openapi.json"): same(200),
    ("GET", "/api/v2/whoami"): mine(200, stranger=200),
    ("GET", "/api/v2/options"): mine(200, stranger=200),
    ("POST", "/api/v2/clusters"): full(201, EMPTY, stranger=201),
    ("GET", "/api/v2/clusters"): mine(200, stranger=200),
    ("GET", "/api/v2/clusters/{name}"): mine(200),
    ("PATCH", "/api/v2/clusters/{name}"): full(200, b'{"workers": 1}'),
    ("DELETE", "/api/v2/clusters/{name}"): full(202),
    ("GET", "/api/v2/clusters/{name}/credentials"): full(200),
    ("GET", "/api/v2/clusters/{name}/logs"): mine(200),
    ("GET", "/api/v2/clusters/{name}/events"): mine(200),
    ("GET", "/api/v2/events"): mine(200, stranger=200),
    ("POST", "/api/v2/tokens"): full(201, EMPTY, stranger=201),
    ("GET", "/api/v2/tokens"): mine(200, stranger=200),
    ("DELETE", "/api/v2/tokens/{id}"): full(204),
    # Here nobody logs in in a terminal.
    ("POST", "/api/v2/login/device"): same(404, EMPTY),
    ("POST", "/api/v2/login/device/token"): same(404, b'{"handle": "x"}'),
    # A user's token says nothing here: only the cluster's own agent may report.
    ("POST", "/api/agent/v1/clusters/{name}/report"): same(401, AGENT),
    ("GET", "/api/agent/v1/clusters/{name}/wanted"): same(401),
    # Not reached through a proxy in this test; see test_internal.py for that.
    ("POST", "/internal/dashboard-access"): mine(200, b'{"cluster": "NAME"}'),
    ("GET", "/"): login(stranger=200),
    ("GET", "/clusters/{name}"): login(),
    ("GET", "/clusters/{name}/{where:path}"): login(owner=302),
    ("GET", "/login"): same(200),
    ("POST", "/login"): same(401),
    # Here nobody logs in by another page.
    ("GET", "/login/{method}"): same(404),
    ("GET", "/login/{method}/return"): same(404),
    ("POST", "/logout"): same(303),
    ("GET", "/console/live"): Row(303, 303, 200, 200, reader=200),
    ("GET", "/console/clusters/{name}/live"): login(),
    ("GET", "/console/clusters/{name}/logs"): login(),
    ("POST", "/console/clusters"): full(303, stranger=303),
    ("POST", "/console/clusters/{name}/size"): full(303, b"workers=1"),
    ("POST", "/console/clusters/{name}/stop"): full(303),
    ("GET", "/tokens"): login(stranger=200),
    ("POST", "/console/tokens"): full(200, b"label=x", stranger=200),
    ("POST", "/console/tokens/{id}/revoke"): full(303),
    ("GET", "/console/static/{file}"): same(200),
    ("GET", "/favicon.ico"): same(200),
}


def all_routes(gateway: Gateway) -> dict[tuple[str, str], GuardedRoute]:
    """Return every route of the application, each of which must be guarded."""
    found = {}
    for route in gateway.app.routes:
        assert isinstance(route, GuardedRoute), f"{route} has no rule of access"
        assert isinstance(route, Route)
        assert route.methods is not None
        found |= {(method, route.path): route for method in route.methods}
    return found


async def answer(gateway: Gateway, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Return status, and the head and body of the answer; of an endless stream, the body so far."""
    raw = [(name.lower().encode(), value.encode()) for name, value in {"host": "gateway.test", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b"", "scheme": "http"}
    scope |= {"server": ("gateway.test", 80), "client": ("127.0.0.1", 1), "http_version": "1.1", "root_path": ""}
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "http.request", "body": body})
    sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    serving = asyncio.create_task(gateway.app(scope, received.get, sent.put))
    start = await asyncio.wait_for(sent.get(), 10)
    first = await asyncio.wait_for(sent.get(), 10)
    received.put_nowait({"type": "http.disconnect"})
    await asyncio.wait_for(serving, 10)
    head = b"".join(name + b": " + value + b"\n" for name, value in start["headers"])
    return start["status"], head + b"\n" + first["body"]


async def call(gateway: Gateway, method: str, path: str, row: Row, name: str, token: str | None) -> tuple[int, bytes]:
    """Call one route as one caller; pages are called by a browser on a page of ours."""
    headers = {"content-type": "application/json", "accept": "*/*"}
    if not path.startswith(("/api", "/internal")):
        headers = {
            "content-type": "application/x-www-form-urlencoded",
            "accept": "text/html",
            "sec-fetch-mode": "navigate",
            "sec-fetch-site": "same-origin",
        }
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    if "{id}" in path:
        spare, _ = await mint_token(gateway.store, Principal("alice"), "spare", now=gateway.clock.now)
        path = path.replace("{id}", spare.id)
    where = path.replace("{name}", name).replace("{where:path}", "status").replace("{file}", "console.css")
    return await answer(gateway, method, where, headers, row.body.replace(b"NAME", name.encode()))


async def a_running_cluster(gateway: Gateway) -> str:
    """Return the name of a cluster of alice's that runs."""
    cluster = await gateway.create("alice")
    await gateway.become_running(cluster.name, workers=1)
    return cluster.name


async def test_every_route_has_a_row(gateway: Gateway) -> None:
    """A new route must say here who may call it; a row without a route is gone."""
    assert set(all_routes(gateway)) == set(MATRIX)


async def test_who_may_call_it(gateway: Gateway) -> None:
    """Each caller gets the status of the row, and the owner does not get it because of who asked before."""
    surprises = []
    _, gateway.tokens["alice, reading"] = await mint_token(
        gateway.store, Principal("alice"), "reading", now=gateway.clock.now, scope=Scope.READ_ONLY
    )
    for (method, path), row in MATRIX.items():
        for who, token, expected in (
            ("nobody", None, row.nobody),
            ("wrong", "tdg_" + "x" * 43, row.wrong),
            ("stranger", gateway.tokens["mallory"], row.stranger),
            ("reader", gateway.tokens["alice, reading"], row.reader),
            ("owner", gateway.tokens["alice"], row.owner),
        ):
            status, body = await call(gateway, method, path, row, await a_running_cluster(gateway), token)
            if status != expected:
                surprises.append((method, path, who, expected, status, body))

    assert surprises == []


async def test_foreign_is_told_in_the_same_bytes_as_absent(gateway: Gateway) -> None:
    """Mallory cannot tell alice's cluster from a name that never was, of whatever length."""
    theirs = await a_running_cluster(gateway)
    different = []
    for (method, path), row in MATRIX.items():
        if "{name}" not in path:
            continue
        absent = "0123456789abcdef" if "v1" in path else "x"
        status, body = await call(gateway, method, path, row, theirs, gateway.tokens["mallory"])
        missing = await call(gateway, method, path, row, absent, gateway.tokens["mallory"])
        # Version 1 repeats the name that it was asked for, as dask-gateway does.
        told = (status, body.replace(theirs.encode(), absent.encode()) if "v1" in path else body)
        if told != missing:
            different.append((method, path, told, missing))

    assert different == []


async def test_a_stranger_changes_nothing(gateway: Gateway) -> None:
    """After mallory has tried everything, alice's cluster is as it was."""
    name = await a_running_cluster(gateway)
    before = await gateway.store.load(name)

    for (method, path), row in MATRIX.items():
        if "{name}" in path:
            await call(gateway, method, path, row, name, gateway.tokens["mallory"])

    assert await gateway.store.load(name) == before


def test_a_route_without_a_rule_cannot_be_made() -> None:
    """Neither forgetting the rule nor inventing one works."""

    async def handler() -> None: ...

    with pytest.raises(TypeError):
        GuardedRoute("GET", "/x", None, handler)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        GuardedRoute("GET", "/x", lambda request: anyone(request), handler)
    assert GuardedRoute("GET", "/x", RULES[0], handler).rule is anyone


async def test_no_reply_but_the_two_holds_a_secret(gateway: Gateway) -> None:
    """Of all that the owner can read, only what is asked for in order to connect shows the client's key."""
    name = await a_running_cluster(gateway)
    credentials: Credentials = await gateway.store.credentials(name)
    secrets = [v for k, v in vars_of(credentials).items() if k.endswith(("key", "token", "secret"))]
    telling = set()
    for (method, path), row in MATRIX.items():
        if method == "GET":
            _, body = await call(gateway, method, path, row, name, gateway.tokens["alice"])
            told = body.decode().replace("\\n", "\n")
            telling |= {path for secret in secrets if secret in told}
            assert credentials.ca_key not in told

    assert telling == {"/api/v1/clusters/{name}", "/api/v2/clusters/{name}/credentials"}


def vars_of(credentials: Credentials) -> dict[str, str]:
    """Return the parts of the credentials by name."""
    return {name: getattr(credentials, name) for name in credentials.__slots__}
