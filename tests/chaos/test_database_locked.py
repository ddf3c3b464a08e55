"""Somebody else holds the database: who can wait does, who cannot is told when to come back, and nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest

from tests.chaos.doing import Doing
from tests.chaos.operations import Subject, check_computes
from tests.chaos.victims import module
from tests.chaos.world import World
from tidegate.store.database import BUSY_TIMEOUT, DATABASE_FILE

pytestmark = pytest.mark.timeout(240)


@contextmanager
def held(world: World) -> Iterator[None]:
    """Hold the database's write lock, as a backup or a person with a shell may."""
    with closing(sqlite3.connect(world.data / DATABASE_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def test_a_lock_of_seconds_is_waited_for(world: World, subject: Subject) -> None:
    """Nobody notices but by the clock."""
    with held(world):
        scaling = Doing(lambda: subject.scale(2))
        threading.Event().wait(BUSY_TIMEOUT / 2)
        assert not scaling.is_over
    assert scaling.wait(60) is None


def test_a_lock_for_longer_is_told_and_waited_out(world: World, subject: Subject) -> None:
    """A program is told to come back; our client does, and what it asked for happens once."""
    control = module("tidegate.server.control")(world, "")
    there = f"{world.gateway.url}/api/v2/clusters/{subject.name}"
    later = Subject(subject.user)
    with held(world):
        refused = httpx.patch(there, headers=world.headers, json={"workers": 3}, timeout=30)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) >= 1
        assert "another process holds it" in refused.json()["error"]["message"]
        # Who reads or computes is not held up.
        assert world.cluster(subject.name)["state"] == "running"
        check_computes(subject)
        creating = Doing(lambda: later.create(1))
        threading.Event().wait(2 * BUSY_TIMEOUT)
        assert not creating.is_over

    assert creating.wait(90) is None
    check_computes(later)
    later.close()
    assert set(world.clusters()) == {subject.name, later.name}
    assert module("tidegate.server.control")(world, "") == control, "control had to be started again"
