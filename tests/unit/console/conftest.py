"""The gateway in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.in_process import Gateway, gateway_in_process


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway with tokens for alice and mallory."""
    async with gateway_in_process(tmp_path) as gateway:
        yield gateway
