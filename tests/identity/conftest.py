"""The services, started once for all tests of this folder, for each takes seconds; and the people, new in each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.browser import Chromium
from tests.identity.accounts import Tenants, tenants
from tests.identity.hub import Platform, running
from tests.identity.provider import Provider, running_provider
from tests.identity.realm import Realm, running_realm


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A Hub whose users may use the gateway, and that gateway."""
    with running(tmp_path_factory.mktemp("platform")) as started:
        yield started


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """An OpenID provider that knows gateways in this process."""
    with running_provider(tmp_path_factory.mktemp("provider"), ["http://gateway.test/login/oidc/return"]) as started:
        yield started


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser."""
    with Chromium() as started:
        yield started


@pytest.fixture(scope="session")
def realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm with alice, bob and the gateway's key."""
    with running_realm(tmp_path_factory.mktemp("realm")) as started:
        yield started


@pytest.fixture(scope="module")
def people() -> Iterator[Tenants]:
    """Two accounts of this machine, and one for the gateway."""
    with tenants() as made:
        yield made
