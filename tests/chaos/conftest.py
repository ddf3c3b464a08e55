"""Gateways that faults are done to, as whole processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.operations import Subject
from tests.chaos.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A gateway that is not started yet; in the end it is stopped, and nothing may be left of it."""
    made = World(tmp_path / "gateway")
    try:
        yield made
        made.stop()
    finally:
        made.kill_everything()


@pytest.fixture
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
