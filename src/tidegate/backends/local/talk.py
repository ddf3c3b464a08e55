"""The gateway's side of a keeper's socket: one request and its answer, or a watch until the keeper goes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any

from tidegate.backends.listeners import Listeners
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper import SOCKET
from tidegate.backends.local.keeper.channel import peer
from tidegate.backends.local.statuses import as_sentence

GONE_TIMEOUT = 2.0
"""Seconds in which a keeper that closed its socket is gone; its last act takes milliseconds."""

RETRY = 1.0
"""Seconds until a keeper that lives but did not accept a watch is asked again."""


LINE_LIMIT = 64 * 1024
"""Bytes of a line that a keeper says: an error's sentence fits."""

PAUSE = 0.02
"""Seconds in which what a keeper tells is one change: its user may have it tell without end."""


class NoAnswer(Exception):
    """The keeper did not answer: it is gone, or it hangs."""


async def request(folder: ClusterFolder, body: Mapping[str, Any], timeout: float) -> None:
    """Send one request and wait until the keeper has accepted it; raise ``NoAnswer`` if it does not."""
    try:
        async with asyncio.timeout(timeout), _connection(folder) as (reader, writer):
            writer.write(json.dumps(body).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline())
    # RecursionError: what listens there is a process of the cluster's user, who can have it say anything.
    except (OSError, ValueError, RecursionError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if not isinstance(answer, dict):
        raise NoAnswer("what it says is no answer")
    if not answer.get("ok"):
        raise NoAnswer(as_sentence(answer.get("error")))


@asynccontextmanager
async def _connection(folder: ClusterFolder) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(sock=_connect(folder), limit=LINE_LIMIT)
    with closing(writer):
        yield reader, writer


def _connect(folder: ClusterFolder) -> socket.socket:
    """Connect to the keeper; ``OSError`` when it does not listen, or somebody else does."""
    account = folder.account
    with account.acting():
        # Through a descriptor of the folder: paths of sockets end at 107 bytes.
        directory = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
            # A link in its place may lead to the socket of any service of the machine.
            if peer(connection) != account.uid:
                raise ConnectionRefusedError("what listens there is not the keeper")
        except BaseException:
            connection.close()
            raise
        finally:
            os.close(directory)
    return connection


class Watches(Listeners):
    """Listens to all keepers at once, and passes on the names of clusters at which something changed."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, folder: ClusterFolder) -> None:
        """Listen to the keeper of this cluster until it is gone."""
        task = self._tasks.get(folder.name)
        if task is None or task.done():
            self._tasks[folder.name] = asyncio.create_task(self._follow(folder))

    async def close(self) -> None:
        """Stop listening."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    async def _follow(self, folder: ClusterFolder) -> None:
        while folder.keeper() is not None:
            try:
                async with _connection(folder) as (reader, writer):
                    writer.write(b'{"op": "watch"}\n')
                    # All that has come by now at once, however many lines it is.
                    while await reader.read(LINE_LIMIT):
                        self.tell(folder.name)
                        await asyncio.sleep(PAUSE)
            except OSError:
                await asyncio.sleep(RETRY)
            else:
                await _until_gone(folder)
        self._tasks.pop(folder.name, None)
        self.tell(folder.name)


async def _until_gone(folder: ClusterFolder) -> None:
    # The last that a process does is to close what it had open. Who looks in between would see it alive.
    deadline = asyncio.get_running_loop().time() + GONE_TIMEOUT
    while folder.keeper() is not None and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.005)
