"""Requests: patience with a gateway that is away for a moment, and errors that say what to do."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import dask_gateway.auth
import pytest
from aiohttp import web

from tests.support import eventually
from tidegate.client.auth import GatewayAuth
from tidegate.client.errors import (
    GatewayAuthError,
    GatewayClusterError,
    GatewayConnectionError,
    GatewayError,
    GatewayServerError,
    GatewayValueError,
)
from tidegate.client.transport import Transport

from .conftest import StubGateway, cuts, refuses, says

Connect = Callable[..., Transport]

BUSY = refuses(503, "busy", "not now", Retry_After="0")


async def test_a_gateway_that_is_not_there_is_one_clear_error_in_time(connect: Connect, nobody: str) -> None:
    """It names the address and where that was configured, in less than five seconds."""
    started = time.monotonic()

    with pytest.raises(GatewayConnectionError) as caught:
        await connect(address=nobody, source="`tidegate.address` in my.yaml").request("GET", "/x")

    assert time.monotonic() - started < 5
    assert nobody in str(caught.value)
    assert "`tidegate.address` in my.yaml" in str(caught.value)
    assert isinstance(caught.value, GatewayServerError)
    assert isinstance(caught.value, OSError)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
async def test_what_is_no_number_is_named_before_anything_is_sent(transport: Transport, number: float) -> None:
    """JSON has no such numbers, and the gateway could only say that it cannot read what came."""
    with pytest.raises(GatewayValueError, match=r"cannot send worker_memory=.*finite"):
        await transport.request("POST", "/x", json={"options": {"cores": 1.5, "worker_memory": number}})
    with pytest.raises(GatewayValueError, match=r"cannot send labels=.*finite"):
        await transport.request("POST", "/x", json={"labels": [number]})


async def test_a_name_that_does_not_resolve_is_the_same_error(connect: Connect) -> None:
    """The reserved domain `invalid` never resolves (RFC 2606)."""
    with pytest.raises(GatewayConnectionError, match=r"gateway\.invalid"):
        await connect(address="http://gateway.invalid:8000").request("GET", "/x")


@pytest.mark.parametrize("trouble", [BUSY, cuts, says("<html>", 502), says("", 504)])
async def test_a_gateway_that_is_being_restarted_is_tried_again(
    stub: StubGateway, transport: Transport, trouble: object
) -> None:
    """Busy, cut off, or answered for by a proxy before it: the request is repeated, its body and key unchanged."""
    stub.will(says({"ok": 0}), trouble, trouble, says({"ok": 1}))  # type: ignore[arg-type]
    await transport.request("GET", "/first")

    answer = await transport.request("POST", "/x", json={"a": 1}, headers={"Idempotency-Key": "k"})

    assert answer == {"ok": 1}
    assert stub.bodies[1:] == [{"a": 1}] * 3
    assert {r.headers["Idempotency-Key"] for r in stub.requests[1:]} == {"k"}


async def test_what_the_backend_refused_is_not_tried_again(stub: StubGateway, transport: Transport) -> None:
    """It is the gateway's own answer, though it bears a status that proxies use as well."""
    stub.will(refuses(502, "backend-failed", "cannot launch"))

    with pytest.raises(GatewayServerError, match="cannot launch"):
        await transport.request("POST", "/x")

    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (404, "not-found", GatewayValueError),
        (422, "invalid", ValueError),
        (413, "too-large", ValueError),
        (403, "not-allowed", PermissionError),
        (409, "conflict", GatewayClusterError),
        (500, "error", GatewayServerError),
    ],
)
async def test_errors_bear_the_words_and_the_code_of_the_gateway(
    stub: StubGateway, transport: Transport, status: int, code: str, error: type[Exception]
) -> None:
    """Each status has the exception that users of dask-gateway catch."""
    stub.will(refuses(status, code, "cannot do this: because"))

    with pytest.raises(error, match="cannot do this: because") as caught:
        await transport.request("GET", "/x")

    assert caught.value.code == code  # type: ignore[attr-defined]


async def test_an_incident_is_passed_on(stub: StubGateway, transport: Transport) -> None:
    """It is what the administrator finds the log by."""
    stub.will(says({"error": {"code": "error", "message": "something broke", "incident": "i-17"}}, 500))

    with pytest.raises(GatewayServerError, match="i-17"):
        await transport.request("GET", "/x")


async def test_refused_credentials_say_where_they_came_from(stub: StubGateway, connect: Connect) -> None:
    """Not only that something was refused, but which setting to look at; and never the secret."""
    stub.will(refuses(401, "unauthenticated", "Authentication required"))
    settings = {"auth_type": "token", "auth_kwargs": {"token": "s3cret"}, "auth_source": "`tidegate.auth` in f"}

    with pytest.raises(GatewayAuthError) as caught:
        await connect(**settings).request("GET", "/x")

    assert "TokenAuth (from `tidegate.auth` in f)" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert len(stub.requests) == 1


async def test_credentials_for_another_gateway_are_withheld_and_named(stub: StubGateway, connect: Connect) -> None:
    """The user reads which address they are for."""
    stub.will(refuses(401, "unauthenticated", "Authentication required"))
    settings = {"auth_type": None, "auth_source": "`gateway.auth` in f", "auth_meant_for": "https://other"}

    with pytest.raises(GatewayAuthError, match="are for https://other"):
        await connect(**settings).request("GET", "/x")

    assert "Authorization" not in stub.requests[0].headers


async def test_a_class_that_was_written_for_dask_gateway_logs_in(stub: StubGateway, connect: Connect) -> None:
    """It waits for a 401; the body is sent again with its headers."""
    stub.will(refuses(401, "unauthenticated", "Authentication required"), says({"ok": 1}))
    transport = connect(auth_type=dask_gateway.auth.BasicAuth("alice", "pw"))

    assert await transport.request("POST", "/x", json={"a": 1}) == {"ok": 1}

    assert [r.headers.get("Authorization", "").split(" ")[0] for r in stub.requests] == ["", "Basic"]
    assert stub.bodies == [{"a": 1}, {"a": 1}]


class Demanding(GatewayAuth):
    """Demands that the gateway repeats a word."""

    def begin(self, url: str) -> tuple[dict[str, str], Any]:
        """Ask."""
        return {"Authorization": "Word x"}, "x"

    def check(self, resp: Any, context: Any) -> None:
        """Look for the word."""
        if resp.headers.get("WWW-Authenticate") != f"Word {context}":
            raise GatewayAuthError("cannot believe this")


async def test_an_answer_that_must_prove_something_is_believed_only_then(stub: StubGateway, connect: Connect) -> None:
    """Good or bad; what only makes us come back proves nothing, and a refusal has nothing to prove."""
    proof = {"WWW_Authenticate": "Word x"}
    stub.will(BUSY, says({"ok": 1}, **proof))
    assert await connect(auth_type=Demanding()).request("GET", "/x") == {"ok": 1}

    for answer, words in [
        (says({"ok": 1}), "cannot believe this"),
        (refuses(404, "not-found", "nothing here"), "cannot believe this"),
        (refuses(404, "not-found", "nothing here", **proof), "nothing here"),
        (refuses(401, "unauthenticated", "Authentication required"), "refuses the credentials of Demanding"),
    ]:
        stub.will(answer)
        before = len(stub.requests)
        with pytest.raises(GatewayError, match=words):
            await connect(auth_type=Demanding()).request("GET", "/x")
        assert len(stub.requests) == before + 1


async def test_credentials_do_not_follow_a_redirect(stub: StubGateway, connect: Connect) -> None:
    """It says where it leads, and the user decides."""

    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("https://elsewhere/login")

    stub.will(redirect)

    with pytest.raises(GatewayServerError, match="https://elsewhere/login"):
        await connect(auth_type="token", auth_kwargs={"token": "x"}).request("GET", "/x")

    assert len(stub.requests) == 1


@pytest.mark.parametrize("status", [200, 404])
async def test_something_else_at_the_address_is_told_apart(
    stub: StubGateway, transport: Transport, status: int
) -> None:
    """A web server, or a dask-gateway server, which has no second version of the API."""

    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<h1>It works!</h1>", content_type="text/html", status=status)

    stub.will(page)

    with pytest.raises(GatewayServerError, match="what answers there is none"):
        await transport.request("GET", "/x")


@pytest.mark.parametrize(("status", "error"), [(413, GatewayValueError), (421, GatewayServerError)])
async def test_an_error_that_is_only_words_is_told_as_it_is(
    stub: StubGateway, transport: Transport, status: int, error: type[Exception]
) -> None:
    """What the gateway says before it knows which API was meant."""
    stub.will(says({"error": "cannot do this: because"}, status))

    with pytest.raises(error, match=r"^cannot do this: because$"):
        await transport.request("GET", "/x")


async def test_a_dask_gateway_server_is_told_apart(stub: StubGateway, transport: Transport) -> None:
    """It says in the same form that it does not know the address."""
    stub.will(says({"error": "Not Found"}, 404))

    with pytest.raises(GatewayServerError, match="use `from dask_gateway import Gateway`"):
        await transport.request("GET", "/x")


async def test_a_forgotten_client_closes_its_connections(stub: StubGateway, connect: Connect) -> None:
    """Collected with whatever refers to it, it leaves no complaint of an unclosed session."""
    stub.will(says({"ok": 1}))
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["message"]))
    forgotten = Transport(stub.settings(auth_type=None))
    await forgotten.request("GET", "/x")
    session = weakref.ref(forgotten._session)
    forgotten.itself = forgotten  # type: ignore[attr-defined]  # as the traceback of an error makes it

    del forgotten
    gc.collect()
    await eventually(lambda: session() is None or session().closed)

    assert said == []


async def test_a_file_of_authorities_that_is_none_is_named(connect: Connect) -> None:
    """The setting and the file stand in the sentence."""
    settings = {"address": "https://127.0.0.1:1", "ca_file": "/no/such/file.pem"}

    with pytest.raises(GatewayValueError, match=r"tidegate\.ca-file.*no/such/file"):
        await connect(**settings).request("GET", "/x")
