"""What the supervisor and the control process say to each other: one JSON object a line over a pair of sockets.

The pair is made before control starts and inherited by it, so nobody else can speak there, and its end is noticed by
the other side at once. The supervisor's first line is the settings; then it asks, with an ``id``:

===================  ===============================================================================================
``op``               answer
===================  ===============================================================================================
``clusters``         ``clusters``: those that have not ended, each with ``name``, ``owner`` and ``workers``
``end-clusters``     ``remaining``: how many clusters are left, once all are told to stop and none is, or time is up
===================  ===============================================================================================

Unasked, control says ``{"event": "ready", ...}`` when it serves, with what to tell the person who started it; or
``{"event": "failed", "message": ...}`` when it cannot, for a reason that a new start would not cure.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

LINE_LIMIT = 64 * 2**20
"""Bytes of one line: a list of a hundred thousand clusters fits."""

Message = dict[str, Any]


class Closed(Exception):
    """The other side is gone."""


class Channel:
    """One end of the conversation."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """Speak over this end of a pair of sockets."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=LINE_LIMIT))

    def send(self, message: Message) -> None:
        """Say something; if the other side is gone, that shows when listening."""
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def ask(self, op: str, timeout: float) -> Message:
        """Ask for an operation and return the answer; someone must be listening (``messages``) meanwhile.

        Raises
        ------
        Closed
            When the other side is gone before it answered.
        TimeoutError
        """
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.send({"id": number, "op": op})
            return await asyncio.wait_for(answer, timeout)
        finally:
            del self._waiting[number]

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other side says, but for answers, which go to who asked; end when it is gone."""
        try:
            while line := await self._reader.readline():
                message: Message = json.loads(line)
                waiting = None if "op" in message else self._waiting.get(message.get("id", 0))
                if waiting is None:
                    yield message
                elif not waiting.done():
                    waiting.set_result(message)
        except ConnectionError:
            pass
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Closed())

    async def drain(self) -> None:
        """Wait until what was said is on its way."""
        await self._writer.drain()

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
