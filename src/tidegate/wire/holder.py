"""What the holder is told, and what it tells, over its Unix socket ``holder.sock``.

The holder (``tidegate.holder``) keeps duplicates of the listening socket and of every spliced connection, so that no
proxy process takes one with it when it is killed. Each message is one datagram (``SOCK_SEQPACKET``): a JSON object,
and file descriptors beside it (``SCM_RIGHTS``). Nothing is acknowledged, and need not be: what was sent survives the
death of its sender in the receiver's queue.

A proxy says:

==============  ========================  =============================================================================
``op``          descriptors               meaning
==============  ========================  =============================================================================
``proxy``       ledger                    the first word; ``takes``: whether it takes connections over
``hold``        client, server            connection ``id`` of ``cluster`` is spliced from now on
``drop``                                  connection ``id`` has ended, and both sockets are shut down
``pipe``        read end, write end       pipe number ``pipe`` is in use from now on
``unpipe``                                pipe number ``pipe`` is closed
``accept``                                what was offered as ``offer`` is connection ``id`` now; ``pipes`` are the
                                          numbers of the pipes that came with it
``decline``                               ``offer`` has been cut: its cluster is gone
``refuse``                                ``offer`` cannot be taken: another one, or a later moment, may do better
``release``     client, server, pipes     connection ``id`` of ``cluster`` is given away: nobody moves its bytes any
                                          more. ``carries`` says for each pipe which way its bytes go
``retire``                                takes no connections over any more, and would like to give its own away
``listener``    listening socket          known to be good, for a holder that has none
==============  ========================  =============================================================================

The holder says to a proxy:

==============  ========================  =============================================================================
``take``        client, server, pipes     a connection of ``cluster`` that nobody serves, as ``offer``; ``carries`` says
                                          for each pipe which way the bytes in it go
``give``                                  to one that has retired: another one takes what it releases
==============  ========================  =============================================================================

The supervisor says ``listen`` (with the listening socket that is the right one from now on), ``which`` (answered with
``listener`` and the socket, or without one) and ``end``: end as soon as nobody is connected any more.

The *ledger* is memory that a proxy shares with the holder. It says which connection's bytes are in which pipe, at the
price of one store into memory for each move of bytes. See ``Ledger``.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import mmap
import os
import socket
import termios
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SOCKET = "holder.sock"

MESSAGE_BYTES = 4096
"""Of one message; names are the longest thing in it."""

MOST_DESCRIPTORS = 6
"""Beside one message: two sockets and two pipes."""

PIPES = 2**16
"""So many pipes may be open in one proxy process at a time: each direction of a connection has one at the most."""

UPWARD, DOWNWARD = 0, 1
"""From the client to the server, and back."""

_WORD = 8


class Ledger:
    """Memory shared between a proxy and the holder: what is in the proxy's pipes.

    A sequence of 64-bit words. Word ``1 + pipe`` is ``word_of(connection, direction)`` for the bytes in that pipe; it
    is written before bytes enter the pipe, and means nothing while the pipe is empty. Word 0 is 1 while the holder has
    been told everything: if the proxy dies while it is 0, what the holder knows is not to be relied upon.

    Parameters
    ----------
    descriptor : int
        Of a memory file; it is duplicated.
    """

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, (1 + PIPES) * _WORD)
        self.words = memoryview(self._memory).cast("Q")

    @property
    def complete(self) -> bool:
        """Whether the holder has been told everything."""
        return self.words[0] == 1

    @complete.setter
    def complete(self, value: bool) -> None:
        self.words[0] = int(value)

    def close(self) -> None:
        """Give the memory back."""
        self.words.release()
        self._memory.close()


def make_memory() -> int:
    """Return the descriptor of memory for a ledger. Pages that are never written cost nothing."""
    descriptor = os.memfd_create("tidegate-ledger", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, (1 + PIPES) * _WORD)
    return descriptor


def word_of(connection: int, direction: int) -> int:
    """Return what the ledger says of a pipe with bytes of this connection, numbered from 1, on their way."""
    return connection << 1 | direction


def connect(run_dir: Path) -> socket.socket:
    """Connect to the holder; raises ``OSError`` when none accepts at once. A path of any length will do."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            link.setblocking(False)  # One that hangs must keep nobody waiting when its queue is full.
            link.connect(f"/proc/self/fd/{folder}/{SOCKET}")
            link.setblocking(True)
        finally:
            os.close(folder)
    except OSError:
        link.close()
        raise
    return link


def send(link: socket.socket, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send one message; raises ``OSError`` when it cannot be sent, and then nothing of it was."""
    socket.send_fds(link, [json.dumps(message).encode()], descriptors)


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Return the next message and what came beside it, None at the end.

    There may be fewer descriptors than were sent, when this process may open no more.
    """
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = link.recvmsg(MESSAGE_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = list(_descriptors(ancillary))
    if not data:
        return None
    message: dict[str, Any] = json.loads(data)
    return message, descriptors


def filled(pipe: int) -> int:
    """Return how many bytes are in a pipe, given one of its ends."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received = array.array("i")
            received.frombytes(data[: len(data) - len(data) % received.itemsize])
            yield from received
