"""A data plane as the supervisor makes it: a holder and proxies, all of them processes, on one listener.

And what passes through it: plain TCP, for the proxy looks at the ClientHello alone. So what a scheduler gets is the
hello and then the test's own bytes, which are counted and hashed on both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.proxy_rig import SECRET, TICKET_KEY, ControlEnd, client_hello
from tests.support import INTERVAL, eventually
from tidegate.wire.holder import connect, receive, send
from tidegate.wire.proxy import Route


class DataPlane:
    """A holder and proxies.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.log = folder / "log"
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self.listener.getsockname()[1]
        self.holder: subprocess.Popen[bytes] | None = None
        self.proxies: list[subprocess.Popen[bytes]] = []
        self.routes: list[Route] = []
        self._controls: dict[int, ControlEnd] = {}

    async def start_holder(self, *, listener: bool = True, descriptors: int = 0) -> None:
        """Start the holder, with or without the listener, and with fewer descriptors if wanted; wait for it."""
        there = [self.listener.fileno()] if listener else []
        self.holder = self._start("tidegate.holder", [str(self.run_dir), *map(str, there)], descriptors=descriptors)
        await eventually(self.answers, what="the holder listens")

    async def start_proxy(self, *, tell: bool = True, **limits: Any) -> subprocess.Popen[bytes]:
        """Start a proxy, and tell it the routes; return it when it serves and the holder knows it."""
        settings = json.dumps({"run_dir": str(self.run_dir), "log_level": "INFO", "limits": limits})
        process = self._start("tidegate.proxy", ["-", str(self.listener.fileno())], settings)
        self.proxies.append(process)
        path = self.run_dir / f"proxy-{process.pid}.sock"
        await eventually(path.exists, 30, "the proxy serves")
        self._controls[process.pid] = await ControlEnd.connect(path)
        if tell:
            await self.tell(process)
        await self.registered(process)
        return process

    async def tell(self, proxy: subprocess.Popen[bytes]) -> None:
        """Push the routes to one proxy."""
        await self.control(proxy).ask("replace", routes=[route.to_json() for route in self.routes])

    def control(self, proxy: subprocess.Popen[bytes]) -> ControlEnd:
        """Return control's end of a proxy's channel."""
        return self._controls[proxy.pid]

    async def counts(self, proxy: subprocess.Popen[bytes]) -> dict[str, int]:
        """Return how many connections a proxy has, by cluster."""
        counts: dict[str, int] = (await self.control(proxy).ask("status"))["connections"]
        return counts

    async def registered(self, *proxies: subprocess.Popen[bytes]) -> None:
        """Wait until the holder has been told everything by these proxies, or all."""
        for proxy in proxies or self.proxies:
            async with asyncio.timeout(20):
                while not (await self.control(proxy).ask("status"))["held"]:
                    await asyncio.sleep(INTERVAL)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a process as nothing else does, and wait until it is dead."""
        process.kill()
        process.wait()
        if process in self.proxies:
            self.proxies.remove(process)
            self._controls.pop(process.pid).close()

    def answers(self) -> bool:
        """Whether a holder listens."""
        try:
            connect(self.run_dir).close()
        except OSError:
            return False
        return True

    def held_listener(self) -> int:
        """Return the port of the listening socket that the holder has, 0 when it has none."""
        with connect(self.run_dir) as link:
            send(link, {"op": "which"})
            _, descriptors = receive(link) or ({}, [])
        if not descriptors:
            return 0
        with socket.socket(fileno=descriptors[0]) as listener:
            return int(listener.getsockname()[1])

    async def close(self) -> None:
        """End everything."""
        for process in [*self.proxies, *([self.holder] if self.holder else [])]:
            self.kill(process)
        self.listener.close()

    def _start(self, module: str, arguments: list[str], text: str = "", descriptors: int = 0) -> Any:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({descriptors}, {descriptors})); "
        code = f"{limit if descriptors else ''}import runpy; runpy.run_module({module!r}, run_name='__main__')"
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[self.listener.fileno()],
                start_new_session=True,
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(text.encode())
        return process


def descriptors_of(process: subprocess.Popen[bytes]) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{process.pid}/fd"))


class Scheduler:
    """A TCP server that stands for a cluster's scheduler; each connection to it is taken by the test.

    Parameters
    ----------
    plane : DataPlane
        Where the route to it is published; proxies that run already have to be told.
    name : str
    receive_buffer : int
        Of its connections, in bytes; a small one makes it a slow receiver.
    """

    def __init__(self, plane: DataPlane, name: str, *, receive_buffer: int = 0) -> None:
        self._plane = plane
        self._listener = socket.socket()
        if receive_buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(512)
        self._listener.setblocking(False)
        self._receive_buffer = receive_buffer
        self._hello = client_hello(f"daskgateway-{name}")
        plane.routes.append(
            Route(name, "127.0.0.1", self._listener.getsockname()[1], None, SECRET, "no authority", TICKET_KEY)
        )

    async def connect(self) -> tuple[socket.socket, socket.socket]:
        """Connect through the proxy; return both ends, when the hello has arrived."""
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setblocking(False)
        if self._receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        await loop.sock_connect(client, ("127.0.0.1", self._plane.port))
        await loop.sock_sendall(client, self._hello)
        async with asyncio.timeout(20):
            server, _ = await loop.sock_accept(self._listener)
            left = len(self._hello)
            while left:
                left -= len(await loop.sock_recv(server, left))
        return client, server

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()


class Stream:
    """One way of a connection, with bytes that are the same for the same seed.

    It sends until ``over`` is set, ends with a half-close, and compares what came with what was sent.
    """

    def __init__(self, sender: socket.socket, receiver: socket.socket, seed: int, over: asyncio.Event) -> None:
        self._sender = sender
        self._receiver = receiver
        self._random = random.Random(seed)
        self._over = over
        self._sent = hashlib.sha256()
        self._received = hashlib.sha256()
        self.bytes_sent = 0
        self.bytes_received = 0

    async def run(self) -> None:
        """Move bytes; raise when they are not the same ones."""
        await asyncio.gather(self._send(), self._receive())
        assert self.bytes_received == self.bytes_sent
        assert self._received.digest() == self._sent.digest()

    async def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over.is_set():
            piece = self._random.randbytes(self._random.choice((3, 700, 20_000, 300_000)))
            self._sent.update(piece)
            await loop.sock_sendall(self._sender, piece)
            self.bytes_sent += len(piece)
            await asyncio.sleep(0)
        self._sender.shutdown(socket.SHUT_WR)

    async def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(self._receiver, self._random.choice((100, 5_000, 200_000))):
            self._received.update(piece)
            self.bytes_received += len(piece)
            await asyncio.sleep(0)
