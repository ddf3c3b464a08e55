"""The store on SQLite, for its suites; ``tests/postgres`` has them run on the other database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.store_samples import Database
from tidegate.store.base import Store


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An empty database."""
    return Database(tmp_path / "data")


@pytest.fixture
async def store(database: Database) -> AsyncIterator[Store]:
    """A started store on an empty database."""
    async with database.open() as store:
        yield store
