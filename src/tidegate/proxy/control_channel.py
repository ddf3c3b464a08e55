"""The proxy's end of the conversation with control (``wire/proxy.py``).

A Unix socket in the run directory. Only this user (and root) may speak there: the socket is 0600, and the kernel is
asked who is calling. Any number of controls may be connected: during an upgrade there are two for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol

from tidegate.proxy.routes import RouteTable
from tidegate.wire.proxy import LINE_LIMIT, Route

PUSH_SECONDS = 1.0
"""Connection counts are pushed no more often."""

_CHUNK = 256 * 1024
_PEER_CREDENTIALS = struct.Struct("3i")

logger = logging.getLogger(__name__)


class Operated(Protocol):
    """What control can ask of the proxy besides its routes."""

    def status(self) -> Mapping[str, Any]:
        """What ``status`` answers."""

    def counts(self) -> dict[str, int]:
        """Connections per cluster."""

    def drain(self, *, accept: bool) -> None:
        """End when the last cluster connection is gone."""

    def end_vouched(self, by: str) -> None:
        """End the dashboards that are open because of a session, or a token, that has ended."""


class ControlChannel:
    """Serves every control that connects.

    Parameters
    ----------
    run_dir : Path
        Where the socket appears, as ``proxy-<pid>.sock``.
    routes : RouteTable
    proxy : Operated
    changed : callable
        Called with the number of connected controls, whenever it changes.
    """

    def __init__(
        self, run_dir: Path, routes: RouteTable, proxy: Operated, changed: Callable[[int], None] = lambda count: None
    ) -> None:
        self._directory = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = f"proxy-{os.getpid()}.sock"
        self._routes = routes
        self._proxy = proxy
        self._changed = changed
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts_changed = asyncio.Event()
        self._socket: socket.socket | None = None

    @property
    def listening(self) -> bool:
        """Whether the socket is there."""
        return self._socket is not None

    def start(self) -> None:
        """Accept controls from now on. That the socket is there tells that the process serves."""
        self._socket = self._listen()
        self._spawn(self._push_counts())
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)

    async def close(self) -> None:
        """Hang up, and remove the socket."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._directory)
        os.close(self._directory)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def counts_changed(self) -> None:
        """Take note that a cluster has more or fewer connections."""
        self._counts_changed.set()

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        # Under its own name it appears when it can be connected to: whoever finds one that refuses takes its process
        # for gone. One that a process of the same pid left behind is replaced.
        passing = f".{self._name}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(passing, dir_fd=self._directory)
        before = os.umask(0o177)
        try:
            # A socket's path is limited to 107 bytes; through its directory's descriptor it is always short.
            listener.bind(f"/proc/self/fd/{self._directory}/{passing}")
        finally:
            os.umask(before)
        listener.listen(16)
        os.rename(passing, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        if not _is_ours(sock):
            logger.warning("refused another user on the control channel")
            sock.close()
            return
        self._spawn(self._serve(sock))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        link = _Link(sock)
        self._links.add(link)
        self._changed(len(self._links))
        try:
            await link.send({"event": "connections", "counts": self._proxy.counts()})
            async for line in link.lines():
                await self._answer(link, line)
        except OSError as error:
            logger.info("control hung up: %s", error)
        finally:
            self._links.discard(link)
            sock.close()
            self._changed(len(self._links))

    async def _answer(self, link: _Link, line: bytes) -> None:
        message: Any = None
        try:
            message = json.loads(line)
            result = self._perform(message)
        except Exception as error:  # control's mistake, not our end
            # The line may hold secrets: only what went wrong is told.
            logger.warning("cannot do what control asks: %s", type(error).__name__)
            result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        number = message.get("id") if isinstance(message, dict) else None
        await link.send({"id": number, "ok": True, **result})

    def _perform(self, message: dict[str, Any]) -> Mapping[str, Any]:
        match message["op"]:
            case "replace":
                self._routes.replace([Route.from_json(route) for route in message["routes"]])
            case "put":
                self._routes.put(Route.from_json(message["route"]))
            case "delete":
                self._routes.delete(message["name"])
            case "end":
                self._proxy.end_vouched(str(message["by"]))
            case "status":
                return self._proxy.status()
            case "drain":
                self._proxy.drain(accept=bool(message.get("accept", True)))
            case unknown:
                raise ValueError(f"unknown operation {unknown!r}")
        return {}

    async def _push_counts(self) -> None:
        while True:
            await self._counts_changed.wait()
            self._counts_changed.clear()
            news = {"event": "connections", "counts": self._proxy.counts()}
            for link in tuple(self._links):
                if link.busy:
                    self._counts_changed.set()  # one that does not read keeps nobody waiting, and is told later
                else:
                    self._spawn(self._tell(link, news))
            await asyncio.sleep(PUSH_SECONDS)

    async def _tell(self, link: _Link, news: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):
            await link.send(news)


class _Link:
    """A connected control: lines in, lines out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether something is being sent."""
        return self._turn.locked()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what comes, line by line, until the other side hangs up."""
        buffer = bytearray()
        while chunk := await self._loop.sock_recv(self._sock, _CHUNK):
            start = len(buffer)
            buffer += chunk
            while (end := buffer.find(b"\n", start)) >= 0:
                line = bytes(buffer[:end])
                del buffer[: end + 1]
                start = 0
                yield line
            if len(buffer) > LINE_LIMIT:
                raise OSError(f"a line is longer than {LINE_LIMIT} bytes")

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send one line."""
        line = json.dumps(message).encode() + b"\n"
        async with self._turn:
            await self._loop.sock_sendall(self._sock, line)


def _is_ours(sock: socket.socket) -> bool:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return uid in (0, os.getuid())
