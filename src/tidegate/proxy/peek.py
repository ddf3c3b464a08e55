"""Looking at a connection's first bytes without taking them.

``MSG_PEEK`` leaves the bytes in the socket, so whoever serves the connection afterwards (the scheduler, by splice, or
the HTTP server) finds it untouched. But a socket with unread bytes is readable, and a level-triggered event loop that
waits for *more* of them would be woken half a million times a second. ``SO_RCVLOWAT`` tells the kernel how many bytes
we wait for; the end of the stream wakes us all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tidegate.proxy.hello import HELLO_LIMIT, RECORD_HEADER, Hello, NeedMore, parse


async def peek_hello(sock: socket.socket) -> Hello | None:
    """Wait until the first bytes say what the connection is.

    The caller sets the deadline.

    Parameters
    ----------
    sock : socket.socket
        Non-blocking; nothing of it is consumed.

    Returns
    -------
    Hello or None
        What ``hello.parse`` says, never ``NeedMore``; None when the stream ends before that is known.

    Raises
    ------
    OSError
        When the connection breaks.
    """
    low_water = 1
    try:
        while True:
            seen = _peek(sock)
            found = parse(seen) if seen else NeedMore(RECORD_HEADER)
            if not isinstance(found, NeedMore):
                return found
            # Woken with less than was asked for: the stream has ended.
            if seen is not None and len(seen) < low_water:
                return None
            low_water = found.total
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_water)
            await _readable(sock)
    finally:
        if low_water != 1 and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def hang_up(sock: socket.socket, words: bytes) -> None:
    """Send a few last words to a client whose first bytes were looked at and are of no use.

    They are taken now: closing a socket with unread bytes resets it, and the words might be lost.
    """
    with contextlib.suppress(OSError):
        sock.recv(HELLO_LIMIT)
        sock.send(words)
        sock.shutdown(socket.SHUT_WR)


def _peek(sock: socket.socket) -> bytes | None:
    """Return what is there, ``b""`` at the end of the stream, None when nothing has come yet."""
    try:
        return sock.recv(HELLO_LIMIT, socket.MSG_PEEK)
    except BlockingIOError:
        return None


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
