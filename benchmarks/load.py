"""The load generator: HTTP on raw keep-alive connections, as protocols on uvloop, in one process.

It sends prepared bytes and looks at no more of an answer than its status and its length. Against a server that does
nothing it makes several times the requests per second of either gateway (a row of its own shows how many), so it is not
what limits them; what it uses of the machine's cores, it uses for both sides alike.

    python -m benchmarks.load

is that server that does nothing; it prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import uvloop

from benchmarks.sides import Side

WARM_UP_SECONDS = 0.25

_HEAD_END = b"\r\n\r\n"


def prepare(method: str, path: str, headers: Mapping[str, str], body: Any = None) -> bytes:
    """Return the bytes of one request."""
    payload = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "127.0.0.1", "Accept": "*/*", **headers}
    if body is not None:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(payload))}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + _HEAD_END + payload


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self._heard: Callable[[int, bytes], None] = lambda status, body: None
        self._lost: Callable[[], None] = lambda: None
        self._buffer = b""
        self._transport: Any = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to this port of the loopback interface."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def close(self) -> None:
        """Hang up."""
        self._lost = lambda: None
        self._transport.close()

    def send(self, request: bytes, heard: Callable[[int, bytes], None], lost: Callable[[], None]) -> None:
        """Send a request; ``heard`` is called with status and body, or ``lost`` when the server hangs up."""
        self._heard, self._lost = heard, lost
        self._transport.write(request)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return status and body."""
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.send(
            request,
            lambda status, body: answer.set_result((status, body)),
            lambda: answer.set_exception(ConnectionResetError("the server hung up")),
        )
        return await answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came; when it is a whole answer, say so."""
        self._buffer = data = self._buffer + data if self._buffer else data
        end = data.find(_HEAD_END)
        if end < 0:
            return
        head = data[:end].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            length = int(head[at + 15 :].partition(b"\r\n")[0])
            whole = len(data) >= end + 4 + length
        else:  # in chunks, or without a body
            whole = b"chunked" not in head or data.endswith(b"\r\n0\r\n\r\n")
        if whole:
            self._buffer = b""
            self._heard(int(data[9:12]), data[end + 4 :])

    def connection_lost(self, error: Exception | None) -> None:
        """The server hung up."""
        self._lost()


class ClosedLoop:
    """So many connections, each of which sends its next request when the answer to the last has come.

    Parameters
    ----------
    port : int
    request : bytes
    connections : int
    pause : float
        Seconds between an answer and the next request of a connection.
    """

    def __init__(self, port: int, request: bytes, connections: int, pause: float = 0.0) -> None:
        self._port = port
        self._request = request
        self._count = connections
        self._pause = pause
        self._running = False
        self._connections: list[Connection] = []
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []

    async def __aenter__(self) -> ClosedLoop:
        self._running = True
        for _ in range(self._count):
            self._connections.append(await Connection.open(self._port))
        for connection in self._connections:
            self._next(connection)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._running = False
        for connection in self._connections:
            connection.close()
        if self._broken.done():
            self._broken.result()

    def _next(self, connection: Connection) -> None:
        began = time.perf_counter()

        def heard(status: int, body: bytes) -> None:
            self.latencies.append(time.perf_counter() - began)
            if status != 200:
                self._break(f"answered {status}: {body[:200]!r}")
            elif self._running and self._pause:
                asyncio.get_running_loop().call_later(self._pause, self._again, connection)
            elif self._running:
                self._next(connection)

        connection.send(self._request, heard, lambda: self._break("hung up"))

    def _again(self, connection: Connection) -> None:
        if self._running:
            self._next(connection)

    def _break(self, what: str) -> None:
        if not self._broken.done():
            self._broken.set_exception(RuntimeError(f"under load the server {what}"))


async def measure_load(port: int, request: bytes, connections: int, seconds: float) -> tuple[float, list[float]]:
    """Return requests per second and the seconds of each; what comes in ``WARM_UP_SECONDS`` before is not counted."""
    async with ClosedLoop(port, request, connections) as loop:
        await asyncio.sleep(WARM_UP_SECONDS)
        loop.latencies.clear()
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        elapsed = time.perf_counter() - began
        latencies = loop.latencies[:]
    return len(latencies) / elapsed, latencies


async def ask(side: Side, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
    """Make one request on a connection of its own; return what its JSON says."""
    connection = await Connection.open(side.port)
    try:
        fields = side.credential() if headers is None else headers
        status, text = await connection.ask(prepare(method, path, fields, body))
    finally:
        connection.close()
    if status >= 400:
        raise RuntimeError(f"{side.name}: {method} {path} says {status}: {text[:300]!r}\n{side.last_words()}")
    return json.loads(text) if text else None


async def create(side: Side, headers: Mapping[str, str] | None = None) -> str:
    """Ask for a cluster by dask-gateway's protocol; return its name."""
    answer = await ask(side, "POST", "/api/v1/clusters/", {"cluster_options": {}}, headers)
    return str(answer["name"])


async def wait_until_running(side: Side, name: str, headers: Mapping[str, str] | None = None) -> None:
    """Wait as the clients do: by requests that are held until the cluster runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        report = await ask(side, "GET", f"/api/v1/clusters/{name}?wait", headers=headers)
        if report["status"] == "RUNNING":
            return
        if report["status"] != "PENDING":
            raise RuntimeError(f"{side.name}: cluster {name} is {report['status']}\n{side.last_words()}")
    raise TimeoutError(f"{side.name}: cluster {name} does not run within two minutes")


async def create_running(side: Side, count: int, at_once: int) -> list[str]:
    """Create clusters, some at a time, and return their names when all run."""
    turn = asyncio.Semaphore(at_once)

    async def one() -> str:
        async with turn:
            name = await create(side)
            await wait_until_running(side, name)
            return name

    return list(await asyncio.gather(*(one() for _ in range(count))))


class _Idle(asyncio.Protocol):
    """Answers everything with the same few bytes."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.ANSWER)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Idle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # whoever started it hangs up


if __name__ == "__main__":
    uvloop.run(_serve())
