"""Gateways that faults are done to, as whole processes: one for all tests of a file, each of which leaves it well."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.operations import Subject
from tests.chaos.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway that is not started yet; in the end it is stopped, and nothing may be left of it."""
    made = World(tmp_path_factory.mktemp("gateway"))
    try:
        yield made
        made.stop()
    finally:
        made.kill_everything()


@pytest.fixture(scope="module")
def subject(world: World) -> Iterator[Subject]:
    """A user with a cluster of one worker on the gateway, which is started with it."""
    world.start()
    with world.user() as user:
        made = Subject(user)
        made.create(1)
        try:
            yield made
        finally:
            made.close()
