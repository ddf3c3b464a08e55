"""What every backend promises, kept where clusters run under their owners' accounts.

The promises are those of ``tests/contract/test_backends.py``, one by one; the place is this machine with another user.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract import test_backends
from tests.contract.backend_sites import RemoteSite, Site
from tests.identity.accounts import Tenants

globals().update({name: test for name, test in vars(test_backends).items() if name.startswith("test_")})


@pytest.fixture
async def site(people: Tenants, tmp_path: Path) -> AsyncIterator[Site]:
    """Give a site whose clusters are alice's; afterwards nothing of it runs."""
    settings = {"accounts": "owner", "folder": people.place / "clusters"}
    site = RemoteSite(tmp_path, python=people.python, settings=settings, owner=people.alice.pw_name)
    await site.start()
    yield site
    await site.close()
