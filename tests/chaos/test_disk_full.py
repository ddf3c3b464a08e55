"""The disk of the data folder is full: everybody is told, what runs goes on, and room is all it takes to mend it."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.operations import Subject, check_computes
from tests.chaos.victims import module
from tests.chaos.world import World, kill
from tests.support import eventually_sync
from tidegate.client.errors import GatewayError

pytestmark = pytest.mark.timeout(240)

DISK_BYTES = 64 * 2**20
"""Room for the database, its log and some clusters, and quickly filled."""

BALLAST = "ballast"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway whose data folder is a small file system of its own."""
    made = World(tmp_path_factory.mktemp("gateway"))
    made.data.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0700", "tmpfs", str(made.data)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield made
        (made.data / BALLAST).unlink(missing_ok=True)
        made.stop()
    finally:
        made.kill_everything()
        subprocess.run(["umount", "--lazy", str(made.data)], check=True)


@pytest.fixture
def fill(world: World) -> Callable[[], Path]:
    """Return a function that fills the disk to the last byte and returns the file that does it."""

    def fill_disk() -> Path:
        ballast = world.data / BALLAST
        with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            _write_for_ever(file)
        return ballast

    return fill_disk


def _write_for_ever(file: io.RawIOBase) -> None:
    while True:
        file.write(bytes(4096))


def test_a_full_disk_is_told_and_mended_by_room(world: World, subject: Subject, fill: Callable[[], Path]) -> None:
    """What writes is refused with the reason, what reads and computes goes on; nothing has to be started again."""
    control = module("tidegate.server.control")(world, "")
    ballast = fill()

    refused = httpx.post(f"{world.gateway.url}/api/v2/clusters", headers=world.headers, json={}, timeout=30)
    assert refused.status_code == 507, refused.text
    assert "disk is full" in refused.json()["error"]["message"]
    with pytest.raises(GatewayError, match="disk is full"):
        subject.cluster.scale(2)
    assert world.cluster(subject.name)["state"] == "running"
    check_computes(subject)

    ballast.unlink()
    subject.scale(2)
    assert set(world.clusters()) == {subject.name}
    later = Subject(subject.user)
    later.create(1)
    check_computes(later)
    later.close()
    assert module("tidegate.server.control")(world, "") == control, "control had to be started again"


def test_control_that_is_killed_while_the_disk_is_full_comes_back(
    world: World, subject: Subject, fill: Callable[[], Path]
) -> None:
    """It can read what is on record, or it is started again until it can; nothing is lost."""
    ballast = fill()
    (control,) = module("tidegate.server.control")(world, "")
    kill(control)
    eventually_sync(lambda: module("tidegate.server.control")(world, "") not in ([], [control]), 30)
    check_computes(subject)

    ballast.unlink()
    assert world.cluster(subject.name)["state"] == "running"
    subject.scale(3)
