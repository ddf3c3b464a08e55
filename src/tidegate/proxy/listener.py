"""Where the listening socket comes from: inherited from whoever started this process.

It is bound once, by whoever starts the first proxy, and from then on only its descriptor travels. So no process ever
has to bind the port a second time, and while one is killed or replaced, connections wait in the kernel's queue.
"""

from __future__ import annotations

import socket


def inherited(descriptors: tuple[int, ...]) -> list[socket.socket]:
    """Return the listening sockets behind inherited descriptors.

    Raises
    ------
    OSError
        A descriptor is no listening TCP socket.
    """
    return [_checked(socket.socket(fileno=descriptor)) for descriptor in descriptors]


def _checked(listener: socket.socket) -> socket.socket:
    if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(f"cannot listen: descriptor {listener.fileno()} is no listening socket")
    listener.setblocking(False)
    listener.set_inheritable(False)
    return listener


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Return where a socket listens."""
    host, port = listener.getsockname()[:2]
    return str(host), int(port)
