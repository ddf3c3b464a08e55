"""What the database's own errors become, and which databases are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.store.base import StoreUnusable
from tidegate.store.engine import Mode, for_mode, make_engine, parse_url, show_url


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("postgresql://u:p@db/tidegate", "postgresql+psycopg"),
        ("postgresql+asyncpg://u:p@db/tidegate", "postgresql+psycopg"),
        ("sqlite:////var/lib/tidegate/x.sqlite", "sqlite"),
        ("sqlite+aiosqlite:////var/lib/tidegate/x.sqlite", "sqlite"),
    ],
)
def test_a_database_is_known_by_its_kind(url: str, driver: str):
    """Whatever driver a URL names, ours is used."""
    assert parse_url(url).drivername == driver


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("hunter2", "cannot understand the database URL: it looks like"),
        ("mysql://u:hunter2@db/x", "cannot use a database of the kind 'mysql'"),
        ("sqlite://", "SQLite \\(with a file\\)"),
    ],
)
def test_an_unknown_database_is_refused(url: str, sentence: str):
    """What we have no code for is refused by name, and the password is not repeated."""
    with pytest.raises(StoreUnusable, match=sentence) as caught:
        parse_url(url)

    assert "hunter2" not in caught.value.message


def test_a_shown_url_hides_its_password():
    """People read where the database is, never how to get in."""
    assert show_url(parse_url("postgresql://u:hunter2@db/tidegate")) == "postgresql://u:***@db/tidegate"
    assert show_url(parse_url("sqlite:////data/x.sqlite")) == "/data/x.sqlite"


def test_each_mode_is_as_durable_as_it_says(tmp_path: Path):
    """A durable write waits for the disk (FULL), any other write does not (NORMAL), in whichever order they come."""
    engine = make_engine(parse_url(f"sqlite:///{tmp_path}/x.sqlite"), busy_timeout=1, connections=1)

    def synchronous(mode: Mode) -> int:
        with for_mode(engine, mode).begin() as connection:
            return connection.exec_driver_sql("PRAGMA synchronous").scalar_one()

    modes = [Mode.WRITE, Mode.DURABLE, Mode.DURABLE, Mode.WRITE]
    assert [synchronous(mode) for mode in modes] == [1, 2, 2, 1]
    engine.dispose()
