"""The proxy's end of the conversation with the holder (``wire/holder.py``).

What this process is killed with, another one goes on with: the holder has a duplicate of each spliced connection and
of each pipe, and reads in the ledger whose bytes are in which pipe. Everything is told before it is used and nothing is
waited for. While something could not be told (the holder has just been started, or is slow), the ledger says so, and if
this process dies just then, its connections end with it.

The proxy works without a holder too, and looks for one all the time.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.wire.holder import PIPES, Ledger, close_all, connect, make_memory, receive, send

LOOK_SECONDS = 0.25
"""Between two looks for a holder, while there is none."""
AGAIN_SECONDS = 0.02
"""Until what could not be sent is sent again. In this time the holder takes in some hundred messages."""

_FULL = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.ENOMEM)
"""It is of no use to send more for now: the queue is full, or descriptors on their way are as many as may be."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that another process has left."""

    cluster: str
    client: socket.socket
    server: socket.socket
    carries: Sequence[int]
    """Which way the bytes in each pipe go."""
    pipes: Sequence[tuple[int, int]]
    """Read end and write end of each pipe."""


class Holding:
    """Tells the holder what this process has, and takes what it offers.

    Parameters
    ----------
    run_dir : Path
        Where the holder listens.
    listener : callable
        Returns the listening socket, None when this process does not accept from it.
    take : callable
        Called with a ``Taken``; returns its number, the numbers of its pipes, and what makes its bytes move (and does
        nothing if it was cut before).
    give : callable
        Called when this process has retired and another one is there to take its connections.
    """

    def __init__(
        self,
        run_dir: Path,
        listener: Callable[[], socket.socket | None] = lambda: None,
        take: Callable[[Taken], tuple[int, list[int], Callable[[], None]]] | None = None,
        give: Callable[[], None] = lambda: None,
    ) -> None:
        self._run_dir = run_dir
        self._listener = listener
        self._take = take
        self._give = give
        self._memory = make_memory()
        self._ledger = Ledger(self._memory)
        self.words = self._ledger.words
        self._connections: dict[int, tuple[str, int, int]] = {}
        self._pipes: dict[int, tuple[int, int]] = {}
        self._free_pipes: list[int] = []
        self._last = 0
        self._link: socket.socket | None = None
        self._unsent: dict[tuple[str, int], tuple[dict[str, Any], Sequence[int]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._retired = False

    @property
    def connected(self) -> bool:
        """Whether there is a holder, and everything has been told to it."""
        return self._link is not None and not self._unsent

    def start(self) -> None:
        """Look for the holder from now on."""
        self._look()

    def close(self) -> None:
        """Leave: what is registered is nobody else's to take."""
        self._ledger.complete = False
        self._lose_link()
        if self._timer is not None:
            self._timer.cancel()
        self._ledger.close()
        os.close(self._memory)

    # What this process has.

    def hold(self, cluster: str, client: int, server: int) -> int:
        """Register a connection, before its first byte is moved; return its number."""
        number = self.number()
        self._connections[number] = (cluster, client, server)
        self._tell("connection", number, {"op": "hold", "id": number, "cluster": cluster}, (client, server))
        return number

    def number(self) -> int:
        """Return the next connection's number."""
        self._last += 1
        return self._last

    def drop(self, number: int) -> None:
        """Take note that a connection has ended. It must be shut down: to close it does not end it any more."""
        if self._connections.pop(number, None) is not None:
            self._tell("connection", number, {"op": "drop", "id": number})

    def add_pipe(self, read: int, write: int, *, tell: bool = True) -> int:
        """Register a pipe, before anything is in it; return its number.

        Raises
        ------
        OSError
            There are as many as there may be.
        """
        if not self._free_pipes and len(self._pipes) >= PIPES:
            raise OSError(errno.EMFILE, f"cannot use more than {PIPES} pipes")
        number = self._free_pipes.pop() if self._free_pipes else len(self._pipes)
        self.words[1 + number] = 0
        self._pipes[number] = (read, write)
        if tell:
            self._tell("pipe", number, {"op": "pipe", "pipe": number}, (read, write))
        return number

    def remove_pipe(self, number: int, *, tell: bool = True) -> None:
        """Take note that a pipe is closed."""
        del self._pipes[number]
        self._free_pipes.append(number)
        self.words[1 + number] = 0
        if tell:
            self._tell("pipe", number, {"op": "unpipe", "pipe": number})

    # Giving connections away.

    def retire(self) -> None:
        """Take no connections any more, and give away those that are here, if somebody takes them."""
        self._retired = True
        self._tell("retire", 0, {"op": "retire"})

    def release(self, number: int, pipes: Sequence[tuple[int, int]]) -> bool:
        """Give a connection away whose bytes nobody moves any more.

        Parameters
        ----------
        number : int
        pipes : sequence of (number, direction)
            The pipes with bytes of it.

        Returns
        -------
        bool
            Whether it is given away. If not, it has to be served on, and may be released later.
        """
        if not self.connected:
            return False
        cluster, client, server = self._connections[number]
        message = {"op": "release", "id": number, "cluster": cluster, "carries": [way for _, way in pipes]}
        ends = [end for pipe, _ in pipes for end in self._pipes[pipe]]
        if not self._send({**message, "pipes": [pipe for pipe, _ in pipes]}, (client, server, *ends)):
            return False
        del self._connections[number]
        return True

    # Talking.

    def _tell(self, kind: str, number: int, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        if self._link is None:
            return  # a holder that comes is told everything
        if not self._unsent and self._send(message, descriptors):
            return
        self._put_off(kind, number, message, descriptors)

    def _put_off(self, kind: str, number: int, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        """Remember a message for later. It replaces what waits about the same thing, whose descriptors may be gone."""
        if self._link is None:
            return
        self._ledger.complete = False
        self._unsent.pop((kind, number), None)
        self._unsent[kind, number] = (message, descriptors)
        if self._timer is None:
            self._timer = self._later(AGAIN_SECONDS, self._send_unsent)

    def _send_unsent(self) -> None:
        self._timer = None
        while self._unsent:
            key = next(iter(self._unsent))
            if not self._send(*self._unsent[key]):
                if self._link is not None:
                    self._timer = self._later(AGAIN_SECONDS, self._send_unsent)
                return
            del self._unsent[key]
        if self._link is not None:
            self._ledger.complete = True

    def _send(self, message: dict[str, Any], descriptors: Sequence[int]) -> bool:
        """Send a message; False when that must wait, or when the holder is gone."""
        if self._link is None:
            return False
        try:
            send(self._link, message, descriptors)
        except OSError as error:
            if error.errno not in _FULL:
                self._mourn()
            return False
        return True

    def _look(self) -> None:
        """Connect to the holder, and tell it everything; or try again in a moment."""
        self._timer = None
        try:
            link = connect(self._run_dir)
        except OSError:
            self._timer = self._later(LOOK_SECONDS, self._look)
            return
        link.setblocking(False)
        self._link = link
        asyncio.get_running_loop().add_reader(link, self._hear, link)
        self._register()

    def _register(self) -> None:
        self._ledger.complete = False
        takes = self._take is not None and not self._retired
        self._unsent["proxy", 0] = ({"op": "proxy", "takes": takes}, (self._memory,))
        for number, ends in self._pipes.items():
            self._unsent["pipe", number] = ({"op": "pipe", "pipe": number}, ends)
        for number, (cluster, *sockets) in self._connections.items():
            self._unsent["connection", number] = ({"op": "hold", "id": number, "cluster": cluster}, sockets)
        if (listener := self._listener()) is not None:
            self._unsent["listener", 0] = ({"op": "listener"}, (listener.fileno(),))
        if self._retired:
            self._unsent["retire", 0] = ({"op": "retire"}, ())
        self._send_unsent()

    def _mourn(self) -> None:
        """Go on without a holder, and look for the next one."""
        logger.warning("the holder is gone: what passes through this process hangs on it alone until there is another")
        self._lose_link()
        self._timer = self._later(LOOK_SECONDS, self._look)

    def _lose_link(self) -> None:
        self._ledger.complete = False
        self._unsent.clear()
        if self._link is not None:
            asyncio.get_running_loop().remove_reader(self._link)
            self._link.close()
            self._link = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, call)

    # Listening.

    def _hear(self, link: socket.socket) -> None:
        while self._link is link:
            try:
                heard = receive(link)
            except BlockingIOError:
                return
            except OSError:
                continue  # it died with words of ours unread; its own are behind this error, and then its end
            if heard is None:
                self._mourn()
                return
            message, descriptors = heard
            if message["op"] == "take":
                self._receive(link, message, descriptors)
            elif message["op"] == "give":
                self._give()

    def _receive(self, link: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
        offer, carries = message["offer"], message["carries"]
        if self._take is None or len(descriptors) != 2 + 2 * len(carries):
            close_all(descriptors)
            logger.warning("cannot take over a connection of cluster %s: too few descriptors", message["cluster"])
            self._tell("refuse", offer, {"op": "refuse", "offer": offer})
            return
        client, server, *ends = descriptors
        pipes = list(zip(ends[::2], ends[1::2], strict=True))
        sockets = (_as_socket(client), _as_socket(server))
        number, numbers, begin = self._take(Taken(message["cluster"], *sockets, carries, pipes))
        accept = {"op": "accept", "offer": offer, "id": number, "pipes": numbers}
        self._connections[number] = (message["cluster"], client, server)
        self._accept(link, number, accept, begin)

    def _accept(self, link: socket.socket, number: int, message: dict[str, Any], begin: Callable[[], None]) -> None:
        """Move no byte of a connection before the holder knows that it is ours."""
        if self._link is link:
            if number not in self._connections:  # cut before it began
                message = {"op": "decline", "offer": message["offer"]}
            if self._unsent or not self._send(message, ()):
                self._later(AGAIN_SECONDS, partial(self._accept, link, number, message, begin))
                return
        begin()


def _as_socket(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    return sock
