"""The control process as its supervisor sees it: started, started again, asked, ended."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

from tidegate.server.channel import Channel, Closed, Message
from tidegate.server.children import Say, describe_end, end, keep_running, last_words, start, wait
from tidegate.server.preflight import CannotServe

FIRST_PAUSE = 0.02
"""Seconds before the first new start: the API is away meanwhile. The start itself takes half a second, so one that ends
at once does not keep the machine busy with starts before the pause has doubled a few times."""


class ControlProcess:
    """Keeps the control process running and talks to it.

    Parameters
    ----------
    greeting : mapping
        The settings, as ``server/control.py`` reads them.
    data : Path
        The data folder.
    say : callable
        Tells the person at the terminal.
    """

    def __init__(self, greeting: Message, data: Path, say: Say) -> None:
        self._greeting = greeting
        self._log = data / "logs" / "control.log"
        self._say = say
        self._channel: Channel | None = None
        self._first: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Keep it running until cancelled, which ends it."""
        await keep_running("control", self._once, self._say, first_pause=FIRST_PAUSE)

    async def ready(self) -> Message:
        """Wait until it serves for the first time; return what it says then.

        Raises
        ------
        CannotServe
            When it cannot, for a reason that a new start would not cure.
        """
        return await asyncio.shield(self._first)

    async def ask(self, op: str, timeout: float) -> Message:
        """Ask for an operation (``server/channel.py``)."""
        if self._channel is None:
            raise Closed
        return await self._channel.ask(op, timeout)

    async def _once(self) -> str:
        ours, theirs = socket.socketpair()
        with theirs:
            # Control compares the number with its parent's: whether we died before it asked to die with us.
            arguments = [str(theirs.fileno()), str(os.getpid())]
            process = start("tidegate.server.control", arguments, log=self._log, descriptors=[theirs.fileno()])
        channel = await Channel.over(ours)
        try:
            channel.send(self._greeting)
            self._channel = channel
            async for message in channel.messages():
                self._hear(message)
            return f"{describe_end(await wait(process))}; {last_words(self._log)}"
        finally:
            self._channel = None
            channel.close()
            await end(process)

    def _hear(self, message: Message) -> None:
        if message.get("event") == "failed":
            if self._first.done():
                self._say(message["message"])
            else:
                self._first.set_exception(CannotServe(message["message"]))
        elif message.get("event") == "ready" and not self._first.done():
            self._first.set_result(message)
        elif message.get("event") == "ready":
            self._say("The control process is back.")
