"""Hostile requests to the proxy: whatever could be understood in two ways is refused, and control never sees it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from aiohttp import web

from tests.proxy_rig import Rig, echo, until_end
from tests.support import eventually
from tidegate.proxy.limits import Limits

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Control:
    """Stands for control, and notes what reaches it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        self.seen.append((request.method, request.raw_path))
        return web.Response(text="control")


@pytest.fixture
async def control(rig: Rig) -> Control:
    """Return what stands for control."""
    control = Control()
    await rig.api(control)
    return control


def head(answer: bytes) -> bytes:
    """Return the status line of an answer."""
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Content-Length: 4\r\nContent-Length: 40\r\n\r\nbody" + SMUGGLED,
        b"Content-Length: +4\r\n\r\nbody",
        b"Content-Length: 4, 4\r\n\r\nbody",
        b"Content-Length: 0x4\r\n\r\nbody",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n4;\nx\r\nbody\r\n0\r\n\r\n",
        b"Content-Length: 4\r\n folded: header\r\n\r\nbody",
        b"X-Bare: a\nX-Line: feed\r\nContent-Length: 0\r\n\r\n",
        b"X-Null: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"Host: other\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_ambiguous_framing_is_refused(rig: Rig, control: Control, framing: bytes):
    """Two lengths, odd lengths, folded headers: 400, the connection is closed, and nothing is smuggled through it."""
    answer = await rig.exchange_raw(b"POST /api HTTP/1.1\r\nHost: localhost\r\n" + framing)

    assert head(answer).startswith(b"HTTP/1.1 400") or head(answer).startswith(b"HTTP/1.0 400")
    assert answer.count(b"HTTP/1.") == 1
    assert "error" in json.loads(answer.partition(b"\r\n\r\n")[2])
    assert all(path != "/smuggled" for _, path in control.seen)


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://evil.example/api HTTP/1.1",
        b"GET //evil.example\\@localhost/ HTTP/1.1",
        b"GET api HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /a#b HTTP/1.1",
        b"GET /a\xff HTTP/1.1",
        b"GET /a/../internal/x HTTP/1.1",
        b"GET /a/%2e%2e/internal/x HTTP/1.1",
        b"GET /./internal HTTP/1.1",
        b"GET /a%2f..%2finternal HTTP/1.1",
        b"GET /\x01 HTTP/1.1",
        b"GET / HTTP/3.7",
        b"GET /",
        b"\r\n\r\n \r\nGET / HTTP/1.1",
    ],
)
async def test_odd_request_lines_are_refused(rig: Rig, control: Control, line: bytes):
    """A target that is no plain path is 400, and control never sees it."""
    answer = await rig.exchange_raw(line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert b" 400 " in head(answer)
    assert control.seen == []


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"CONNECT evil.example:443 HTTP/1.1", b" 405 "),
        (b"TRACE / HTTP/1.1", b" 405 "),
        (b"G\x00T / HTTP/1.1", b" 400 "),
        (b"PRI * HTTP/2.0", b" 400 "),
    ],
)
async def test_methods_of_other_proxies_are_refused(rig: Rig, control: Control, line: bytes, status: bytes):
    """The gateway opens no tunnels and mirrors nothing."""
    answer = await rig.exchange_raw(line + b"\r\nHost: localhost\r\n\r\n")

    assert status in head(answer)
    assert (b"\r\nAllow: GET, " in answer) == (status == b" 405 ")
    assert control.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/internal",
        "/internal/dashboard-access",
        "/Internal/stop-all",
        "//internal/stop-all",
        "/%69nternal/stop-all",
        "/internal%2Fstop-all",
        "/%2finternal/stop-all",
        "/services/gw/internal/stop-all",
        "/services/gw//internal",
        "/services/gw/%69nternal",
    ],
)
async def test_what_is_internal_is_not_there(tmp_path, path: str):
    """In no spelling do the gateway's own operations answer from outside."""
    rig = Rig(tmp_path, prefix="/services/gw")
    control = Control()
    await rig.api(control)
    try:
        answer = await rig.exchange_raw(
            b"POST " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    finally:
        await rig.close()

    assert b" 404 " in head(answer)
    assert control.seen == []


@pytest.mark.parametrize("host", [b"rebound.evil.example", b"10.0.0.7:8000", b"localhost.evil.example:8000"])
async def test_a_rebound_name_is_misdirected(rig: Rig, control: Control, host: bytes):
    """A web page whose name points at 127.0.0.1 gets 421 and a sentence, not our API."""
    answer = await rig.exchange_raw(b"GET /api/v2/whoami HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")

    assert b" 421 " in head(answer)
    assert "public_url" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert control.seen == []


@pytest.mark.parametrize("host", [b"", b"a b", b"user@localhost", b"localhost:x", b"localhost, evil.example"])
async def test_a_host_that_is_none_is_refused(rig: Rig, control: Control, host: bytes):
    """Malformed and missing Host headers are 400."""
    answer = await rig.exchange_raw(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    missing = await rig.exchange_raw(b"GET / HTTP/1.0\r\n\r\n")

    assert b" 400 " in head(answer)
    assert b" 400 " in head(missing)
    assert control.seen == []


async def test_headers_that_are_no_text_are_refused(rig: Rig, control: Control):
    """They could not be passed on as they are."""
    answer = await rig.exchange_raw(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Raw: \xff\xfe\r\nConnection: close\r\n\r\n"
    )

    assert b" 400 " in head(answer)
    assert b"X-Raw" in answer
    assert control.seen == []


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Many: a\r\n" * 1_000 + b"\r\n",
    ],
)
async def test_heads_have_a_size(rig: Rig, control: Control, request_head: bytes):
    """Long lines, long headers and many headers are 400."""
    answer = await rig.exchange_raw(request_head)

    assert b" 400 " in head(answer)
    assert control.seen == []


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_malformed_websocket_is_refused(tmp_path, request_head: bytes):
    """Without a key, with a wrong one, by POST: 400 in JSON, and nothing stays open."""
    rig = Rig(tmp_path)

    async def accept(request: web.BaseRequest) -> web.StreamResponse:
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        await opened.receive()
        return opened

    await rig.api(accept)
    reader, writer = await rig.connect_raw()
    writer.write(request_head)
    try:
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 20)
    finally:
        writer.close()
        await rig.close()


async def test_pipelined_requests_are_answered_in_order(rig: Rig, control: Control):
    """... and each is judged by itself."""
    answer = await rig.exchange_raw(
        b"GET /one HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /internal HTTP/1.1\r\nHost: localhost\r\n\r\n"
        b"GET /two HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )

    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"200", b"404", b"200"]
    assert control.seen == [("GET", "/one"), ("GET", "/two")]


async def test_garbage_is_closed(rig: Rig, control: Control):
    """Bytes of another protocol get an answer or an end, and the proxy goes on."""
    for garbage in (b"SSH-2.0-x\r\n", b"\x00" * 100, b"\x16\x03\x01\xff\xff", b"EHLO x\r\n", bytes(range(256)) * 10):
        reader, writer = await rig.connect_raw()
        writer.write(garbage)
        writer.write_eof()
        await until_end(reader)
        writer.close()

    assert b" 200 " in head(await rig.exchange_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))


async def test_a_crowd_of_half_requests_leaves_room(rig: Rig, control: Control):
    """While two hundred strangers hold connections open, a request is answered."""
    lines = [await rig.connect_raw() for _ in range(200)]
    for number, (_, writer) in enumerate(lines):
        writer.write([b"", b"\x16", b"GET / HT"][number % 3])

    answer = await asyncio.wait_for(
        rig.exchange_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 5
    )

    assert b" 200 " in head(answer)
    for _, writer in lines:
        writer.close()


async def crowd(rig: Rig, words: bytes, size: int) -> list[asyncio.StreamWriter]:
    """Open connections that say no more than this."""
    writers = []
    for _ in range(size):
        reader, writer = await rig.connect_raw()
        writer.write(words)
        if words.endswith(b"\r\n\r\n"):
            await asyncio.wait_for(reader.read(1), 20)
        writers.append(writer)
    return writers


HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.mark.parametrize(
    "words", [b"", b"\x16\x03\x01", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", HALF_A_BODY]
)
@pytest.mark.parametrize("limits", [{"waiting": 10}, {"connections": 20}, {"connections_per_address": 10}])
async def test_a_larger_crowd_than_there_is_room_for(tmp_path: Path, words: bytes, limits: dict[str, int]):
    """From this machine, silent, in the middle of a head or a body, or idle after an answer: whoever asks is served."""
    rig = Rig(tmp_path, limits=Limits(**limits))
    await rig.api(Control())
    writers = await crowd(rig, words, 40)

    answer = await asyncio.wait_for(
        rig.exchange_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"), 5
    )

    assert b" 200 " in head(answer)
    for writer in writers:
        writer.close()
    await eventually(lambda: not rig.proxy.acceptor._waiting)
    assert rig.proxy.acceptor._admission.count == 0
    await rig.close()


async def test_who_is_served_makes_no_room(tmp_path: Path):
    """Neither a cluster's connection nor a request that is being answered is ended for newcomers."""
    rig = Rig(tmp_path, limits=Limits(waiting=5))
    go_on = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.Response:
        await go_on.wait()
        return web.Response(text="at last")

    await rig.api(slow)
    await rig.scheduler("abc", echo)
    reader, cluster = await rig.connect("abc")
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    asked = asyncio.create_task(rig.exchange_raw(request))
    await eventually(lambda: not rig.proxy.acceptor._waiting)
    writers = await crowd(rig, b"", 40)
    go_on.set()

    assert b"at last" in await asked
    cluster.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    for writer in (cluster, *writers):
        writer.close()
    await rig.close()
