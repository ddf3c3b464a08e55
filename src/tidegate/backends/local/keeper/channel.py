"""How the gateway talks to a keeper: JSON lines over a Unix socket that only its user can reach.

A request is one line with ``op``, its answer one line: ``{"ok": true}`` or ``{"error": sentence}``. ``watch`` keeps the
connection open: a line follows whenever something has changed, and its end says that the keeper has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of a request: the names of 100,000 workers fit in a fifth of it."""

Handler = Callable[[dict[str, Any]], None]


def listen(folder: str, name: str, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """Listen on ``folder/name``, through a descriptor of the folder, since paths of sockets end at 107 bytes."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = f"/proc/self/fd/{directory}/{name}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, kind)
        before = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        listener.listen(128)
        return listener
    finally:
        os.close(directory)


def peer(connection: socket.socket) -> int:
    """Return the user id of whoever connected."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


class Channel:
    """Serves requests of the users in ``allowed`` (user ids)."""

    def __init__(self, listener: socket.socket, allowed: set[int], handle: Handler) -> None:
        self._listener = listener
        self._allowed = allowed
        self._handle = handle
        self._watchers: set[asyncio.StreamWriter] = set()

    async def serve(self) -> asyncio.AbstractServer:
        """Begin to accept; what came before was waiting."""
        # Python 3.13 would look at the path, to remove it at the end; ours went by a descriptor that is closed.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        return await asyncio.start_unix_server(self._talk, sock=self._listener, limit=LINE_LIMIT, **options)

    def changed(self) -> None:
        """Tell all who watch."""
        for watcher in self._watchers:
            watcher.write(b'{"changed": true}\n')

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if peer(writer.get_extra_info("socket")) in self._allowed:
                while line := await reader.readline():
                    writer.write(json.dumps(self._answer(line, writer)).encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError):
            pass  # It went away in the middle, or its line was too long.
        finally:
            self._watchers.discard(writer)
            writer.close()

    def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if request["op"] == "watch":
                self._watchers.add(writer)
            else:
                self._handle(request)
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"cannot understand the request: {type(error).__name__}: {error}"}
        return {"ok": True}
