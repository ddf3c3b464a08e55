"""A database, open: its threads, how a transaction runs on them, and what happens at start and close.

How to think about it
---------------------
The statements are plain, blocking functions; this file runs each *transaction* as one job on a thread.

* **One thread per transaction, not one hop per statement.** With an asynchronous driver every BEGIN, statement and
  COMMIT is a trip of its own to that driver's thread: a save took 1.25 ms so, and takes a third of it as one job. A job
  that has begun also ends: a request that is cancelled leaves no transaction open.
* **Writers share one thread.** They queue in this process instead of waiting for SQLite's lock in turns of sleep, and
  what only the writer touches needs no lock. Between processes ``BEGIN IMMEDIATE`` rules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine

from tidegate.model.errors import BackendFailed, Busy
from tidegate.store import queries
from tidegate.store.base import StoreUnusable
from tidegate.store.engine import Mode, for_mode, make_engine, our_words, parse_url, show_url
from tidegate.store.folder import prepare_database, prepare_folder
from tidegate.store.latest import Glance
from tidegate.store.schema import bring_up_to_date
from tidegate.store.sealing import Sealer, open_sealer

DATABASE_FILE = "tidegate.sqlite"

READERS = 4
"""Threads, and connections, for reading. A read is short: more of them would only fight for the interpreter."""

BUSY_TIMEOUT = 5.0
"""Seconds to wait for another process that holds the database (a backup, a person with a shell) before ``Busy``."""

P = ParamSpec("P")
R = TypeVar("R")


class Database:
    """An open database.

    Parameters
    ----------
    folder : Path
        The data folder: it holds the sealing key, and the SQLite database unless ``url`` says otherwise.
    url : str or sqlalchemy.URL, optional
        Where the database is: ``postgresql://USER@HOST/NAME``, or ``sqlite:////PATH``.
    clock : callable, optional
        Returns the time in seconds since the epoch; events are dated with it.
    busy_timeout : float, optional
        Seconds to wait for a database that another process holds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        url: str | URL | None = None,
        clock: Callable[[], float] = time.time,
        busy_timeout: float = BUSY_TIMEOUT,
    ) -> None:
        self._folder = folder
        self._url = parse_url(url) if url else URL.create("sqlite", database=str(folder / DATABASE_FILE))
        self._clock = clock
        self._busy_timeout = busy_timeout
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._glance: Glance | None = None
        # Both are there after start(), which comes before everything else.
        self._engine: Engine
        self._sealer: Sealer

    # -- opening and closing -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the database, bring its schema up to date, and check that this version can read it."""
        try:
            await self._run(self._writer, self._open)
        except (Busy, BackendFailed) as error:
            # Here an operator reads, and may know what the words for users leave out.
            raise StoreUnusable(f"cannot open the database {show_url(self._url)}: {error.detail}") from error
        finally:
            if not hasattr(self, "_sealer"):
                await self.close()

    async def close(self) -> None:
        """Close it, when what was begun has ended."""
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        prepare_folder(self._folder)
        if self._url.get_backend_name() == "sqlite":
            prepare_database(Path(self._url.database or ""))
        with our_words():
            bring_up_to_date(self._url, busy_timeout=self._busy_timeout, now=self._clock())
            self._engine = make_engine(self._url, busy_timeout=self._busy_timeout, connections=READERS + 1)
        if self._url.get_backend_name() == "sqlite":
            self._glance = Glance(Path(self._url.database or ""))
        try:
            self._sealer = open_sealer(self._folder, self._all_sealed())
        except StoreUnusable:
            # Between the two the keys may have been rotated. They are not twice in a moment.
            self._sealer = open_sealer(self._folder, self._all_sealed())

    def _all_sealed(self) -> list[bytes]:
        with our_words(), for_mode(self._engine, Mode.READ).begin() as connection:
            return queries.all_sealed(connection)

    def _close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        if self._glance is not None:
            self._glance.close()
        if hasattr(self, "_engine"):
            self._engine.dispose()

    # -- running a transaction ---------------------------------------------------------------------------------------

    async def _read(self, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        def transaction() -> R:
            with our_words(), for_mode(self._engine, Mode.READ).begin() as connection:
                return query(connection, *args, **kwargs)

        return await self._run(self._readers, transaction)

    async def _write(
        self, mode: Mode, query: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        def transaction() -> R:
            with our_words(), for_mode(self._engine, mode).begin() as connection:
                return query(connection, *args, **kwargs)

        return await self._run(self._writer, transaction)

    async def _run(self, executor: Executor, job: Callable[[], R]) -> R:
        try:
            done = asyncio.get_running_loop().run_in_executor(executor, job)
        except RuntimeError as error:
            raise Busy(
                "cannot reach the records: the gateway is shutting down. Try again", detail=str(error)
            ) from error
        return await done
