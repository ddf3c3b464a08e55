"""Clusters of real processes for the tests of the local backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.backend_sites import LocalSite


@pytest.fixture(params=[False, True], ids=["interpreter", "forked"])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LocalSite]:
    """Give a place of a cluster's own, whose keeper starts either way; afterwards nothing of it runs."""
    site = await LocalSite(tmp_path, zygote=request.param).start()
    yield site
    await site.close()
