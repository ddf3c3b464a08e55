"""The schema on PostgreSQL: what the steps build, what they make of older records, and which databases are refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import URL, Connection, NullPool, text
from sqlalchemy.exc import ProgrammingError

from tests.contract.store_samples import NOW, Database
from tests.postgres.server import PASSWORD, PostgresServer
from tidegate.store.base import StoreUnusable
from tidegate.store.engine import Mode, for_mode, make_engine, parse_url
from tidegate.store.schema import REVISION, bring_up_to_date, describe_database
from tidegate.store.tables import metadata


@pytest.fixture
def url(database: Database) -> URL:
    """Where an empty database is."""
    return parse_url(database.url or "")


def upgrade(url: URL, revision: str = REVISION) -> None:
    """Bring a database to a schema, as a start of that version does."""
    bring_up_to_date(url, busy_timeout=1, now=NOW, revision=revision)


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """Give a connection."""
    engine = make_engine(url, busy_timeout=1, connections=1, poolclass=NullPool)
    with for_mode(engine, Mode.WRITE).begin() as connection:
        yield connection


def run(url: URL, *statements: str) -> list[tuple[Any, ...]]:
    """Run SQL; return the rows of the last statement."""
    with connected(url) as connection:
        for statement in statements:
            result = connection.execute(text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


def describe(url: URL) -> str:
    """Return what ``tidegate config check`` says of a database."""
    return describe_database(url, busy_timeout=1)


def test_migrations_build_what_the_tables_say(url: URL) -> None:
    """A migrated database and ``tables.py`` do not differ for Alembic, column types included."""
    upgrade(url)

    with connected(url) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


CLUSTER = """
INSERT INTO clusters (name, owner, backend, spec, options, state, target, created_at, changed_at, attempt, revision)
VALUES ('c1', 'alice', 'local', '{"worker_cores"\\: 2.5, "worker_memory"\\: 1000}', '{}', 'running', 'running',
        1, 1, 1, 1)
"""
GROUP = """
INSERT INTO worker_groups (cluster, name, wanted, launched, failures, retry_at) VALUES ('c1', 'default', 3, 0, 0, 0)
"""


@pytest.mark.parametrize("revision", [f"{number:04}" for number in range(1, int(REVISION))])
def test_records_of_every_older_version_are_brought_along(url: URL, revision: str) -> None:
    """A running cluster stays, changes are counted from then on, and what it holds is in the ledger."""
    upgrade(url, revision)
    run(url, CLUSTER, GROUP)
    assert f"brings it from schema {revision} to {REVISION}" in describe(url)

    upgrade(url)

    assert run(url, "SELECT name, change FROM clusters") == [("c1", 0)]
    assert run(url, "SELECT owner, workers, cores, memory FROM holdings") == [("alice", 3, 7.5, 3000)]
    assert f"at schema {REVISION}" in describe(url)


def test_a_step_that_fails_changes_nothing(url: URL) -> None:
    """Its transaction takes back what it had done."""
    upgrade(url, "0005")
    run(url, CLUSTER, GROUP, "CREATE TABLE holdings (id INTEGER)")

    with pytest.raises(ProgrammingError, match="holdings"):
        upgrade(url)

    assert run(url, "SELECT version_num FROM alembic_version") == [("0005",)]


def test_an_empty_database_is_described(url: URL) -> None:
    """What it is and what a start will do to it; nothing is done yet."""
    words = describe(url)

    assert words.startswith("postgresql://tidegate@")
    assert "PostgreSQL 1" in words
    assert "the first start makes its tables" in words
    with pytest.raises(ProgrammingError, match="alembic_version"):
        run(url, "SELECT * FROM alembic_version")


# -- databases that are of no use --------------------------------------------------------------------------------------


def test_who_cannot_get_in_is_told_why(postgres: PostgresServer) -> None:
    """A wrong password, an unknown database, and nobody who listens; the password is not repeated."""
    there = parse_url(postgres.url)
    wrong = {
        there.set(password="letmein"): "password authentication failed",
        there: "no password supplied",
        there.set(password=PASSWORD, database="nonsense"): 'database "nonsense" does not exist',
        there.set(password="letmein", port=1): "Connection refused",
    }
    for url, words in wrong.items():
        with pytest.raises(StoreUnusable, match=f"cannot use the database postgresql://tidegate.*{words}") as caught:
            describe(url)
        assert "letmein" not in caught.value.message
        assert PASSWORD not in caught.value.message


def test_a_foreign_database_is_refused(url: URL) -> None:
    """A database with somebody else's tables is not ours to migrate."""
    run(url, "CREATE TABLE invoices (id INTEGER)")

    for look in (describe, upgrade):
        with pytest.raises(StoreUnusable, match=r"holds tables \(invoices\) that are not Tidegate's"):
            look(url)


def test_a_newer_database_is_refused(url: URL) -> None:
    """What a newer version wrote is left alone."""
    upgrade(url)
    run(url, "UPDATE alembic_version SET version_num = '9999'")

    for look in (describe, upgrade):
        with pytest.raises(StoreUnusable, match="newer version of Tidegate wrote it"):
            look(url)


def test_a_database_in_which_names_cannot_be_written_is_refused(postgres: PostgresServer) -> None:
    """Of another encoding."""
    with postgres.database("latin", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0") as there:
        url = parse_url(there).set(password=PASSWORD)
        for look in (describe, upgrade):
            with pytest.raises(StoreUnusable, match="its encoding is LATIN1"):
                look(url)


def test_an_account_that_may_not_make_tables_is_told(postgres: PostgresServer) -> None:
    """From PostgreSQL 15 on that is any but the database's owner."""
    with postgres.database("lent") as there:
        postgres.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database="lent")
        postgres.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
        with pytest.raises(StoreUnusable, match="guest may not make tables in it"):
            describe(parse_url(there).set(username="guest", password="guest"))
        postgres.execute("DROP ROLE guest")
