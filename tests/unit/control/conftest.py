"""Control around a simulated engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.control.rig import Rig, rigged


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """All of control, at rest."""
    async with rigged(tmp_path) as rig:
        yield rig
