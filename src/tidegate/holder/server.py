"""The holder's loop: it listens to proxies and the supervisor, and gives what a dead proxy leaves to a living one.

It never reads from, writes to or watches what it holds. It has no timer but for its own end, no thread, and no state
that is not told to it again by the proxies when it is started anew. So there is little that can go wrong, and little
that a change of it would be for: it can stay while everything else is upgraded.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from tidegate.holder.held import Connection, Held, Pipe, received
from tidegate.wire.holder import Ledger, close_all, receive, send

ALONE_SECONDS = 600.0
"""Without any proxy or supervisor for so long, nobody will come any more; as long as a proxy waits for control."""
AGAIN_SECONDS = 0.05
"""Until something that could not be given away is offered again."""
AT_ONCE = 256
"""Messages of one process before others have their turn."""
RESERVED = 512
"""Descriptors that connections leave free: for pipes, whose loss would cost the connections that use them, and for new
proxies."""

_PEER_CREDENTIALS = struct.Struct("3i")

logger = logging.getLogger(__name__)


class Link:
    """A process that has connected."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.held: Held | None = None
        self.takes = False
        self.retired = False
        self.offers: dict[int, Connection] = {}
        self.spared_until = 0.0

    @property
    def load(self) -> int:
        """How many connections it has, and is to have."""
        return len(self.offers) + (len(self.held) if self.held else 0)


class Holder:
    """Holds.

    Parameters
    ----------
    server : socket.socket
        Where proxies and the supervisor connect.
    listener : socket.socket, optional
        What the proxies accept from.
    alone_seconds : float
    """

    def __init__(
        self, server: socket.socket, listener: socket.socket | None, alone_seconds: float = ALONE_SECONDS
    ) -> None:
        self._server = server
        self._listener = listener
        self._alone_seconds = alone_seconds
        self._alone_since = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ, self._welcome)
        self._links: set[Link] = set()
        self._orphans: deque[Connection] = deque()
        self._offer = 0
        self._ending = False
        self._complained_at = 0.0
        self._limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._reserved = min(RESERVED, self._limit // 4)

    def run(self) -> None:
        """Hold until nobody needs it."""
        while not self._is_over():
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._give()

    def _is_over(self) -> bool:
        if self._links:
            return False
        return self._ending or time.monotonic() - self._alone_since >= self._alone_seconds

    def _patience(self) -> float | None:
        if not self._links:
            return self._alone_seconds
        return AGAIN_SECONDS if self._orphans and self._takers() else None

    def _takers(self) -> list[Link]:
        return [link for link in self._links if link.takes]

    # Who comes and goes.

    def _welcome(self) -> None:
        try:
            sock, _ = self._server.accept()
        except OSError as error:
            self._complain("cannot accept a process: %s", error)
            return
        if not _is_ours(sock):
            self._complain("refused process %s: it belongs to another user", sock.fileno())
            sock.close()
            return
        sock.setblocking(False)
        link = Link(sock)
        self._links.add(link)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(link))

    def _hear(self, link: Link) -> None:
        """Do what a process says. When it has died, that is what is heard last."""
        try:
            for _ in range(AT_ONCE):
                try:
                    heard = receive(link.sock)
                except ConnectionResetError:
                    continue  # it died with words of ours unread; its own are still in the queue, behind this error
                if heard is None:
                    self._inherit(link)
                    return
                self._perform(link, *heard)
        except BlockingIOError:
            pass
        except Exception:
            # It lives, and will connect again and say everything anew: nothing of it may be given to others.
            logger.exception("cannot understand a process")
            if link.held is not None:
                link.held.close()
            for connection in link.offers.values():
                connection.close()
            self._part(link)

    def _inherit(self, link: Link) -> None:
        """Keep what a dead process leaves, until another one takes it."""
        left = [*link.offers.values(), *(link.held.bequeath() if link.held else ())]
        if left:
            logger.info("a proxy has ended and leaves %d connections", len(left))
        self._orphans.extend(left)
        self._part(link)

    def _part(self, link: Link) -> None:
        self._links.discard(link)
        self._selector.unregister(link.sock)
        link.sock.close()
        if not self._links:
            self._alone_since = time.monotonic()

    # What is said.

    def _perform(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        operations: dict[str, Callable[[Link, dict[str, Any], list[int]], None]] = {
            "proxy": self._begin,
            "hold": self._hold,
            "drop": self._drop,
            "pipe": self._keep_pipe,
            "unpipe": self._drop_pipe,
            "accept": self._accepted,
            "decline": self._declined,
            "refuse": self._refused,
            "release": self._release,
            "retire": self._retire,
            "listener": self._learn_listener,
            "listen": self._replace_listener,
            "which": self._tell_listener,
            "end": self._end,
        }
        operations[message["op"]](link, message, descriptors)

    def _begin(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        try:
            link.held = Held(Ledger(descriptors[0]))
        finally:
            close_all(descriptors)
        link.takes = bool(message["takes"])
        if link.takes:
            self._ask_retired()

    def _hold(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        connection = received(message["cluster"], (), descriptors)
        if connection is None or max(descriptors) >= self._limit - self._reserved:
            self._complain("cannot hold more connections with %d file descriptors: one is not held", self._limit)
            if connection is not None:
                connection.close()
            return
        _held(link).hold(message["id"], connection)

    def _drop(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        _held(link).drop(message["id"])

    def _keep_pipe(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        if len(descriptors) == 2:
            _held(link).keep_pipe(message["pipe"], Pipe(*descriptors))
            return
        # What it replaces is no longer what the proxy means by this number.
        _held(link).drop_pipe(message["pipe"])
        close_all(descriptors)
        self._complain("cannot hold more pipes with %d file descriptors: one is not held", self._limit)

    def _drop_pipe(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        _held(link).drop_pipe(message["pipe"])

    def _accepted(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        _held(link).accept(message["id"], link.offers.pop(message["offer"]), message["pipes"])

    def _declined(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        link.offers.pop(message["offer"]).close()

    def _refused(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        self._complain("process of %d connections cannot take one over", link.load)
        self._orphans.append(link.offers.pop(message["offer"]))
        # It would refuse the next one as fast, and nobody would do anything else.
        link.spared_until = time.monotonic() + AGAIN_SECONDS

    def _release(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        held = _held(link)
        held.drop(message["id"])
        for number in message["pipes"]:
            held.drop_pipe(number)
        connection = received(message["cluster"], message["carries"], descriptors)
        if connection is None:
            self._complain("cannot hold more with %d file descriptors: a connection is lost", self._limit)
        else:
            self._orphans.append(connection)

    def _retire(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        link.takes, link.retired = False, True
        self._ask_retired()

    def _ask_retired(self) -> None:
        """Ask those that have retired for their connections, once there is somebody to take them."""
        if not self._takers():
            return
        for link in self._links:
            if link.retired:
                with contextlib.suppress(OSError):
                    send(link.sock, {"op": "give"})
                    link.retired = False

    # The listening socket.

    def _learn_listener(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        if self._listener is None:
            self._listen(descriptors)
        else:
            close_all(descriptors)

    def _replace_listener(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        if self._listener is not None:
            self._listener.close()
        self._ending = False
        self._listen(descriptors)

    def _listen(self, descriptors: list[int]) -> None:
        self._listener = socket.socket(fileno=descriptors[0])

    def _tell_listener(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        self._ending = False  # there is a supervisor again
        there = [] if self._listener is None else [self._listener.fileno()]
        send(link.sock, {"op": "listener"}, there)

    def _end(self, link: Link, message: dict[str, Any], descriptors: list[int]) -> None:
        self._ending = True

    # What nobody serves.

    def _give(self) -> None:
        """Offer each connection that nobody serves to the proxy that has the fewest."""
        if not self._orphans:
            return
        now = time.monotonic()
        takers = [link for link in self._takers() if link.spared_until <= now]
        for _ in range(len(self._orphans) if takers else 0):
            connection = self._orphans.popleft()
            taker = min(takers, key=lambda link: link.load)
            self._offer += 1
            offer = {"op": "take", "offer": self._offer, "cluster": connection.cluster}
            try:
                send(taker.sock, {**offer, "carries": list(connection.carried)}, connection.descriptors())
            except OSError:  # it is busy, or dead, which we will hear in a moment
                self._orphans.append(connection)
            else:
                taker.offers[self._offer] = connection

    def _complain(self, message: str, what: object) -> None:
        """Log, but no more than once a second."""
        now = time.monotonic()
        if now - self._complained_at >= 1.0:
            self._complained_at = now
            logger.warning(message, what)


def _held(link: Link) -> Held:
    if link.held is None:
        raise ValueError("a process registers something before it says that it is a proxy")
    return link.held


def _is_ours(sock: socket.socket) -> bool:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return uid in (0, os.getuid())
