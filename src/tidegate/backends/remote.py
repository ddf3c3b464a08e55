"""A backend in another process: the same protocol, over a Unix socket.

How to think about it
---------------------
Where a backend needs root, it runs in a process that does nothing else, and control, which talks to the network and
to the store, stays without rights. ``RemoteBackend`` is what control sees, ``BackendServer`` is what stands before the
real one. Neither remembers anything, and all calls may be repeated; so when the other process is killed in the middle
of one, the call is made again as soon as there is a new one.

Each call has a connection of its own: a line ``OPERATION ARGUMENTS``, answered by a line ``done RESULT`` or ``failed
ERROR``, all in JSON, checked by the types of the protocol. ``changes`` is answered by a name a line, without end. Who
may ask is decided by the kernel: the socket is one account's, and the server looks whose process is at the other end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from types import GenericAlias
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tidegate.backends.base import CALL_TIMEOUT, Backend, Launch, Log
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import BackendFailed, Invalid, TidegateError
from tidegate.model.observation import Seen
from tidegate.model.options import Option
from tidegate.model.policy import Capacity

log = logging.getLogger(__name__)

LINE_LIMIT = 64 * 2**20
"""Bytes of a call or an answer: all logs of a cluster, or a look at thousands of workers that failed, fit."""

RETRY = 0.1
"""Seconds until a call is made again that nobody answered."""

AWAY = 10.0
"""Seconds: a new start of the other process takes one or two."""

CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the backend, as it crosses the socket."""

    invalid: bool
    message: str
    detail: str | None = None
    field: str | None = None
    permanent: bool = False

    @classmethod
    def of(cls, error: TidegateError) -> Failure:
        """Describe ``error``."""
        field, permanent = getattr(error, "field", None), getattr(error, "permanent", False)
        return cls(isinstance(error, Invalid), error.message, error.detail, field, permanent)

    def error(self) -> TidegateError:
        """Return the error again."""
        if self.invalid:
            return Invalid(self.message, field=self.field, detail=self.detail)
        return BackendFailed(self.message, detail=self.detail, permanent=self.permanent)


class _Operation:
    """A call of the protocol: how it is made, and the types of its arguments and of its result."""

    def __init__(self, call: Callable[..., Awaitable[Any]], result: Any, *arguments: Any) -> None:
        self.call = call
        self.result: TypeAdapter[Any] = TypeAdapter(result)
        # The files of a launch are bytes.
        config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        types: Any = GenericAlias(tuple, arguments)
        self.arguments: TypeAdapter[Any] = TypeAdapter(types, config=config)


async def _notes(backend: Backend) -> list[str]:
    return list(backend.notes())


OPERATIONS = {
    "notes": _Operation(_notes, list[str]),
    "prepare": _Operation(lambda b, *a: b.prepare(*a), ClusterSpec, ClusterSpec, str, dict[str, str]),
    "launch": _Operation(lambda b, *a: b.launch(*a), None, Launch),
    "start_workers": _Operation(lambda b, *a: b.start_workers(*a), None, Launch, str, list[str]),
    "stop_workers": _Operation(lambda b, *a: b.stop_workers(*a), None, str, list[str]),
    "stop": _Operation(lambda b, *a: b.stop(*a), None, str),
    "observe": _Operation(lambda b, *a: b.observe(*a), dict[str, Seen], list[str]),
    "listens": _Operation(lambda b, *a: b.listens(*a), bool, str, list[int]),
    "list_clusters": _Operation(lambda b: b.list_clusters(), set[str]),
    "logs": _Operation(lambda b, cluster, lines: b.logs(cluster, lines=lines), list[Log], str, int),
    "forget": _Operation(lambda b, *a: b.forget(*a), None, str),
}
_FAILURE = TypeAdapter(Failure)


class RemoteBackend:
    """A backend that another process runs.

    Parameters
    ----------
    near : Backend
        One of the same kind and settings, never started: it answers what needs neither rights nor engine.
    folder : Path
    name : str
        Where the other process listens: the socket ``name`` in ``folder``.
    away : float
        Seconds for which the other process may be away before a call fails.
    """

    def __init__(self, near: Backend, folder: Path, name: str, away: float = AWAY) -> None:
        self._near = near
        self._folder = folder
        self._name = name
        self._away = away
        self._notes: list[str] = []

    async def start(self) -> None:
        """Wait until the other process answers."""
        self._notes = await self._ask("notes")

    async def close(self) -> None:
        """Let go of nothing: each call has a connection of its own."""

    def notes(self) -> Sequence[str]:
        """Return what the backend says of its engine."""
        return self._notes

    @property
    def knows(self) -> Collection[str]:
        """Which further options the backend knows."""
        return self._near.knows

    def options(self) -> Sequence[Option]:
        """Return the options that the backend offers."""
        return self._near.options()

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Return ``spec`` with what only the backend can resolve."""
        prepared: ClusterSpec = await self._ask("prepare", spec, owner, dict(hints))
        return prepared

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Return how many workers of this shape one cluster may have."""
        return self._near.capacity(spec)

    async def launch(self, launch: Launch) -> None:
        """Start the scheduler."""
        await self._ask("launch", launch)

    async def start_workers(self, launch: Launch, scheduler: str, names: Sequence[str]) -> None:
        """Start workers."""
        await self._ask("start_workers", launch, scheduler, list(names))

    async def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """Take workers away."""
        await self._ask("stop_workers", cluster, list(names))

    async def stop(self, cluster: str) -> None:
        """Take the cluster away."""
        await self._ask("stop", cluster)

    async def observe(self, clusters: Collection[str]) -> Mapping[str, Seen]:
        """Look at these clusters."""
        seen: dict[str, Seen] = await self._ask("observe", list(clusters))
        return seen

    async def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Return whether these ports are the cluster's own."""
        return bool(await self._ask("listens", cluster, list(ports)))

    async def list_clusters(self) -> set[str]:
        """Return every cluster of which there is anything."""
        found: set[str] = await self._ask("list_clusters")
        return found

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return the tails of all logs."""
        found: list[Log] = await self._ask("logs", cluster, lines)
        return found

    async def forget(self, cluster: str) -> None:
        """Remove the traces of a cluster."""
        await self._ask("forget", cluster)

    async def changes(self) -> AsyncIterator[str]:
        """Yield what the backend tells. What it tells while the other process is away is missed."""
        while True:
            try:
                async with self._connection() as (reader, writer):
                    writer.write(f"{CHANGES}\n".encode())
                    while line := await reader.readline():
                        yield line.decode().strip()
            except OSError:
                pass
            await asyncio.sleep(RETRY)

    async def _ask(self, name: str, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        operation = OPERATIONS[name]
        call = name.encode() + b" " + operation.arguments.dump_json(arguments) + b"\n"
        reached = loop.time()
        async with asyncio.timeout(CALL_TIMEOUT):
            while True:
                try:
                    return await self._ask_once(operation, call)
                except (OSError, ValueError) as error:
                    if loop.time() - reached > self._away:
                        raise BackendFailed(
                            "cannot reach the process that starts clusters: it is not running, or was ended again and "
                            "again",
                            detail=f"{type(error).__name__}: {error}",
                        ) from error
                await asyncio.sleep(RETRY)

    async def _ask_once(self, operation: _Operation, call: bytes) -> Any:
        async with self._connection() as (reader, writer):
            writer.write(call)
            await writer.drain()
            outcome, _, body = (await reader.readline()).partition(b" ")
        if outcome == b"done":
            return operation.result.validate_json(body)
        if outcome == b"failed":
            raise _FAILURE.validate_json(body).error()
        raise ConnectionResetError("it ended before it answered")

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        # Through a descriptor of the folder: paths of sockets end at 107 bytes.
        directory = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            path = f"/proc/self/fd/{directory}/{self._name}"
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
        finally:
            os.close(directory)
        with closing(writer):
            yield reader, writer


class BackendServer:
    """Makes the calls of a ``RemoteBackend``.

    Parameters
    ----------
    backend : Backend
        Started.
    uid : int
        Whose processes may ask.
    """

    def __init__(self, backend: Backend, uid: int) -> None:
        self._backend = backend
        self._uid = uid

    async def serve(self, listener: socket.socket) -> asyncio.AbstractServer:
        """Begin to accept."""
        return await asyncio.start_unix_server(self._talk, sock=listener, limit=LINE_LIMIT)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if _peer(writer.get_extra_info("socket")) != self._uid:
                return
            name, _, body = (await reader.readline()).strip().partition(b" ")
            if name == CHANGES.encode():
                await self._tell(reader, writer)
            else:
                writer.write(await self._answer(name.decode(errors="replace"), body) + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # It went away in the middle, or its line was too long.
        finally:
            writer.close()

    async def _tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def tell() -> None:
            async for cluster in self._backend.changes():
                writer.write(cluster.encode() + b"\n")
                await writer.drain()

        telling = asyncio.create_task(tell())
        try:
            await reader.read()  # It says no more; its end means that it has gone.
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _answer(self, name: str, body: bytes) -> bytes:
        operation = OPERATIONS.get(name)
        try:
            if operation is None:
                raise Invalid(f"cannot do {name!r}: a backend has no such operation")
            result = await operation.call(self._backend, *operation.arguments.validate_json(body))
            return b"done " + operation.result.dump_json(result)
        except TidegateError as error:
            failure = Failure.of(error)
        except ValidationError as error:
            # Without what was given: there are secrets in it.
            problems = "; ".join(f"{problem['loc']}: {problem['msg']}" for problem in error.errors(include_input=False))
            failure = Failure(True, f"cannot {name}: it was not asked for as it should be", detail=problems)
        except Exception as error:
            log.exception("cannot %s: the backend raised something that it does not promise", name)
            failure = Failure(False, f"cannot {name}: the backend failed", detail=repr(error))
        return b"failed " + _FAILURE.dump_json(failure)


def _peer(connection: Any) -> int:
    """Return the user id of the process at the other end (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)
