"""The audit log: the one place through which entries reach it, and from which they are read.

How to think about it
---------------------
* What was done is written *before* the caller is told (``record``), what was refused or only read a moment later
  (``note``), counted where it comes in masses (``tally.py``). All that waits is written together, so that a hundred
  requests at a time cost one transaction.
* It goes to two places, the store and, where one is configured, a file. Each has a queue of its own: a disk that is
  full, or a file system that hangs, keeps back neither the other one nor the gateway, nor its end. What waits is
  bounded; what had to be dropped, or was not written in the end, is counted and said in the gateway's log.
* Whatever callers have written is cleaned here, once: one line, not long, and nothing that looks like a secret.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial

from tidegate.control.tally import Tally
from tidegate.model.audit import LONGEST, Entry, RecordedEntry, Wanted, clean
from tidegate.model.errors import NotVisible, TidegateError
from tidegate.model.principal import Principal
from tidegate.store.base import Store
from tidegate.telemetry.audit_file import AuditFile
from tidegate.telemetry.logs import redact

log = logging.getLogger(__name__)

DAY = 86400.0

KEEP = 400 * DAY
"""How long entries stay: a year, and what an audit of that year takes."""

GATHER_SECONDS = 0.2
"""How long entries are gathered that nobody waits for."""

RETRY_SECONDS = 5.0
"""After how long a place is tried again that could not be written, and how long after its minute a count is."""

START_SECONDS = 10.0
"""How long the start waits for a file system that does not answer: one that is mounted when it is used takes some."""

CLOSE_SECONDS = 2.0
"""How long the end waits for one. Control is killed 5 s after it was asked to end, of which open requests may take
one."""

PRUNE_SECONDS = 3600.0

PRUNED_AT_ONCE = 1000
"""Entries deleted in one transaction: a few milliseconds in which nobody else writes."""

MOST_WAITING = 10_000
"""Entries that wait for a place that cannot be written, about 5 MB."""

_PLAIN = re.compile(r"[A-Za-z0-9.@-]{0,40}")
"""What needs no second look: it is one short line, and too short or too plain for anything that is redacted."""


class Audit:
    """The audit log.

    Parameters
    ----------
    store : Store
    clock : callable
        Returns the time, in seconds since the epoch.
    file : AuditFile, optional
        Where entries are written besides.
    keep : float
        Seconds for which they stay in the store.
    """

    def __init__(
        self, store: Store, clock: Callable[[], float], file: AuditFile | None = None, keep: float = KEEP
    ) -> None:
        self._store = store
        self._clock = clock
        self._keep = keep
        self._tally = Tally()
        self._stored = _Queue("the database", store.add_audit)
        self._queues = [self._stored]
        self._file = file
        if file is not None:
            self._queues.append(_Queue(str(file.path), self._write_file))

    async def start(self, seconds: float = START_SECONDS) -> None:
        """See that the file can be written, within so many seconds.

        Raises
        ------
        TidegateError
            When it cannot.
        """
        if self._file is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._write_file([])
        except OSError as error:
            why = error.strerror or f"its file system has not answered for {seconds:g} s"
            raise TidegateError(
                f"cannot write the audit log to {self._file.path}: {why}. Set audit.file to a file that the gateway "
                "may write"
            ) from error

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Write what waits, as far as that is possible within so many seconds; the gateway's log says what was not."""
        self._put(self._tally.end())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.flush()
        for queue in self._queues:
            queue.say_left()

    async def record(self, entry: Entry) -> None:
        """Write an entry; when this returns, it is on record."""
        self._put([entry])
        await self._stored.flush()

    def note(self, entry: Entry) -> None:
        """Have an entry written soon, or counted if there are many like it."""
        # Counted first: what is one of a thousand is never written as it is.
        self._put(self._tally.add(_bounded(entry)))

    def _put(self, entries: Sequence[Entry]) -> None:
        if entries:
            presentable = [_presentable(entry) for entry in entries]
            for queue in self._queues:
                queue.put(presentable)

    async def flush(self) -> None:
        """Write what waits, as far as that is possible."""
        await asyncio.gather(*(queue.flush() for queue in self._queues))

    async def find(
        self,
        principal: Principal,
        wanted: Wanted,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> list[RecordedEntry]:
        """Return entries, newest first; ``before`` pages on; with ``after`` what came later, oldest first.

        Raises
        ------
        NotVisible
            To whoever is no administrator there is no such log.
        """
        if not principal.admin:
            raise NotVisible("There is nothing at this address")
        await self._stored.flush()
        return await self._store.find_audit(wanted, before=before, after=after, limit=limit)

    async def run(self) -> None:
        """Write and prune until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count_on(), name="audit-count")
            for queue in self._queues:
                tasks.create_task(queue.run(), name="audit")
            tasks.create_task(self._prune_on(), name="audit-prune")

    async def _count_on(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            self._put(self._tally.turn(self._clock()))

    async def _prune_on(self) -> None:
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            try:
                await self.prune()
            except TidegateError as error:
                log.warning("%s: the audit log is pruned later (%s)", error.message, error.detail or "no detail")

    async def prune(self) -> int:
        """Forget entries that are too old; return how many."""
        before, gone = self._clock() - self._keep, 0
        while deleted := await self._store.prune_audit(before, PRUNED_AT_ONCE):
            gone += deleted
        if gone:
            log.info("pruned %d entries of the audit log, older than %g days", gone, self._keep / DAY)
        return gone

    async def _write_file(self, entries: Sequence[Entry]) -> None:
        if self._file is not None:
            await _on_a_thread(partial(self._file.append, entries))


class _Queue:
    """Entries on their way to a place where they are kept.

    Parameters
    ----------
    place : str
        Its name in a message.
    write : callable
        Writes all of them, or none.
    """

    def __init__(self, place: str, write: Callable[[Sequence[Entry]], Awaitable[None]]) -> None:
        self._place = place
        self._write = write
        self._waiting: list[Entry] = []
        self._news = asyncio.Event()
        self._writing = asyncio.Lock()
        self._failing = False
        self._dropped = 0

    def put(self, entries: Sequence[Entry]) -> None:
        """Take entries."""
        self._waiting += entries
        if (surplus := len(self._waiting) - MOST_WAITING) > 0:
            # The newest go: the head of the queue may be on its way this moment.
            del self._waiting[MOST_WAITING:]
            self._dropped += surplus
        self._news.set()

    async def run(self) -> None:
        """Write what comes, and try again what could not be written, until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._news.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. If that fails, it is said once, and waits on."""
        # One who stops waiting must not take along what others wait for, nor have it written twice.
        await asyncio.shield(asyncio.ensure_future(self._flush()))

    async def _flush(self) -> None:
        async with self._writing:
            entries = self._waiting[:]
            if not entries:
                return
            try:
                await self._write(entries)
            except (TidegateError, OSError) as error:
                self._say_failing(error)
                return
            del self._waiting[: len(entries)]
            self._say_well()

    def say_left(self) -> None:
        """Say what is not written, now that nobody will write it."""
        if left := len(self._waiting) + self._dropped:
            oldest = min((entry.at for entry in self._waiting), default=None)
            since = "" if oldest is None else f", the oldest of {datetime.fromtimestamp(oldest, timezone.utc):%F %T}Z"
            log.error("entries of the audit log that were not written to %s: %d%s", self._place, left, since)

    def _say_failing(self, error: Exception) -> None:
        if not self._failing:
            why = (error.detail or error.message) if isinstance(error, TidegateError) else error
            log.error("cannot write the audit log to %s: %s. Entries wait, at most %d", self._place, why, MOST_WAITING)
        self._failing = True

    def _say_well(self) -> None:
        if self._failing:
            log.warning("the audit log is written to %s again; %d entries of it are lost", self._place, self._dropped)
        self._failing, self._dropped = False, 0


async def _on_a_thread(work: Callable[[], None]) -> None:
    """Do what may hang, on a thread that nothing waits for when the process ends, as it would for a pool's."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        failure = None
        try:
            work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended, and whoever waited with it
            loop.call_soon_threadsafe(tell, failure)

    threading.Thread(target=run, name="audit-file", daemon=True).start()
    await done


def _presentable(entry: Entry) -> Entry:
    """Return an entry in which no text from outside breaks a line, fills a page or tells a secret."""
    return replace(
        entry,
        principal=_line(entry.principal),
        actor=_line(entry.actor),
        cluster=_line(entry.cluster),
        detail=_line(entry.detail),
        address=clean(entry.address),
    )


def _line(text: str) -> str:
    # To look for secrets takes longer than all the rest, and most names cannot be one.
    if _PLAIN.fullmatch(text):
        return text
    # Cut before and after: a half of a secret may stand at the end.
    return clean(redact(text[: 2 * LONGEST]))


def _bounded(entry: Entry) -> Entry:
    """Return an entry that is not larger than what is made of it: whoever sends megabytes has them counted only."""
    if max(len(entry.principal), len(entry.cluster), len(entry.detail), len(entry.address)) <= 2 * LONGEST:
        return entry
    most = slice(2 * LONGEST)
    return replace(
        entry,
        principal=entry.principal[most],
        cluster=entry.cluster[most],
        detail=entry.detail[most],
        address=entry.address[most],
    )
