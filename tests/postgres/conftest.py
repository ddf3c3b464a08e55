"""One server for all tests of a process, and an empty database in it for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.store_samples import Database
from tests.postgres.server import PostgresServer, running
from tidegate.store.base import Store


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL."""
    with running() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer, tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    with postgres.schema() as url:
        yield Database(tmp_path / "data", url)


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A started store on an empty database."""
    async with database.open() as store:
        yield store
