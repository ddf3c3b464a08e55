"""The gateway's side of a keeper's socket: one request and its answer, or a watch until the keeper goes."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from tidegate.backends.listeners import Listeners
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper import SOCKET

GONE_TIMEOUT = 2.0
"""Seconds in which a keeper that closed its socket is gone; its last act takes milliseconds."""

RETRY = 1.0
"""Seconds until a keeper that lives but did not accept a watch is asked again."""


class NoAnswer(Exception):
    """The keeper did not answer: it is gone, or it hangs."""


async def request(folder: Path, body: Mapping[str, Any], timeout: float) -> None:
    """Send one request and wait until the keeper has accepted it; raise ``NoAnswer`` if it does not."""
    try:
        async with asyncio.timeout(timeout), _connection(folder) as (reader, writer):
            writer.write(json.dumps(body).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline())
    except (OSError, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if not answer.get("ok"):
        raise NoAnswer(str(answer.get("error")))


@asynccontextmanager
async def _connection(folder: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    # Through a descriptor of the folder: paths of sockets end at 107 bytes.
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{SOCKET}")
    finally:
        os.close(directory)
    with closing(writer):
        yield reader, writer


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
                async with _connection(folder.path) as (reader, writer):
                    writer.write(b'{"op": "watch"}\n')
                    while await reader.readline():
                        self.tell(folder.name)
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
