"""Whatever bytes a dashboard answers with, what the proxy makes of them is one answer, and does nothing to the browser.

A dashboard runs its tenant's code, so it may answer with anything: two answers in one, a length that is a lie, headers
that are folded or hold another's line, cookies for the whole domain. What leaves the proxy is read by h11.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import h11
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.proxy_rig import SECRET, TICKET_KEY
from tests.security.front import Front, opened
from tests.security.test_framing import chunks
from tidegate.wire.names import DASHBOARD_HEADER, TICKET_COOKIE
from tidegate.wire.tickets import Ticket, sign

NAME = "0123456789abcdef"
HOST = f"{NAME}.localhost"

FORBIDDEN = {
    b"set-cookie",
    b"set-cookie2",
    b"service-worker-allowed",
    b"clear-site-data",
    b"strict-transport-security",
    b"www-authenticate",
    b"alt-svc",
    b"nel",
    b"report-to",
    DASHBOARD_HEADER.lower().encode(),
}
"""What only our own pages may say to a browser."""

SECOND = b"HTTP/1.1 200 OK\r\nSet-Cookie: second=1\r\nContent-Length: 6\r\n\r\nsecond"

RIGHT_NAMES = [b"X-A", b"Set-Cookie", b"set-COOKIE", b"Clear-Site-Data", b"Location", b"Connection", b"Upgrade", b"NEL"]
RIGHT_VALUES = [b"a", b"", b"a=1; Domain=localhost", b"Set-Cookie", b"close", b"http://evil.example/", b"websocket"]
WRONG_VALUES = [b"a\r\n Set-Cookie: folded=1", b"a\nSet-Cookie: fed=1", b"a\rSet-Cookie: r=1", b"a\x00b", b"\xff"]

names = st.sampled_from([*RIGHT_NAMES * 6, b"Set-Cookie\x00", b"Set-Cookie "])
values = st.sampled_from([*RIGHT_VALUES * 6, *WRONG_VALUES])
headers = st.builds(lambda name, value: name + b": " + value, names, values)
statuses = st.sampled_from(
    [b"200 OK"] * 6 + [b"302 Found", b"204 No Content", b"304 Not Modified", b"101 Switch", b"100 Go"]
)
bodies = st.sampled_from([b"", b"body", SECOND, b"x" * 70_000])


@st.composite
def framings(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return how the body is framed, and the body as it is sent."""
    body = draw(bodies)
    length = b"Content-Length: %d" % len(body)
    return draw(
        st.sampled_from(
            [
                *[(length, body), (b"Transfer-Encoding: chunked", chunks(body))] * 3,
                (length, body + SECOND),
                (b"Content-Length: 1", body),
                (b"Content-Length: 99999", body),
                (length + b"\r\nContent-Length: 1", body),
                (b"Transfer-Encoding: chunked", chunks(body, trailers=b"Set-Cookie: trailer=1\r\n")),
                (b"Transfer-Encoding: chunked\r\n" + length, chunks(body)),
                (b"Transfer-Encoding: chunked", b"zz\r\n" + body),
                (b"Transfer-Encoding: gzip, chunked", chunks(body)),
                (b"X-A: to the end", body),
            ]
        )
    )


@st.composite
def dashboard_answers(draw: st.DrawFn) -> bytes:
    """Return what a dashboard sends, perhaps with a byte changed."""
    framing, body = draw(framings())
    version = draw(st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2", b"ICY"]))
    lines = [version + b" " + draw(statuses), *draw(st.lists(headers, max_size=3)), framing]
    sent = b"\r\n".join(lines) + b"\r\n\r\n" + body
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, min(len(sent), 200)))
        sent = sent[:at] + draw(st.sampled_from([b"\r", b"\n", b"\x00", b" ", b":"])) + sent[at:]
    return sent


class Dashboard:
    """Answers every request with the same bytes."""

    def __init__(self) -> None:
        self.answer = b""

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        await writer.drain()


@pytest.fixture(scope="module")
def front() -> Iterator[tuple[Front, Dashboard]]:
    """A proxy, and a dashboard behind it."""
    with opened() as front:
        dashboard = Dashboard()
        route = front.run(front.rig.scheduler(NAME, dashboard))
        front.rig.publish(NAME, 1, dashboard_port=route.port)
        yield front, dashboard


def ask(front: Front) -> bytes:
    """Ask for a page as a viewer with a ticket, and return all that comes until the connection ends."""
    ticket = sign(Ticket(NAME, "alice", time.time() + 60), TICKET_KEY)
    head = f"GET /status HTTP/1.1\r\nHost: {HOST}:{front.rig.port}\r\nCookie: {TICKET_COOKIE}={ticket}\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", front.rig.port), timeout=10) as connection:
        connection.sendall(f"{head}Connection: close\r\n\r\n".encode())
        while piece := connection.recv(2**16):
            answer += piece
    return answer


@settings(deadline=None)
@given(dashboard_answers())
def test_what_leaves_the_proxy_is_one_harmless_answer(front: tuple[Front, Dashboard], sent: bytes) -> None:
    """Or the connection is cut in the middle of it: never two answers, nor a header that plants something."""
    proxy, dashboard = front
    dashboard.answer = sent
    answer = ask(proxy)

    assert SECRET.encode() not in answer
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method="GET", target="/status", headers=[("Host", HOST), ("Connection", "close")]))
    reader.send(h11.EndOfMessage())
    reader.receive_data(answer)
    response = reader.next_event()
    assert isinstance(response, h11.Response), (sent, answer[:500])
    event(f"status {response.status_code}")
    found = {name for name, _ in response.headers}
    assert not found & FORBIDDEN, (sent, answer[:500])
    assert response.status_code not in (101, 500), (sent, answer[:500])
    if response.status_code < 400:
        assert dict(response.headers)[b"referrer-policy"] == b"no-referrer"
    while isinstance(part := reader.next_event(), h11.Data):
        pass
    cut = part is h11.NEED_DATA
    assert cut or (isinstance(part, h11.EndOfMessage) and reader.trailing_data == (b"", False)), (sent, answer[:500])
