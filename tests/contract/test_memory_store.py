"""The store in memory, which other suites stand on, keeps the promises of a store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.contract.store_samples import NOW
from tests.contract.test_stores import *  # noqa: F403 - the whole suite, on another database
from tests.contract.test_stores_audit import *  # noqa: F403
from tests.contract.test_stores_limits import *  # noqa: F403
from tests.contract.test_stores_names import *  # noqa: F403
from tests.contract.test_stores_usage import *  # noqa: F403
from tests.memory_store import MemoryStore, Tables
from tidegate.store.base import Store

# It does not outlive its process, and waits for nothing, so that nothing happens at the same time.
del test_a_killed_writer_leaves_whole_changes  # noqa: F821
del test_of_concurrent_changes_each_is_counted_once  # noqa: F821


class MemoryDatabase:
    """One empty set of tables; every call of ``open`` is another store on it."""

    def __init__(self) -> None:
        self._tables = Tables()

    @asynccontextmanager
    async def open(self, clock: Callable[[], float] = lambda: NOW) -> AsyncIterator[Store]:
        """Return a store."""
        yield MemoryStore(self._tables, clock)


@pytest.fixture
def database() -> MemoryDatabase:
    """An empty database."""
    return MemoryDatabase()
