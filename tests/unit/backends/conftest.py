"""Clusters of real processes for the tests of the local backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.backend_sites import LocalSite, shared_data


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a data folder whose zygote stays warm from one test to the next."""
    with shared_data(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(params=[False, True], ids=["interpreter", "forked"])
async def site(request: pytest.FixtureRequest, tmp_path: Path, warm: Path) -> AsyncIterator[LocalSite]:
    """Give a place of a cluster's own, whose keeper starts either way; afterwards nothing of it runs."""
    site = await LocalSite(tmp_path, zygote=request.param, data=warm if request.param else None).start()
    yield site
    await site.close()
