"""The schema at start: is this database ours, may this version touch it, and does it have to be brought up to date.

The usual start only reads one row: Alembic, slow to import, comes in when there is something to do. A migration is one
transaction; before it, a copy of an existing SQLite database is laid beside it. (PostgreSQL is backed up by those who
run it.)
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import URL, Connection, NullPool, inspect, text

from tidegate.model.errors import BackendFailed, Busy
from tidegate.store.base import StoreUnusable
from tidegate.store.engine import Mode, for_mode, make_engine, our_words, show_url
from tidegate.store.sealing import sync_folder

if TYPE_CHECKING:
    from alembic.config import Config

REVISION = "0007"
"""The revision that this version reads and writes: the newest in ``migrations/versions``."""

MIGRATIONS = "tidegate.store:migrations"


def bring_up_to_date(
    url: URL, *, busy_timeout: float, now: float, revision: str = REVISION, migrations: str = MIGRATIONS
) -> None:
    """Create or migrate the schema, if it is not at ``revision`` already.

    Parameters
    ----------
    url : URL
        From ``engine.parse_url``.
    busy_timeout : float
        Seconds to wait for another process that holds the database.
    now : float
        The time, in seconds since the epoch; a copy of the database is named by it.
    revision : str, optional
        What to bring it to.
    migrations : str, optional
        Where Alembic finds the steps.

    Raises
    ------
    StoreUnusable
        When the database is not ours, or was written by a newer version.
    """
    # Referential actions are off in here: rebuilding a table drops the old one, and that would cascade.
    engine = make_engine(url, busy_timeout=busy_timeout, connections=1, foreign_keys=False, poolclass=NullPool)
    with for_mode(engine, Mode.READ).begin() as connection:
        found = _revision_of(connection, url)
    if found == revision:
        return
    config = _alembic_config(migrations)
    if found is not None:
        _refuse_unknown(found, revision, config, url)
        if url.get_backend_name() == "sqlite":
            _copy_database(Path(url.database or ""), revision, now)
    with for_mode(engine, Mode.DURABLE).begin() as connection:
        _upgrade(connection, revision, config)
        if url.get_backend_name() == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
            raise StoreUnusable(
                f"cannot bring the database {show_url(url)} up to date: rows in it refer to rows that are missing. "
                "Nothing was changed; restore a backup"
            )


def check_revision(url: URL, *, busy_timeout: float) -> None:
    """See that a database is one of this version, and change nothing.

    Raises
    ------
    StoreUnusable
        When it is of another version.
    """
    engine = make_engine(url, busy_timeout=busy_timeout, connections=1, poolclass=NullPool)
    with our_words(), for_mode(engine, Mode.READ).begin() as connection:
        found = _revision_of(connection, url)
    if found != REVISION:
        raise StoreUnusable(
            f"cannot use the database {show_url(url)}: it is at schema {found}, and this version of Tidegate works "
            f"with {REVISION}. Start the gateway with this version first"
        )


def describe_database(url: URL, *, busy_timeout: float) -> str:
    """Ask a PostgreSQL whether a gateway could start with it, and change nothing; return what it is, in words.

    Raises
    ------
    StoreUnusable
        When it could not.
    """
    engine = make_engine(url, busy_timeout=busy_timeout, connections=1, poolclass=NullPool)
    try:
        with our_words(), for_mode(engine, Mode.READ).begin() as connection:
            found = _revision_of(connection, url)
            version = connection.execute(text("SHOW server_version")).scalar_one()
            may_create = connection.execute(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")).scalar()
    except (Busy, BackendFailed) as error:
        raise StoreUnusable(f"cannot use the database {show_url(url)}: {error.detail}") from None
    if found not in (None, REVISION):
        _refuse_unknown(str(found), REVISION, _alembic_config(MIGRATIONS), url)
    if found != REVISION and not may_create:
        raise StoreUnusable(
            f"cannot use the database {show_url(url)}: {url.username or 'the gateway'} may not make tables in it. Make "
            f"them its owner: ALTER DATABASE ... OWNER TO ...; or grant CREATE on its schema"
        )
    next_start = {None: "the first start makes its tables", REVISION: f"at schema {REVISION}"}
    state = next_start.get(found, f"the next start brings it from schema {found} to {REVISION}")
    return f"{show_url(url)} (PostgreSQL {str(version).split()[0]}, {state})"


def _refuse_unfit(connection: Connection, url: URL) -> None:
    """See that a PostgreSQL can hold whatever people write, and may be written to."""
    encoding, standby, schema = connection.execute(
        text("SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_schema()")
    ).one()
    if encoding != "UTF8":
        raise StoreUnusable(
            f"cannot use the database {show_url(url)}: its encoding is {encoding}, in which not every name can be "
            "written. Make one with ENCODING 'UTF8'"
        )
    if standby:
        raise StoreUnusable(f"cannot use the database {show_url(url)}: it is a standby, which cannot be written to")
    if schema is None:
        raise StoreUnusable(f"cannot use the database {show_url(url)}: none of the schemas in its search_path exists")


def _revision_of(connection: Connection, url: URL) -> str | None:
    """Return the revision of the schema, None for an empty database."""
    if connection.dialect.name == "postgresql":
        _refuse_unfit(connection, url)
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return None if revision is None else str(revision)
    if tables:
        raise StoreUnusable(
            f"cannot use the database {show_url(url)}: it holds tables ({', '.join(sorted(tables)[:3])}) that are not "
            "Tidegate's. Give it an empty database of its own"
        )
    return None


def _refuse_unknown(found: str, revision: str, config: Config, url: URL) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found not in known:
        raise StoreUnusable(
            f"cannot use the database {show_url(url)}: a newer version of Tidegate wrote it (schema {found}, "
            f"while this version knows schemas up to {revision}). Start that version again, or restore a backup from "
            "before the upgrade"
        )


def _upgrade(connection: Connection, revision: str, config: Config) -> None:
    from alembic import command

    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _alembic_config(migrations: str) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", migrations.replace("%", "%%"))
    return config


def _copy_database(database: Path, revision: str, now: float) -> None:
    """Lay a copy of a SQLite database, write-ahead log included, beside it; whole or not at all."""
    moment = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    target = database.with_name(f"{database.name}.before-{revision}-{moment}")
    draft = target.with_name(f"{target.name}.partial")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(draft)) as copy:
            source.backup(copy)
        os.replace(draft, target)
        sync_folder(target.parent)
    except (OSError, sqlite3.Error) as error:
        draft.unlink(missing_ok=True)
        raise StoreUnusable(
            f"cannot copy the database to {target} before the upgrade: {error}. Make room for "
            f"{database.stat().st_size} bytes and start again; nothing was changed"
        ) from error
