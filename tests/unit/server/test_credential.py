"""The credential of the user who starts the gateway: one, and gone with its file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tidegate.config.schema import Address, Settings
from tidegate.server.client_config import ClientConfig
from tidegate.server.credential import leave_credential
from tidegate.store.sql import SqlStore

ADDRESS = Address.parse("127.0.0.1:8000")


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A gateway of somebody whose home is empty."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DASK_CONFIG", raising=False)
    return Settings(data=tmp_path / "data")


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[SqlStore]:
    """Its store."""
    opened = SqlStore(settings.data)
    await opened.start()
    yield opened
    await opened.close()


async def test_a_later_start_keeps_the_token(store: SqlStore, settings: Settings) -> None:
    """Nothing changes under running notebooks."""
    await leave_credential(store, settings, ADDRESS)
    before = ClientConfig(settings.data).token()

    await leave_credential(store, settings, ADDRESS)

    assert ClientConfig(settings.data).token() == before


async def test_a_token_is_removed_with_its_file(store: SqlStore, settings: Settings) -> None:
    """The next start makes another, and the one before opens nothing any more."""
    await leave_credential(store, settings, ADDRESS)
    config = ClientConfig(settings.data)
    before = config.token()
    assert before is not None
    config.path.unlink()

    await leave_credential(store, settings, ADDRESS)

    after = config.token()
    assert after is not None
    assert await store.find_token(after) is not None
    assert await store.find_token(before) is None
