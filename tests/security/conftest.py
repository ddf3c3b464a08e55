"""Fixtures of the attacks: a proxy to be attacked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.proxy_rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a proxy with the default settings."""
    folder = tmp_path / "rig"
    folder.mkdir()
    rig = Rig(folder)
    yield rig
    await rig.close()
