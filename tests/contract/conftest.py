"""Stores on every database that is at hand, for the suites of the store."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.contract.store_samples import KINDS, POSTGRES, Database
from tidegate.store.base import Store


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database of each kind."""
    folder = tmp_path / "data"
    if request.param == "sqlite":
        yield Database(folder)
        return
    schema = f"tidegate_test_{secrets.token_hex(6)}"
    server = create_engine(make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
        yield Database(folder, f"{POSTGRES}?options=-csearch_path%3D{schema}")
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    server.dispose()


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A started store on an empty database."""
    async with database.open() as store:
        yield store
