"""Where one request ends and the next begins: the proxy and the server behind it must never differ about it.

Hypothesis writes streams of requests that are right, nearly right or hostile (two lengths, a length and chunks, folded
lines, bare line feeds, requests inside of bodies, and bytes changed anywhere), and a third parser, h11, says what is in
them. The server behind the proxy may see fewer requests than h11, for the proxy refuses much. But each one that it sees
is one that h11 sees too, to the byte, and each is answered once and in order: then nothing was smuggled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import h11
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from tests.security.front import Front, Seen, opened

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
END = b"GET /end HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

OURS = {b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
"""Headers that the proxy writes itself."""

FRAMING = {b"content-length", b"transfer-encoding", b"connection"}
"""... and those in which it frames the message anew."""


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A proxy, and the server that control uses behind it."""
    with opened() as front:
        yield front


def chunks(body: bytes, size: str = "{:x}", extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """Return a body in chunks."""
    cut = len(body) // 2
    pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
    coded = b"".join(size.format(len(p)).encode() + extension + b"\r\n" + p + b"\r\n" for p in pieces)
    return coded + b"0\r\n" + trailers + b"\r\n"


RIGHT_TARGETS = [b"/a", b"/a?b=c", b"/a%2Fb", b"/%00", b"//a", b"/a;b"]
WRONG_TARGETS = [b"http://localhost/a", b"*", b"/a b", b"/a?\xc3\xa9", b"/" + b"a" * 20_000]

targets = st.sampled_from(RIGHT_TARGETS * 4 + WRONG_TARGETS)
methods = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS"] * 4 + [b"get", b"P(ST"])
bodies = st.sampled_from([b"", b"body", SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"4\r\nbody\r\n0\r\n\r\n"])
names = st.sampled_from(
    [b"X-A", b"Cookie", b"X-Forwarded-For", b"Forwarded", b"Connection", b"X-Tidegate-Dashboard", b"X_A"]
)
RIGHT_VALUES = [b"a", b"", b"X-A", b"close", b"a=1; b=2"]
WRONG_VALUES = [b"a\r\n folded", b"a\nX-Injected: 1", b"a\rX-Injected: 1", b"a\x00b", b"\xff", b"\xc3\xa9"]
values = st.sampled_from(RIGHT_VALUES * 8 + WRONG_VALUES)
headers = st.builds(
    lambda name, colon, value: name + colon + value, names, st.sampled_from([b": "] * 6 + [b":", b" : "]), values
)


@st.composite
def framings(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return the header lines that frame a body, and the body as it is sent: often in two ways at once."""
    body = draw(bodies)
    length = str(len(body)).encode()
    coded = chunks(
        body,
        draw(st.sampled_from(["{:x}", "{:X}", "{:04x}", "0x{:x}", "+{:x}", "{:x} ", "{:x}\t"])),
        draw(st.sampled_from([b"", b";a", b";a=b", b';a="b"', b";\n", b";\r", b"; " + b"a" * 5000])),
        draw(st.sampled_from([b"", b"X-Trailer: 1\r\n", b"Content-Length: 5\r\n", b"X-Forwarded-For: 9.9.9.9\r\n"])),
    )
    plain = [
        b"Content-Length: " + length,
        b"Content-Length: " + length + b"\r\nContent-Length: " + length,
        b"Content-Length: " + length + b", " + length,
        b"Content-Length: " + length + b"\r\nContent-Length: 1",
        b"Content-Length: +" + length,
        b"Content-Length: 0" + length,
        b"Content-Length: " + length + b" 1",
        b"Content-Length : " + length,
        b"Content-Length: 1",
        b"Content-Length: 99999999",
        b"Content-Length: 99999999999999999999999",
        b"Content-Length\r\n : " + length,
    ]
    chunked = [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: Chunked",
        b"transfer-encoding:chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding:\r\n chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: " + length,
        b"Content-Length: " + str(len(coded)).encode() + b"\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: identity\r\nContent-Length: " + length,
        b"X: y\nTransfer-Encoding: chunked",
    ]
    kind = draw(st.sampled_from(["none", "right length", "right chunks", "length", "chunks", "chunks"]))
    if kind == "none":
        return b"", b""
    if kind.startswith("right"):
        return (plain[0], body) if kind == "right length" else (chunked[0], chunks(body))
    return (draw(st.sampled_from(plain)), body) if kind == "length" else (draw(st.sampled_from(chunked)), coded)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Return one request as it is sent."""
    framing, body = draw(framings())
    version = draw(st.sampled_from([b"HTTP/1.1"] * 20 + [b"HTTP/1.0", b"HTTP/1.10", b"HTTP/2.0"]))
    lines = [draw(methods) + b" " + draw(targets) + b" " + version, b"Host: localhost"]
    lines += draw(st.lists(headers, max_size=2)) + ([framing] if framing else [])
    end = draw(st.sampled_from([b"\r\n"] * 20 + [b"\n"]))
    return end.join(lines) + end * 2 + body


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Return one to three requests on one connection, perhaps with a few bytes changed, and a last one to end it."""
    stream = b"".join(draw(st.lists(requests(), min_size=1, max_size=3)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(stream)))
        new = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"\x00", b" ", b":", b";", b"0", b"\t", b"\x0b", b"\xff"])
        )
        stream = stream[:at] + new + stream[at + draw(st.integers(0, 2)) :]
    return stream + END


def read(stream: bytes) -> list[Seen]:
    """Return the requests that h11 finds, until something is wrong."""
    found: list[Seen] = []
    try:
        while True:
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2**20)
            # Empty lines before a request are nothing, and several spaces in its first line are one (RFC 9112, 2.2 and
            # 3); h11 would have neither.
            stream = stream.lstrip(b"\r\n")
            connection.receive_data(re.sub(rb"\A([^ \r\n]+) +([^ \r\n]+) +HTTP/", rb"\1 \2 HTTP/", stream))
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return found
            body = b""
            while not isinstance(part := connection.next_event(), h11.EndOfMessage):
                if not isinstance(part, h11.Data):
                    return found
                body += part.data
            found.append(Seen(request.method.decode(), request.target, tuple(request.headers), body))
            stream, _ = connection.trailing_data
    except h11.ProtocolError:
        return found


def same(seen: Seen, found: Seen) -> bool:
    """Whether the server understood a request as h11 does."""
    given_headers = set(found.headers)
    passed = [(name, value) for name, value in seen.headers if name not in OURS | FRAMING]
    told = (seen.method, seen.target, seen.body) == (found.method, found.target, found.body)
    return told and all(header in given_headers for header in passed)


def judge(front: Front, stream: bytes) -> None:
    """Send a stream, and see that all who read it agree."""
    answer, seen = front.exchange(stream)
    expected = iter(read(stream))
    for one in seen:
        assert any(same(one, other) for other in expected), f"{one} is not among what was sent: {stream!r}"
        for name, value in ((b"x-forwarded-for", b"127.0.0.1"), (b"host", b"localhost")):
            assert [v for n, v in one.headers if n == name] == [value], (one, stream)
        assert b"x-injected" not in dict(one.headers)
    numbers = [int(number) for number in re.findall(rb"^[xX]-[nN]umber: (\d+)\r$", answer, re.MULTILINE)]
    last = len(front.server.seen)
    assert numbers == list(range(last - len(seen) + 1, last + 1)), (seen, answer, stream)
    statuses = re.findall(rb"^HTTP/1\.[01] (\d{3}) ", answer, re.MULTILINE)
    assert not [status for status in statuses if status >= b"500"], (answer, stream)
    event(f"{len(seen)} of {len(read(stream))} requests passed, {'refused' if b'400' in statuses else 'none refused'}")


@settings(deadline=None)  # whoever says half a request is waited for
@given(streams())
@example(b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody" + END)
@example(b"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(SMUGGLED) + END)
def test_nothing_is_smuggled_past_the_proxy(front: Front, stream: bytes) -> None:
    """Whatever is sent, the server behind sees what was sent and nothing else, and each request has its answer."""
    judge(front, stream)


def test_what_is_right_passes(front: Front) -> None:
    """So that the test above cannot be satisfied by a proxy that refuses everything."""
    head = b"POST /%d HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n" + chunks(SMUGGLED, extension=b";a=b")
    stream = head % 1 + b"Content-Length: 4\r\n\r\nbody" + head % 2 + b"\r\n" + head % 3 + chunked
    _, seen = front.exchange(stream)

    assert [(one.target, one.body) for one in seen] == [(b"/1", b"body"), (b"/2", b""), (b"/3", SMUGGLED)]
    assert [(one.target, one.body) for one in read(stream)] == [(one.target, one.body) for one in seen]


def test_trailers_are_nobodys_headers(front: Front) -> None:
    """What follows the last chunk of a request's body does not become a header of the next request."""
    head = b"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    _, seen = front.exchange(head + chunks(b"body", trailers=b"Authorization: Bearer x\r\n") + END)

    assert [one.target for one in seen] in ([b"/a"], [b"/a", b"/end"])
    assert not any(b"authorization" in dict(one.headers) for one in seen)
