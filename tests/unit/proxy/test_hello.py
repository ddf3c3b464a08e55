"""The ClientHello parser: right on real hellos however they are cut, and never surprised by anything."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proxy_rig import client_hello, in_records
from tidegate.proxy.hello import HELLO_LIMIT, RECORDS_LIMIT, Malformed, Name, NeedMore, NotTls, parse

HELLO = client_hello("daskgateway-0123456789abcdef")


def with_extension(hello: bytes, kind: int, content: bytes) -> bytes:
    """Return a hello (in one record) with one more extension, in front of the others."""
    message = bytearray(hello[5:])
    at = 4 + 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    extension = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    total = int.from_bytes(message[at : at + 2], "big") + len(extension)
    message[at : at + 2] = total.to_bytes(2, "big") + extension
    message[1:4] = (len(message) - 4).to_bytes(3, "big")
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + bytes(message)


def feed(data: bytes) -> tuple[object, int]:
    """Parse as a caller does: only as many bytes as were asked for; return the answer and the number of rounds."""
    given_bytes, rounds = 0, 0
    while True:
        rounds += 1
        found = parse(data[:given_bytes])
        if not isinstance(found, NeedMore) or given_bytes >= len(data):
            return found, rounds
        assert found.total > given_bytes
        given_bytes = min(found.total, len(data))


def test_a_real_hello_gives_its_name():
    """The name that OpenSSL sends is found."""
    assert parse(HELLO) == Name("daskgateway-0123456789abcdef")


def test_names_are_compared_in_lower_case():
    """DNS names have no case, so the answer has one."""
    assert parse(client_hello("DaskGateway-ABC")) == Name("daskgateway-abc")


def test_a_hello_may_name_nobody():
    """A client that connects to an address sends no name."""
    assert parse(client_hello(None)) == Name(None)


def test_bytes_after_the_hello_do_not_matter():
    """What a client sends early is not looked at."""
    assert parse(HELLO + b"whatever follows") == Name("daskgateway-0123456789abcdef")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x80\x2e\x01", b"\x00", b"P"])
def test_what_is_no_handshake_is_told_from_the_first_byte(data: bytes):
    """HTTP, and the SSL 2 hello, are not TLS."""
    assert parse(data) == NotTls()


@pytest.mark.parametrize("size", [1_500, 3_000, 8_000])
def test_a_hello_that_is_larger_than_a_segment_is_read(size: int):
    """Post-quantum key shares and tickets make hellos that come in several segments."""
    hello = with_extension(HELLO, 0x0015, bytes(size))

    assert parse(hello[:1_460]) == NeedMore(len(hello))
    assert parse(hello) == Name("daskgateway-0123456789abcdef")


@given(st.lists(st.integers(1, 200), max_size=RECORDS_LIMIT - 2))
def test_a_hello_may_be_cut_into_records_anywhere(sizes: list[int]):
    """However the message is cut into records, the name is the same."""
    answer, rounds = feed(in_records(HELLO, sizes))

    assert answer == Name("daskgateway-0123456789abcdef")
    assert rounds <= 2 * RECORDS_LIMIT + 1


@given(st.binary(max_size=600))
def test_whatever_comes_there_is_an_answer(data: bytes):
    """Arbitrary bytes raise nothing and keep nobody waiting for bytes that are there."""
    answer = parse(data)

    assert isinstance(answer, NeedMore | Name | NotTls | Malformed)
    if isinstance(answer, NeedMore):
        assert len(data) < answer.total <= HELLO_LIMIT


@given(st.binary(max_size=400), st.integers(0, 400), st.integers(0, 400))
def test_a_damaged_hello_raises_nothing(noise: bytes, start: int, length: int):
    """A hello with a piece replaced by noise is read or refused, and never waited for without end."""
    damaged = HELLO[:start] + noise + HELLO[start + length :]

    answer, rounds = feed(damaged)

    assert isinstance(answer, NeedMore | Name | NotTls | Malformed)
    assert rounds <= 2 * RECORDS_LIMIT + 2


@given(st.lists(st.integers(1, 120), max_size=8), st.binary(max_size=40), st.integers(0, 300), st.integers(0, 700))
def test_more_bytes_never_change_an_answer(sizes: list[int], noise: bytes, where: int, cut: int):
    """An answer about the beginning holds for the whole: what is routed once is routed right."""
    data = in_records(HELLO, sizes)
    data = data[:where] + noise + data[where + len(noise) :]
    early, late = parse(data[:cut]), parse(data)

    if not isinstance(early, NeedMore):
        assert early == late
    elif isinstance(late, NeedMore):
        assert early.total <= late.total


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x02\x00\x00\x05",  # SSL 2 in disguise
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01\x40\x01",  # a record above the limit
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # sixteen megabytes are announced
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",  # a hello of one byte
        in_records(HELLO, [20])[:25] + b"\x17\x03\x03\x00\x01x",  # application data in the middle
        in_records(HELLO, [1] * 100),  # a hundred records
        with_extension(HELLO, 0, b"\x00\x00"),  # a list of no names
        with_extension(HELLO, 0, b"\x00\x05\x00\x00\x02\xff\xfe"),  # a name that is no ASCII
        with_extension(HELLO, 0, b"\x00\x06\x00\x00\x03a/b"),  # a name that is no host name
        with_extension(HELLO, 0, b"\x00\x04\x00\x00\x09a"),  # a name longer than its list
    ],
    ids=itertools.count(),
)
def test_broken_hellos_are_malformed(data: bytes):
    """What breaks a rule of TLS is refused, and the reason is given."""
    answer = parse(data)

    assert isinstance(answer, Malformed)
    assert answer.why


def test_a_hello_above_the_limit_is_malformed_before_it_has_come():
    """Nobody makes us wait for, or hold, more than the limit."""
    records = b""
    while len(records) < HELLO_LIMIT:
        records += b"\x16\x03\x01\x40\x00" + (b"\x01\x00\x7f\xff" if not records else b"\x00" * 4) + bytes(2**14 - 4)

    answer, _ = feed(records)

    assert isinstance(answer, Malformed)
    assert isinstance(parse(records[: HELLO_LIMIT - 1]), Malformed)
