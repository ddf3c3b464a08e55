"""What happens to a cluster, as it happens: server-sent events (HTML standard, 9.2), read as they come.

``EventParser`` turns bytes into messages and knows nothing of a network. ``follow`` keeps a stream open over cuts: it
comes back with the number of the last event that it saw, so none is lost and none comes twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tidegate.client.errors import GatewayError
from tidegate.client.transport import Transport
from tidegate.model import event as kinds

ENDED = frozenset({kinds.STOPPED, kinds.FAILED})
"""The kinds of event after which nothing more happens to a cluster."""

POLL_LIMIT = 5.0
"""Seconds between two looks at the longest, while there is no event stream."""

LASTING_SECONDS = POLL_LIMIT
"""A stream that ends in order after so long was one: the gateway ends each after a while to ask again who follows. To
come back at once is then no more than the looks would be."""

BUFFER_LIMIT = 16 * 2**20
"""Bytes of one message. The longest event carries a log tail of some kilobytes; beyond this it is no event stream."""


@dataclass(frozen=True)
class Message:
    """One server-sent message."""

    event: str
    data: str
    id: str | None


class EventParser:
    """Turns the bytes of an event stream, cut anywhere, into messages."""

    def __init__(self) -> None:
        self._rest = b""
        self._first = True
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Message]:
        """Take the next bytes and yield the messages that they complete."""
        self._rest += chunk
        if len(self._rest) > BUFFER_LIMIT:
            raise ValueError("this is no event stream: a line does not end")
        if self._first and len(self._rest) >= 3:
            self._rest = self._rest.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        while (line := self._next_line()) is not None:
            message = self._take(line.decode("utf-8", "replace"))
            if message is not None:
                yield message

    def _next_line(self) -> bytes | None:
        """Cut off the next line. It ends with LF, CR or CRLF; a CR at the very end may be half of a CRLF: wait."""
        ends = [at for at in (self._rest.find(b"\n"), self._rest.find(b"\r")) if at >= 0]
        if not ends or self._first:
            return None
        at = min(ends)
        if self._rest[at : at + 1] == b"\r" and at + 1 == len(self._rest):
            return None
        after = at + 2 if self._rest[at : at + 2] == b"\r\n" else at + 1
        line, self._rest = self._rest[:at], self._rest[after:]
        return line

    def _take(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None  # comments, `retry` and unknown fields

    def _dispatch(self) -> Message | None:
        data, event = self._data, self._event
        self._data, self._event = [], ""
        return Message(event or "message", "\n".join(data), self._id) if data else None


@dataclass(frozen=True)
class ClusterEvent:
    """Something that happened to a cluster; the kinds and their data are in ``tidegate.model.event``."""

    kind: str
    message: str
    data: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0
    at: float = 0.0

    @classmethod
    def from_message(cls, message: Message) -> ClusterEvent | None:
        """Return the event in ``message``, or None if there is none in it."""
        try:
            body = json.loads(message.data)
            return cls(body["kind"], body["message"], body.get("data") or {}, int(body["id"]), float(body["at"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


LOOK = kinds.LOOK
"""Kind of an event that says only: read the cluster. It comes here too while there is no stream to tell news."""


async def follow(
    transport: Transport, name: str, after: int | None = None, lasting: float = LASTING_SECONDS
) -> AsyncGenerator[ClusterEvent, None]:
    """Yield what happens to the cluster ``name``, from its beginning or after the event ``after``, to its end.

    Where no stream can be had (a proxy on the way that holds it back, a gateway that is being restarted), an event of
    the kind ``LOOK`` comes at growing intervals, and the stream is tried again. It is for the caller, who reads the
    cluster, to notice its end then. A stream that ends in order after ``lasting`` seconds is taken up without a word.

    Raises
    ------
    GatewayError
        When the gateway refuses: the cluster is not there, or not yours.
    """
    last, failures = after, 0
    while True:
        headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": str(last)})
        began = time.monotonic()
        try:
            async with transport.stream(f"/api/v2/clusters/{name}/events", headers) as chunks:
                if chunks is None:
                    return
                parser = EventParser()
                async for chunk in chunks:
                    for message in parser.feed(chunk):
                        event = ClusterEvent.from_message(message)
                        if event is None:
                            continue
                        last, failures = event.id, 0
                        yield event
                        if event.kind in ENDED:
                            return
            if time.monotonic() - began >= lasting:
                failures = 0
                continue
        except (OSError, aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
            if isinstance(error, GatewayError):
                raise
        yield ClusterEvent(LOOK, "")
        await asyncio.sleep(min(0.1 * 2**failures, POLL_LIMIT))
        failures = min(failures + 1, 10)
