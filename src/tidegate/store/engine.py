"""The engine: how transactions begin on each database, and what its errors mean in our words.

SQLite
------
* ``journal_mode=WAL``: readers never wait for the writer, nor it for them.
* Transactions begin explicitly. A writer's begins with ``BEGIN IMMEDIATE``: what it reads cannot change before it
  writes, so that compare-and-swap and idempotency keys are atomic between processes too.
* ``synchronous=NORMAL`` for most changes: a process that is killed loses nothing, a *machine* that loses power may
  lose the last moments, never consistency. What is lost is found again by looking at the world, since every effect
  may be repeated. What cannot be found again is committed with ``FULL`` (one fsync: 0.3 ms on a virtual disk, up to
  10 ms on a cheap one): a new cluster, a cluster that is to stop, a token made or revoked.

PostgreSQL
----------
Writers take one advisory lock for their transaction. It gives them SQLite's one-writer rule, and with it events whose
numbers ascend in the order of commit: without it a reader that resumes after number 7 may miss a 6 committed late.
Readers run in ``REPEATABLE READ``, so that the rows of a cluster are all of one moment, as they are on SQLite.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from sqlalchemy import URL, Connection, Engine, Pool, QueuePool, create_engine, event, exc, make_url

from tidegate.model.errors import BackendFailed, Busy, DiskFull, TidegateError
from tidegate.store.base import AlreadyExists, StoreUnusable

WRITER_LOCK = 0x7469_6465_6761_7465
"""The number of the advisory lock on PostgreSQL: "tidegate" in ASCII, so that it is nobody else's."""

LOG_SIZE_LIMIT = 64 * 1024 * 1024
"""Bytes to which SQLite cuts its write-ahead log back after a burst; without a limit it stays as large as it was."""


class Mode(Enum):
    """What a transaction is for."""

    READ = "read"
    WRITE = "write"
    DURABLE = "durable"
    """A write that must survive a loss of power."""


def parse_url(url: str | URL) -> URL:
    """Return the URL of a database, with the driver that we use for it."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        # Not even the part that was understood is shown: it may hold a password.
        raise StoreUnusable(
            "cannot understand the database URL: it looks like postgresql://USER@HOST/NAME or sqlite:////PATH"
        ) from None
    dialect = parsed.get_backend_name()
    if dialect == "sqlite" and parsed.database:
        return parsed.set(drivername="sqlite")
    if dialect in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreUnusable(f"cannot use a database of the kind {dialect!r}: SQLite (with a file) and PostgreSQL are known")


def show_url(url: URL) -> str:
    """Return what a person may read of the URL: the path, or everything but the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def make_engine(
    url: URL, *, busy_timeout: float, connections: int, foreign_keys: bool = True, poolclass: type[Pool] = QueuePool
) -> Engine:
    """Return an engine whose transactions begin as their ``Mode`` says (execution option ``mode``, default READ).

    Parameters
    ----------
    url : URL
        From ``parse_url``.
    busy_timeout : float
        Seconds to wait for a lock that another process holds.
    connections : int
        The most connections to keep open.
    foreign_keys : bool
        Whether SQLite enforces references; off only while a migration rebuilds tables.
    poolclass : type
        How connections are kept.
    """
    pool: dict[str, Any] = {"poolclass": poolclass}
    if poolclass is QueuePool:
        pool |= {"pool_size": connections, "max_overflow": 0, "pool_timeout": busy_timeout}
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": busy_timeout, "check_same_thread": False}, **pool)
        event.listen(engine, "connect", _open_sqlite(foreign_keys))
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        engine = create_engine(url, connect_args={"connect_timeout": 10}, pool_pre_ping=True, **pool)
    except ImportError as error:  # not there, or there without the library that it wraps
        raise StoreUnusable("cannot use PostgreSQL: run pip install 'tidegate[postgres]' first") from error
    event.listen(engine, "begin", _begin_postgresql(busy_timeout))
    return engine


def for_mode(engine: Engine, mode: Mode) -> Engine:
    """Return a view of the engine (same connections) whose transactions are of that mode."""
    if mode is Mode.READ and engine.dialect.name == "postgresql":
        return engine.execution_options(mode=mode, isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine.execution_options(mode=mode)


def _open_sqlite(foreign_keys: bool) -> Any:
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself: _begin_sqlite does
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_SIZE_LIMIT}")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")

    return prepare


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("mode", Mode.READ)
    if mode is Mode.READ:
        connection.exec_driver_sql("BEGIN")
        return
    # Before BEGIN: within a transaction SQLite ignores it.
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if mode is Mode.DURABLE else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(busy_timeout: float) -> Any:
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("mode", Mode.READ) is Mode.READ:
            return
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(busy_timeout * 1000)}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")

    return begin


# -- errors ----------------------------------------------------------------------------------------------------------

_ASK = "Tell the gateway's administrator"

_DISK_FULL = f"cannot write to the gateway's database: its disk is full. {_ASK}"
_SQLITE_SENTENCES = {
    "SQLITE_IOERR": f"cannot use the gateway's database: its disk reports an error. {_ASK}",
    "SQLITE_READONLY": f"cannot write to the gateway's database: it has become read-only. {_ASK}",
    "SQLITE_CANTOPEN": f"cannot open the gateway's database. {_ASK}",
    "SQLITE_CORRUPT": f"cannot use the gateway's database: its file is damaged. {_ASK}",
    "SQLITE_NOTADB": f"cannot use the gateway's database: its file is damaged. {_ASK}",
}
_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")

_POSTGRESQL_FULL = "53100"
_POSTGRESQL_BUSY = ("40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03")
"""Serialization, deadlock, lock timeout, too many connections, and a server that shuts down or starts up."""


@contextmanager
def our_words() -> Iterator[None]:
    """Raise the database's errors as ``Busy``, ``BackendFailed`` or, when a constraint says so, ``AlreadyExists``."""
    try:
        yield
    except exc.IntegrityError as error:
        raise AlreadyExists(str(error.orig)) from error
    except exc.TimeoutError as error:
        raise Busy("cannot reach the gateway's database now: try again in a moment", detail=str(error)) from error
    except exc.DBAPIError as error:
        raise _translate(error) from error
    except (OverflowError, UnicodeEncodeError) as error:
        # An integer beyond 64 bits, half of a surrogate pair: raised by the driver while it binds, and not as its own.
        raise BackendFailed(
            "cannot record a value that no column can hold", detail=str(error), permanent=True
        ) from error


def _translate(error: exc.DBAPIError) -> TidegateError:
    # The driver's own words alone: SQLAlchemy's text quotes the statement with its values.
    detail = f"{type(error.orig).__name__}: {error.orig}"
    name = getattr(error.orig, "sqlite_errorname", None)
    if isinstance(name, str):
        if name.startswith(_SQLITE_BUSY):
            return Busy("cannot reach the gateway's database now: another process holds it. Try again", detail=detail)
        if name == "SQLITE_FULL":
            return DiskFull(_DISK_FULL, detail=f"{name}: {detail}")
        for prefix, sentence in _SQLITE_SENTENCES.items():
            if name.startswith(prefix):
                return BackendFailed(sentence, detail=f"{name}: {detail}")
    state = getattr(error.orig, "sqlstate", None)
    if state == _POSTGRESQL_FULL:
        return DiskFull(_DISK_FULL, detail=detail)
    if error.connection_invalidated or state in _POSTGRESQL_BUSY or (state is None and _is_postgresql_away(error)):
        return Busy("cannot reach the gateway's database now: try again in a moment", detail=detail)
    return BackendFailed(f"cannot use the gateway's database. {_ASK}", detail=detail)


def _is_postgresql_away(error: exc.DBAPIError) -> bool:
    """Whether the server could not be reached at all: the driver then has no code to tell."""
    return isinstance(error, exc.OperationalError) and not isinstance(error.orig, sqlite3.Error)
