"""How transactions begin on PostgreSQL, and what its errors become."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from tests.contract.store_samples import Database
from tidegate.model.errors import BackendFailed, Busy
from tidegate.store.engine import Mode, for_mode, make_engine, our_words, parse_url


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    """An engine on a database with a table that holds one row."""
    made = make_engine(parse_url(database.url or ""), busy_timeout=0.1, connections=2)
    with for_mode(made, Mode.WRITE).begin() as connection:
        connection.execute(text("CREATE TABLE numbers AS SELECT 1 AS number"))
    yield made
    made.dispose()


def write(engine: Engine, mode: Mode = Mode.WRITE) -> None:
    """Add a row."""
    with our_words(), for_mode(engine, mode).begin() as connection:
        connection.execute(text("INSERT INTO numbers VALUES (2)"))


def test_a_read_is_of_one_moment(engine: Engine) -> None:
    """What is written after its first look it does not see, so that all rows of a cluster belong together."""
    with for_mode(engine, Mode.READ).begin() as connection:
        counts = [connection.execute(text("SELECT count(*) FROM numbers")).scalar()]
        write(engine)
        counts.append(connection.execute(text("SELECT count(*) FROM numbers")).scalar())

    assert counts == [1, 1]


def test_a_read_cannot_write(engine: Engine) -> None:
    """A query that does so by mistake breaks, instead of writing past the lock."""
    with pytest.raises(BackendFailed) as error:
        write(engine, Mode.READ)

    assert "read-only transaction" in str(error.value.detail)


@pytest.mark.parametrize("mode", [Mode.WRITE, Mode.DURABLE])
def test_of_two_writers_one_waits(engine: Engine, mode: Mode) -> None:
    """And is told to come back when the other takes too long; then it has its turn."""
    with for_mode(engine, mode).begin(), pytest.raises(Busy, match="cannot reach the gateway's database now"):
        write(engine)
    write(engine)
