"""Where the listening socket comes from: inherited, or handed over by a proxy process that runs already.

It is bound once, by whoever starts the first proxy, and from then on only its descriptor travels. So no process ever
has to bind the port a second time, and while one is killed or replaced, connections wait in the kernel's queue.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

HAND_OVER_SECONDS = 5.0
_LINE_BYTES = 64 * 1024


def inherited(descriptors: tuple[int, ...]) -> list[socket.socket]:
    """Return the listening sockets behind inherited descriptors.

    Raises
    ------
    OSError
        A descriptor is no listening TCP socket.
    """
    return [_checked(socket.socket(fileno=descriptor)) for descriptor in descriptors]


def receive(path: Path) -> socket.socket:
    """Ask a running proxy, at its control socket, for its listening socket.

    Raises
    ------
    OSError
        It does not answer, or not with a socket.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(HAND_OVER_SECONDS)
            link.connect(f"/proc/self/fd/{directory}/{path.name}")
            link.sendall(json.dumps({"id": 1, "op": "listener"}).encode() + b"\n")
            return _checked(_read_descriptor(link))
    finally:
        os.close(directory)


def _read_descriptor(link: socket.socket) -> socket.socket:
    """Read lines until a descriptor has come; events may come first."""
    while True:
        data, descriptors, _, _ = socket.recv_fds(link, _LINE_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
        if descriptors:
            for extra in descriptors[1:]:
                os.close(extra)
            return socket.socket(fileno=descriptors[0])
        if not data:
            raise OSError("cannot take the listener over: the running proxy hung up")


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
