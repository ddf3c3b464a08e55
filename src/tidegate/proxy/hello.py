"""From the first bytes of a connection to the name in its TLS ClientHello, without a socket in sight.

A TLS client opens with a ClientHello (RFC 8446, 4.1.2) that says in clear text whom it wants to talk to: the server
name indication, SNI (RFC 6066, 3). That name is all that the proxy needs to route a connection that it cannot read.

``parse`` is a pure function of the bytes seen so far. Its answer is final or it is ``NeedMore(total)``: the count of
bytes, from the first on, without which it cannot know more. More bytes never change a final answer, and every
``NeedMore`` asks for more bytes than it was given, so whoever calls in a loop comes to an end. It never raises: the
bytes are hostile.

A hello may be larger than one segment (session tickets and post-quantum key shares make hellos of 2 kB and more) and
may be cut into several records at any place, so records are joined before the message is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HELLO_LIMIT = 32 * 1024
"""Bytes of a ClientHello with its record headers; more is malformed. Real ones have 0.2 to 4 kB; OpenSSL stops at
128 kB, nginx's ``ssl_preread_buffer_size`` is 16 kB."""

RECORDS_LIMIT = 64
"""Records that one ClientHello may be cut into: every one of them makes us look again."""

RECORD_HEADER = 5
RECORD_LIMIT = 2**14
"""Bytes that one plaintext record may carry (RFC 8446, 5.1)."""

_HANDSHAKE_RECORD = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_FIXED_PART = 2 + 32
"""Bytes of legacy version and random, with which the message begins."""

# A host name as RFC 6066 wants it: ASCII, no trailing dot needed. Underscores are not for hosts, but are out there.
_HOST = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})?")


@dataclass(frozen=True, slots=True)
class NeedMore:
    """Nothing can be said before ``total`` bytes are there, counted from the first."""

    total: int


@dataclass(frozen=True, slots=True)
class Name:
    """A complete ClientHello: the name it asks for in lower case, or None if it asks for none."""

    name: str | None


@dataclass(frozen=True, slots=True)
class NotTls:
    """The bytes are no TLS handshake: HTTP, most likely."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """The bytes begin like TLS and then break its rules, or exceed our limit."""

    why: str


Hello = NeedMore | Name | NotTls | Malformed


class _Broken(Exception):
    """The message ends before a length in it says so, or breaks a rule."""


def parse(data: bytes) -> Hello:
    """Say what the first bytes of a connection are.

    Parameters
    ----------
    data : bytes
        Everything received so far, from the first byte on.

    Returns
    -------
    NeedMore or Name or NotTls or Malformed
    """
    if data and data[0] != _HANDSHAKE_RECORD:
        return NotTls()
    try:
        joined = _join_records(data)
        return joined if isinstance(joined, NeedMore) else Name(_server_name(joined))
    except _Broken as error:
        return Malformed(str(error))


def _join_records(data: bytes) -> bytes | NeedMore:
    """Return the handshake message without its 4-byte header once it is complete."""
    message = bytearray()
    at = 0
    for _ in range(RECORDS_LIMIT):
        if len(data) < at + RECORD_HEADER:
            return _need(at + RECORD_HEADER)
        # A second record of another type inside a handshake message is forbidden (RFC 8446, 5.1), and so is an empty
        # one; endless empty records would be a way to keep us busy.
        if data[at] != _HANDSHAKE_RECORD or data[at + 1] != 3:
            raise _Broken("a record of the hello is no TLS handshake record")
        length = int.from_bytes(data[at + 3 : at + RECORD_HEADER], "big")
        if not 0 < length <= RECORD_LIMIT:
            raise _Broken(f"a record of the hello has the length {length}")
        end = at + RECORD_HEADER + length
        message += data[at + RECORD_HEADER : end]
        _check_type(message)
        if len(data) < end:
            return _need(end)
        if len(message) >= 4 and len(message) - 4 >= (size := int.from_bytes(message[1:4], "big")):
            return bytes(message[4 : 4 + size])
        at = end
    raise _Broken(f"the hello is cut into more than {RECORDS_LIMIT} records")


def _check_type(message: bytearray) -> None:
    if message and message[0] != _CLIENT_HELLO:
        raise _Broken("the first handshake message is no ClientHello")
    if len(message) >= 4 and int.from_bytes(message[1:4], "big") > HELLO_LIMIT:
        raise _Broken(f"the hello is longer than {HELLO_LIMIT} bytes")


def _need(total: int) -> NeedMore:
    if total > HELLO_LIMIT:
        raise _Broken(f"the hello is longer than {HELLO_LIMIT} bytes")
    return NeedMore(total)


class _Reader:
    """A cursor over the message: takes fixed fields, and vectors with their length in front."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) < count:
            raise _Broken("the hello ends in the middle of a field")
        self.at += count
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))


def _server_name(message: bytes) -> str | None:
    fields = _Reader(message)
    fields.take(_FIXED_PART)
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    if not fields:
        return None  # before TLS 1.3, extensions were optional
    extensions = _Reader(fields.vector(2))
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            return _host_name(content)
    return None


def _host_name(content: bytes) -> str:
    names = _Reader(_Reader(content).vector(2))
    while names:
        kind, value = names.number(1), names.vector(2)
        if kind == _HOST_NAME:
            if not _HOST.fullmatch(value):
                raise _Broken("the server name is no host name")
            return value.decode("ascii").lower()
    raise _Broken("the server name extension names nothing")
