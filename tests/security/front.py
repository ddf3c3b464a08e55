"""The proxy before the server that control uses, in a loop of their own: for tests that make up examples.

``exchange`` sends raw bytes to the proxy and returns what came back, with what the server behind understood.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from tests.proxy_rig import Rig
from tidegate.proxy.limits import Limits
from tidegate.server.http import HttpProtocol

T = TypeVar("T")

QUIET_SECONDS = 1.0
"""After so long without a byte nothing more will come: the proxy only waits for the rest of what it has refused."""

PATIENCE = Limits(
    hello_seconds=0.3,
    header_seconds=0.3,
    body_seconds=0.3,
    idle_seconds=0.3,
    upstream_seconds=0.5,
    page_burst=2**30,
)
"""An example that leaves a request half said is over soon."""


@dataclass(frozen=True)
class Seen:
    """A request as the server behind the proxy understood it."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Server:
    """Stands for control: notes each whole request, and numbers its answers."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
        """Serve one request."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        self.seen.append(Seen(scope["method"], target, tuple(scope["headers"]), body))
        head = [(b"x-number", str(len(self.seen)).encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b""})


class Uvicorn(uvicorn.Server):
    """Uvicorn, but for its signal handlers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Front:
    """A proxy and what is behind it.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        In which both run.
    rig : Rig
    server : Server
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rig: Rig, server: Server) -> None:
        self._loop = loop
        self.rig = rig
        self.server = server

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop."""
        return asyncio.run_coroutine_threadsafe(job, self._loop).result(30)

    def exchange(self, request: bytes) -> tuple[bytes, list[Seen]]:
        """Send bytes, wait for the end of the connection; return what came, and what the server saw meanwhile."""
        before = len(self.server.seen)
        with socket.create_connection(("127.0.0.1", self.rig.port), timeout=QUIET_SECONDS) as connection:
            answer = b""
            with contextlib.suppress(ConnectionError, TimeoutError):
                connection.sendall(request)
                while piece := connection.recv(2**16):
                    answer += piece
        return answer, self.server.seen[before:]


@contextmanager
def opened() -> Iterator[Front]:
    """Start both, and stop them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def enter(stack: contextlib.AsyncExitStack, folder: Path) -> Front:
        rig = Rig(folder, limits=PATIENCE)
        stack.push_async_callback(rig.close)
        server = Server()
        await stack.enter_async_context(unix_server(server, rig))
        return Front(loop, rig, server)

    def run(job: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(job, loop).result(30)

    stack = contextlib.AsyncExitStack()
    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                yield run(enter(stack, Path(folder)))
            finally:
                run(stack.aclose())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@asynccontextmanager
async def unix_server(application: Any, rig: Rig) -> AsyncIterator[None]:
    """Serve an application behind a proxy, as control does (``server/control.py``)."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(rig.run_dir / "api.sock"))
    settings = uvicorn.Config(
        application,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    running = Uvicorn(settings)
    serving = asyncio.create_task(running.serve(sockets=[listener]))
    try:
        yield
    finally:
        running.should_exit = True
        await serving
