"""The holder process as the supervisor sees it: found or started, asked for the listening socket, started again.

The holder (``tidegate.holder``) has the listening socket, and duplicates of what passes through the proxies. It is the
one place where a supervisor gets the socket from, so that a restart neither binds anew (which would fail, or need a gap
in which connections are refused) nor depends on which proxies live. A holder that was killed is told everything again
by the proxies, the listening socket included.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tidegate.config.schema import Address
from tidegate.server.children import Say, describe_end, end, keep_running, last_words, start, wait, wait_for_pid
from tidegate.server.listener import LivingProxy, bind, fits
from tidegate.wire.holder import close_all, connect, receive, send

ANSWER_SECONDS = 5.0
"""How long a holder may take to answer: it does nothing that waits. One that takes longer is stuck, and is replaced."""
START_SECONDS = 10.0
"""How long a holder may take to start, and living proxies to tell it what they have: usually a quarter of a second."""
LOOK_SECONDS = 0.05

_PEER_CREDENTIALS = struct.Struct("3i")

T = TypeVar("T")


class HolderProcess:
    """Keeps the holder running and talks to it.

    Parameters
    ----------
    data : Path
        The data folder.
    say : callable
        Tells the person at the terminal.
    """

    def __init__(self, data: Path, say: Say) -> None:
        self._run_dir = data / "run"
        self._log = data / "logs" / "holder.log"
        self._say = say
        self._pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: socket.socket | None = None

    async def open_listener(self, address: Address, living: list[LivingProxy]) -> socket.socket:
        """Return the listening socket for ``address``, and make sure that there is a holder which has it.

        Raises
        ------
        CannotServe
            When the port is taken by another program, or is not ours to take.
        """
        # Of proxies without a holder we know that they will bring their socket to a new one.
        expected = any(proxy.status.get("accepting") and fits(proxy.address, address) for proxy in living)
        if await asyncio.to_thread(self._find) is None and expected:
            self._start()
        listener = await self._inherit(address, expected)
        self._listener = listener if listener is not None else bind(address)
        if self._pid is None:
            self._start()
        elif listener is None:
            there = [self._listener.fileno()]
            await asyncio.to_thread(self._ask, lambda link: send(link, {"op": "listen"}, there))
        return self._listener

    async def run(self) -> None:
        """Keep it running until cancelled, which does not end it."""
        await keep_running("holder", self._one, self._say)

    async def end(self) -> None:
        """Tell it to end as soon as the proxies have."""
        try:
            await asyncio.to_thread(self._ask, lambda link: send(link, {"op": "end"}))
        except OSError:
            # One that is only just starting cannot be told yet, and later there is nobody to do so.
            if self._process is not None:
                await end(self._process)

    async def give_up(self) -> None:
        """End the one that was started here: nobody was told yet that there is a gateway."""
        if self._process is not None:
            await self.end()

    async def _one(self) -> str:
        """Wait for the end of the holder; return how it ended."""
        if self._pid is None:
            self._start()
        process, pid, self._pid = self._process, self._pid, None
        if process is not None:
            return f"{describe_end(await wait(process))}; {last_words(self._log)}"
        if pid is not None:
            await wait_for_pid(pid)
        return "taken over, so nobody knows how"

    def _start(self) -> None:
        there = [] if self._listener is None else [self._listener.fileno()]
        arguments = [str(self._run_dir), *map(str, there)]
        self._process = start("tidegate.holder", arguments, log=self._log, descriptors=there)
        self._pid = self._process.pid

    async def _inherit(self, address: Address, expected: bool) -> socket.socket | None:
        """Return the socket that the holder has, None when it has none for this address."""
        deadline = time.monotonic() + START_SECONDS
        while self._pid is not None:
            listener = await asyncio.to_thread(self._which)
            if listener is not None:
                host, port = listener.getsockname()[:2]
                if fits(Address(host, port), address):
                    return listener
                listener.close()
                return None
            if not expected or time.monotonic() > deadline:
                return None
            await asyncio.sleep(LOOK_SECONDS)
        return None

    def _find(self) -> int | None:
        """Return the holder of an earlier supervisor. One that does not answer is killed: the next one is told all."""
        try:
            with connect(self._run_dir) as link:
                raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
            self._pid = _PEER_CREDENTIALS.unpack(raw)[0]
            listener = self._ask(_which)
        except TimeoutError:
            if self._pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._pid = None
        except OSError:
            self._pid = None
        else:
            if listener is not None:
                listener.close()
        return self._pid

    def _which(self) -> socket.socket | None:
        try:
            return self._ask(_which)
        except OSError:  # it is only just being started
            return None

    def _ask(self, talk: Callable[[socket.socket], T]) -> T:
        with connect(self._run_dir) as link:
            link.settimeout(ANSWER_SECONDS)
            return talk(link)


def _which(link: socket.socket) -> socket.socket | None:
    send(link, {"op": "which"})
    answer = receive(link)
    if answer is None:
        raise ConnectionResetError("the holder has ended")
    _, descriptors = answer
    if not descriptors:
        return None
    close_all(descriptors[1:])
    return socket.socket(fileno=descriptors[0])
