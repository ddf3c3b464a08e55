"""The connection to one proxy process: the whole table when it is made, the changes after that, in order.

Requests are answered by number (``wire/proxy.py``). The link makes the connection again when it breaks, until the
process is gone; then it removes the socket that the process left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.control.backoff import Backoff
from tidegate.wire.proxy import LINE_LIMIT, Route

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.05
RETRY_LIMIT_SECONDS = 5.0
"""How soon, and how seldom, a broken connection is made again."""
TABLE_SECONDS = 30.0
"""How long a proxy may take to acknowledge a whole table, which may be twenty megabytes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One operation on the table of a proxy. ``repr`` leaves out the content: routes hold secrets."""

    op: str
    content: Mapping[str, Any] = field(repr=False)


class ProxyLink:
    """Keeps one proxy process in step.

    Parameters
    ----------
    name : str
        The file name of its socket.
    pid : int
        The process that the socket belongs to.
    directory : int
        Descriptor of the folder that holds the socket.
    whole_table : callable
        Returns all routes as they are to be now.
    """

    def __init__(self, name: str, pid: int, directory: int, whole_table: Callable[[], Sequence[Route]]) -> None:
        self.name = name
        self.counts: dict[str, int] | None = None
        """Connections per cluster, as the proxy said last; None while it is not connected, or has not said it yet."""
        self._pid = pid
        self._directory = directory
        self._whole_table = whole_table
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._in_step = False
        self._tried = asyncio.Event()
        self._task = asyncio.create_task(self._keep(), name=f"link-{name}")

    @property
    def connected(self) -> bool:
        """Whether the proxy has the whole table and receives changes."""
        return self._in_step

    @property
    def ended(self) -> bool:
        """Whether the process is gone and the link with it."""
        return self._task.done()

    async def settled(self, timeout: float) -> None:
        """Wait until the first connection is in step, or has failed, or ``timeout`` seconds are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._tried.wait()

    async def deliver(self, change: Change, timeout: float) -> None:
        """Send a change and wait for the acknowledgement; a proxy that gives none is dropped, and connected anew.

        A proxy that is out of step holds nobody up: it has the change when it is in step again.
        """
        live = self._in_step or not self._tried.is_set()
        answer = self._send(change) if self._writer is not None else None
        if not live:
            return
        try:
            async with asyncio.timeout(timeout):
                # Where there is no connection yet, the table that opens it holds the change already.
                await (answer if answer is not None else self._tried.wait())
        except TimeoutError:
            log.warning("the proxy %s did not acknowledge within %g s: dropped until it answers", self._pid, timeout)
            self._drop()
        except OSError as error:
            log.info("the proxy %s went away: %s", self._pid, error)

    async def close(self) -> None:
        """Let go of the proxy; it goes on with what it has."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _keep(self) -> None:
        pauses = Backoff(RETRY_SECONDS, RETRY_LIMIT_SECONDS)
        while True:
            try:
                await self._connect_and_follow(pauses)
            except OSError as error:
                log.debug("the connection to the proxy %s ended: %s", self._pid, error)
            except (ValueError, KeyError, TypeError):
                log.exception("cannot understand the proxy %s", self._pid)
            finally:
                self._tried.set()
            if not _is_alive(self._pid):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.name, dir_fd=self._directory)
                log.info("the proxy %s has ended", self._pid)
                return
            await asyncio.sleep(pauses.after_failure(self.name))

    async def _connect_and_follow(self, pauses: Backoff) -> None:
        path = f"/proc/self/fd/{self._directory}/{self.name}"
        reader, self._writer = await asyncio.open_unix_connection(path, limit=LINE_LIMIT)
        follow = asyncio.create_task(self._follow(reader))
        try:
            # From here on changes go behind the table, on the same stream: none falls between.
            table = self._send(Change("replace", {"routes": [route.to_json() for route in self._whole_table()]}))
            async with asyncio.timeout(TABLE_SECONDS):
                await table
            self._in_step = True
            self._tried.set()
            pauses.reset(self.name)
            log.info("the proxy %s is connected", self._pid)
            await follow
        finally:
            self._drop()
            follow.cancel()
            await asyncio.wait([follow])

    def _send(self, change: Change) -> asyncio.Future[dict[str, Any]]:
        """Send an operation; the future has the answer, or ``ConnectionError`` when the connection ends before."""
        if self._writer is None:
            raise ConnectionError("it is not connected")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        # Not everyone who sends waits for the answer: that the connection ended is then no news.
        answer.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._answers[number] = answer
        self._writer.write(json.dumps({"id": number, "op": change.op, **change.content}).encode() + b"\n")
        return answer

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._receive(json.loads(line))
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("it closed the connection"))
            self._answers.clear()

    def _receive(self, message: dict[str, Any]) -> None:
        if message.get("event") == "connections":
            self.counts = {str(name): int(count) for name, count in message["counts"].items()}
        answer = self._answers.pop(message.get("id", 0), None)
        if answer is None or answer.done():
            return
        if not message.get("ok"):
            log.error("the proxy %s refused a change: %s", self._pid, message.get("error"))
        answer.set_result(message)

    def _drop(self) -> None:
        self._in_step = False
        self.counts = None
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
