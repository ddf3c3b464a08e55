"""HTTP through the proxy to the API: what passes, what is set anew, what is refused, and what flows at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.proxy_rig import Authority, Rig, echo, processor_seconds, short_limits, until_end
from tests.support import eventually
from tidegate.proxy.limits import Limits


async def mirror(request: web.BaseRequest) -> web.StreamResponse:
    """Answer with what arrived."""
    body = await request.read()
    seen = {
        "method": request.method,
        "path": request.raw_path,
        "headers": [[key, value] for key, value in request.headers.items()],
        "body": body.decode("latin-1"),
    }
    return web.json_response(seen)


def header(seen: dict[str, Any], name: str) -> list[str]:
    """Return every value of a header that arrived."""
    return [value for key, value in seen["headers"] if key.lower() == name.lower()]


@pytest.fixture
async def mirrored(rig: Rig) -> Rig:
    """Return a proxy whose API is a mirror."""
    await rig.api(mirror)
    return rig


async def test_a_request_arrives_as_it_was_sent(mirrored: Rig):
    """Method, path with its escapes, query, body and headers are the client's own."""
    async with mirrored.browser() as browser:
        sent = browser.post(
            mirrored.url("/") + "api/v1/x%2Fy/?wait&a=%20b",
            data=b'{"count": 2}',
            headers={"Authorization": "Basic abc", "X-Custom": "kept", "Cookie": "session=1"},
        )
        async with sent as reply:
            seen = await reply.json()

    assert seen["method"] == "POST"
    assert seen["path"] == "/api/v1/x%2Fy/?wait&a=%20b"
    assert seen["body"] == '{"count": 2}'
    assert header(seen, "authorization") == ["Basic abc"]
    assert header(seen, "x-custom") == ["kept"]
    assert header(seen, "cookie") == ["session=1"]
    assert header(seen, "content-length") == ["12"]


async def test_where_the_client_is_is_told_by_the_proxy_alone(mirrored: Rig):
    """What a client says about itself in forwarding headers is dropped."""
    lies = {
        "X-Forwarded-For": "10.9.8.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-User": "admin",
        "Forwarded": "for=10.9.8.7",
        "X-Real-IP": "10.9.8.7",
    }
    async with mirrored.browser() as browser, browser.get(mirrored.url("/api"), headers=lies) as reply:
        seen = await reply.json()

    assert header(seen, "x-forwarded-for") == ["127.0.0.1"]
    assert header(seen, "x-forwarded-proto") == ["http"]
    assert header(seen, "x-forwarded-host") == [f"127.0.0.1:{mirrored.port}"]
    for name in ("x-forwarded-prefix", "x-forwarded-user", "forwarded", "x-real-ip"):
        assert header(seen, name) == []


async def test_headers_of_the_connection_stay_on_it(mirrored: Rig):
    """Hop-by-hop headers, and those that ``Connection`` names, are not passed on."""
    request = (
        b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: close, X-Mine\r\nX-Mine: secret\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Authorization: Basic x\r\n\r\n"
    )
    answer = await mirrored.exchange_raw(request)
    seen = json.loads(answer.partition(b"\r\n\r\n")[2])

    for name in ("x-mine", "keep-alive", "te", "upgrade", "proxy-authorization"):
        assert header(seen, name) == []


@pytest.mark.parametrize("prefix", ["/services/dask-gateway"])
async def test_a_prefix_is_taken_off_and_told(make_rig, prefix: str):
    """The same gateway answers with the prefix and without, and the API knows which it was."""
    rig = await make_rig(prefix=prefix)
    await rig.api(mirror)
    got = {}
    async with rig.browser() as browser:
        for path in (f"{prefix}/api/v1/options", "/api/v1/options", prefix, f"{prefix}?a", f"{prefix}x/api"):
            async with browser.get(rig.url(path)) as reply:
                seen = await reply.json()
            got[path] = (seen["path"], header(seen, "x-forwarded-prefix"))

    assert got == {
        f"{prefix}/api/v1/options": ("/api/v1/options", [prefix]),
        "/api/v1/options": ("/api/v1/options", []),
        prefix: ("/", [prefix]),
        f"{prefix}?a": ("/?a", [prefix]),
        f"{prefix}x/api": (f"{prefix}x/api", []),
    }


async def test_an_answer_passes_as_it_is(rig: Rig):
    """Status, repeated headers and compressed bytes are the API's own."""

    async def answer(request: web.BaseRequest) -> web.Response:
        response = web.Response(status=409, body=b"\x1f\x8bnot really gzip", headers={"Content-Encoding": "gzip"})
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        return response

    await rig.api(answer)
    async with rig.browser() as browser, browser.get(rig.url("/api")) as reply:
        assert reply.status == 409
        assert await reply.read() == b"\x1f\x8bnot really gzip"
        assert reply.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert reply.headers["Content-Encoding"] == "gzip"
        assert reply.headers["Server"] == "tidegate"


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(rig: Rig, status: int):
    """They have none here either, and the connection serves the next request."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status)

    await rig.api(answer)
    async with rig.browser() as browser:
        for _ in range(2):
            async with browser.delete(rig.url("/api")) as reply:
                assert reply.status == status
                assert await reply.read() == b""


async def test_a_head_request_tells_the_length_and_sends_nothing(rig: Rig):
    """As the API would answer it."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * 1234)

    await rig.api(answer)
    async with rig.browser() as browser, browser.head(rig.url("/api")) as reply:
        assert reply.headers["Content-Length"] == "1234"
        assert await reply.read() == b""


async def test_redirects_are_the_clients_to_follow(rig: Rig):
    """The proxy passes a redirect on."""

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": "/login"})

    await rig.api(answer)
    async with rig.browser() as browser, browser.get(rig.url("/"), allow_redirects=False) as reply:
        assert (reply.status, reply.headers["Location"]) == (302, "/login")


async def test_events_flow_at_once_and_end_with_the_client(rig: Rig):
    """Each server-sent event arrives when it is sent; when the client leaves, the API's handler is told."""
    go_on, gone = asyncio.Queue[bytes](), asyncio.Event()

    async def events(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(await go_on.get())
        finally:
            gone.set()

    await rig.api(events)
    async with rig.browser() as browser:
        # The head comes though there is no event yet.
        reply = await asyncio.wait_for(browser.get(rig.url("/api/v2/events")), 20)
        assert reply.headers["Content-Type"] == "text/event-stream"
        for number in range(3):
            event = f"data: {number}\n\n".encode()
            go_on.put_nowait(event)
            assert await asyncio.wait_for(reply.content.readexactly(len(event)), 20) == event
        reply.close()
        go_on.put_nowait(b"data: nobody hears this\n\n")
        go_on.put_nowait(b"data: nor this\n\n")
        await asyncio.wait_for(gone.wait(), 20)


async def test_a_client_that_leaves_a_long_poll_frees_the_api(rig: Rig):
    """A request that nobody waits for any more is cancelled at the API too."""
    began, gone = asyncio.Event(), asyncio.Event()

    async def wait(request: web.BaseRequest) -> web.StreamResponse:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    await rig.api(wait)
    _, writer = await rig.connect_raw()
    writer.write(b"GET /api/v1/clusters/x?wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(began.wait(), 20)

    writer.close()

    await asyncio.wait_for(gone.wait(), 20)


async def test_an_answer_that_breaks_off_is_not_passed_for_a_whole_one(rig: Rig):
    """When the API dies in the middle of an answer, the client's connection breaks."""

    async def half(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    await rig.api(half)
    async with rig.browser() as browser:
        with pytest.raises(aiohttp.ClientError):
            async with browser.get(rig.url("/api")) as reply:
                await reply.read()


async def test_a_large_answer_streams(rig: Rig):
    """Fifty megabytes, with the length told and without."""

    async def large(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        if "known" in request.query:
            response.content_length = 50 * 2**20
        await response.prepare(request)
        for _ in range(50):
            await response.write(bytes(2**20))
        await response.write_eof()
        return response

    await rig.api(large)
    async with rig.browser() as browser:
        for query in ("?known", ""):
            async with browser.get(rig.url("/api" + query)) as reply:
                assert len(await reply.read()) == 50 * 2**20


async def test_a_websocket_to_the_api(rig: Rig):
    """Messages pass both ways, with the subprotocol that the API chooses."""

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("chosen",))
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{message.data}!")
        return socket

    await rig.api(echo)
    async with rig.browser() as browser:
        socket = await browser.ws_connect(rig.url("/api/agent"), protocols=("other", "chosen"))
        assert socket.protocol == "chosen"
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=20) == "hello!"
        await socket.close()


# Bodies.


async def test_a_body_above_the_limit_is_refused_with_the_limit(make_rig):
    """Told in advance or not, it is 413 in JSON, and the API never sees the end of it."""
    rig = await make_rig(limits=Limits(body_bytes=1000))
    complete: list[int] = []

    async def read(request: web.BaseRequest) -> web.Response:
        complete.append(len(await request.read()))
        return web.Response()

    await rig.api(read)

    async def pieces():
        for _ in range(20):
            yield bytes(100)

    async with rig.browser() as browser:
        for data in (bytes(1001), bytes(20_000_000), pieces()):
            async with browser.post(rig.url("/api"), data=data) as reply:
                assert reply.status == 413
                assert "1000 bytes" in (await reply.json())["error"]
        async with browser.post(rig.url("/api"), data=bytes(1000)) as reply:
            assert reply.status == 200
    assert complete == [1000]


async def test_a_chunked_body_streams_up(mirrored: Rig):
    """A body without a length arrives whole."""

    async def pieces():
        for number in range(10):
            yield b"%d" % number

    async with mirrored.browser() as browser, browser.post(mirrored.url("/api"), data=pieces()) as reply:
        seen = await reply.json()

    assert seen["body"] == "0123456789"


async def test_an_expectation_is_answered_here(mirrored: Rig):
    """A client that asks before it sends (curl with a large body) is told to go on."""
    reader, writer = await mirrored.connect_raw()
    writer.write(b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).startswith(b"HTTP/1.1 100")
    writer.write(b"body")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
    assert b'"body": "body"' in await reader.read(10_000)
    writer.close()


async def test_a_body_that_stops_coming_ends_the_request(make_rig):
    """Whoever falls asleep in the middle of a body gets 408, and the API is not kept waiting."""
    rig = await make_rig(limits=short_limits(body_seconds=0.2))
    await rig.api(mirror)

    reader, writer = await rig.connect_raw()
    writer.write(b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")

    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 408")
    writer.close()


async def test_a_body_that_dribbles_in_is_cut_off(make_rig):
    """A body has a deadline as a whole, however often another byte of it comes."""
    rig = await make_rig(limits=short_limits(body_seconds=30, whole_body_seconds=0.3))
    await rig.api(mirror)
    reader, writer = await rig.connect_raw()

    async def dribble() -> None:
        writer.write(b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(999):
            writer.write(b"a")
            await processor_seconds(0.02)

    dribbling = asyncio.create_task(dribble())
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    dribbling.cancel()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"not complete after 0.3 s" in await asyncio.wait_for(reader.read(1000), 5)
    writer.close()


# Errors of the proxy's own, in the form of the API that was asked.

TOO_LARGE = "cannot accept this request: its body is larger than 1000 bytes"


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        (
            "/api/v2/clusters",
            413,
            {"code": "too-large", "message": TOO_LARGE, "field": None, "incident": None},
        ),
        ("/x/api/v2/clusters", 413, {"code": "too-large", "message": TOO_LARGE, "field": None, "incident": None}),
        # The official client shows the words of 422 and 500, and of no other status of ours.
        ("/api/v1/clusters/", 422, TOO_LARGE),
        ("/api", 413, TOO_LARGE),
    ],
)
async def test_a_refusal_has_the_form_of_its_api(make_rig, path: str, status: int, error: object):
    """Each client finds the words where it looks for them."""
    rig = await make_rig(prefix="/x", limits=Limits(body_bytes=1000))
    await rig.api(mirror)

    async with rig.browser() as browser, browser.post(rig.url(path), data=bytes(1001)) as reply:
        assert (reply.status, await reply.json()) == (status, {"error": error})


@pytest.mark.parametrize(("path", "status"), [("/api/v1/clusters/", 500), ("/api/v2/clusters", 503)])
async def test_an_absent_api_is_told_in_its_form(make_rig, path: str, status: int):
    """With the time to come back in both."""
    rig = await make_rig(limits=short_limits(restart_seconds=0.2))

    async with rig.browser() as browser, browser.post(rig.url(path), data=b"{}") as reply:
        error = (await reply.json())["error"]
        assert (reply.status, reply.headers["Retry-After"]) == (status, "1")

    assert "restarted" in (error if status == 500 else error["message"])
    assert status == 500 or error["code"] == "busy"


# The API comes and goes.


async def test_without_an_api_the_answer_is_503_and_when_to_come_back(make_rig):
    """In JSON for programs, in words for people; at first after a moment's wait, then at once."""
    rig = await make_rig(limits=short_limits(restart_seconds=0.2))
    async with rig.browser() as browser:
        async with browser.post(rig.url("/api"), data=b"{}") as reply:
            assert reply.status == 503
            assert reply.headers["Retry-After"] == "1"
            assert "restarted" in (await reply.json())["error"]
        async with asyncio.timeout(0.15), browser.get(rig.url("/"), headers={"Accept": "text/html"}) as reply:
            assert reply.status == 503
            assert "http-equiv" in await reply.text()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_waits_out_a_restart_of_the_api(rig: Rig, method: str):
    """Nothing was sent yet, so even a POST may wait for the next control."""
    runner = await rig.api(mirror)
    async with rig.browser() as browser:
        async with browser.request(method, rig.url("/api")) as reply:
            assert reply.status == 200
        await rig.stop_api(runner)
        asked = asyncio.create_task(browser.request(method, rig.url("/api"), data=b"{}"))
        await processor_seconds(0.1)
        assert not asked.done()

        (rig.run_dir / "api.sock").unlink(missing_ok=True)
        await rig.api(mirror)

        reply = await asyncio.wait_for(asked, 20)
        assert reply.status == 200
        assert (await reply.json())["body"] == "{}"


async def test_what_may_have_taken_effect_is_not_repeated(rig: Rig):
    """A POST that reached the API is never sent twice; its sender is told that nobody knows."""
    arrived: list[str] = []

    async def die(request: web.BaseRequest) -> web.Response:
        arrived.append(request.method)
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    await rig.api(die)
    async with rig.browser() as browser, browser.post(rig.url("/api"), data=b"{}") as reply:
        assert reply.status == 503
        assert "not known" in (await reply.json())["error"]

    assert arrived == ["POST"]


async def test_a_read_is_repeated_when_the_api_dies_over_it(rig: Rig):
    """A GET changes nothing: the next control answers it."""
    arrived: list[str] = []

    async def die_once(request: web.BaseRequest) -> web.Response:
        arrived.append(request.method)
        if len(arrived) == 1:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(text="alive")

    await rig.api(die_once)
    async with rig.browser() as browser, browser.get(rig.url("/api")) as reply:
        assert await reply.text() == "alive"


# Connections.


async def test_a_head_that_dribbles_in_is_cut_off(make_rig):
    """A request head has a deadline, however often another byte of it comes; an idle connection has another."""
    rig = await make_rig(limits=short_limits(header_seconds=0.3, idle_seconds=30))
    await rig.api(mirror)
    reader, writer = await rig.connect_raw()
    writer.write(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)

    async def dribble() -> None:
        writer.write(b"GET /api HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        for _ in range(1000):
            writer.write(b"a")
            await processor_seconds(0.02)

    dribbling = asyncio.create_task(dribble())
    rest = await asyncio.wait_for(until_end(reader), 20)
    dribbling.cancel()
    assert b"HTTP/1.1" not in rest
    writer.close()


async def test_an_idle_connection_is_closed_after_a_while(make_rig):
    """... and not before."""
    rig = await make_rig(limits=short_limits(idle_seconds=0.5, header_seconds=0.1, hello_seconds=5))
    await rig.api(mirror)
    reader, writer = await rig.connect_raw()
    writer.write(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(reader.readuntil(b"}"), 20)
    await processor_seconds(0.25)
    writer.write(b"GET /api HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"}"), 20)

    assert await asyncio.wait_for(until_end(reader), 20) is not None
    await eventually(lambda: rig.proxy.acceptor._admission.count == 0)
    writer.close()


async def test_https_shares_the_port_with_the_clusters(make_rig, tmp_path):
    """With a certificate, HTTP is HTTPS, a cluster's name still goes to the cluster, and plain HTTP is told."""
    gateway = Authority()
    cert, key = gateway.leaf(tmp_path, "localhost")
    rig = await make_rig(tls_cert=cert, tls_key=key)
    await rig.api(mirror)
    await rig.scheduler("abc", echo)
    async with rig.browser() as browser:
        async with browser.get(rig.url("/api", "localhost", "https"), ssl=gateway.client_context()) as reply:
            seen = await reply.json()
        assert header(seen, "x-forwarded-proto") == ["https"]
    reader, writer = await rig.connect("abc")
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    answer = await rig.exchange_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"https://" in answer


async def test_a_trusted_proxy_says_who_the_client_is(make_rig):
    """Of anybody else the header is an invention."""
    forwarded = {"X-Forwarded-For": "1.2.3.4, 198.51.100.9"}
    for trusted, client in ((("127.0.0.0/8",), "198.51.100.9"), (("10.0.0.0/8",), "127.0.0.1")):
        rig = await make_rig(trusted_proxies=trusted)
        await rig.api(mirror)
        async with rig.browser(headers=forwarded) as browser, browser.get(rig.url("/api")) as reply:
            assert header(await reply.json(), "x-forwarded-for") == [client]
