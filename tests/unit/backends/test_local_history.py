"""What has ended costs a look nothing, and logs cost no more than a person reads. No process runs here."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tidegate.backends.local import backend as local
from tidegate.backends.local.accounts import own
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper.journal import SCHEDULER, Journal
from tidegate.model.observation import Seen

NAME = "0123456789abcdef"


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    """Give a backend, and in its data folder a cluster that left traces."""
    folder = ClusterFolder(tmp_path / "clusters", NAME)
    folder.give_to(own())
    folder.create({"agent.json": b"{}"})
    backend = LocalBackend(tmp_path)
    await backend.start()
    yield backend
    await backend.close()


async def test_the_log_of_an_end_is_read_once(backend: LocalBackend, tmp_path: Path) -> None:
    """Looks come every few seconds, and a night of failures leaves thousands of logs."""
    folder = ClusterFolder(tmp_path / "clusters", NAME)
    log = folder.logs / "default-1.log"
    log.write_text("Traceback\n" + "x" * 100_000 + "\nno such thing\n")
    Journal(str(folder.status_file)).exited("default-1", why="its process ended", code="exited")
    first = (await backend.observe([NAME]))[NAME].workers["default-1"]
    log.unlink()

    assert (await backend.observe([NAME]))[NAME].workers["default-1"] == first
    assert first.log_tail.endswith("x\nno such thing")
    assert len(first.log_tail) < local.TAIL_BYTES

    folder.remove_secrets()
    for _ in range(2):  # Once nothing of it remains, nothing of it is held.
        last = (await backend.observe([NAME]))[NAME]
    assert not last.remains
    assert last.workers["default-1"].log_tail == ""


async def test_logs_come_to_no_more_than_a_limit(backend: LocalBackend, tmp_path: Path) -> None:
    """The scheduler's, then those written to last; told in the order of their numbers."""
    folder = ClusterFolder(tmp_path / "clusters", NAME)
    line = "x" * 99 + "\n"
    for number in range(1, 16):
        log = folder.logs / f"default-{number}.log"
        log.write_text(line * 5000)
        os.utime(log, (1000, 1000 if number % 2 else 2000))
    (folder.logs / f"{SCHEDULER}.log").write_text("it began\n")
    os.utime(folder.logs / f"{SCHEDULER}.log", (1, 1))

    logs = await backend.logs(NAME, lines=10_000)

    assert sum(len(log.text) for log in logs) <= local.LOGS_BYTES
    evens = [f"default-{number}" for number in range(2, 16, 2)]
    told = [log.process for log in logs]
    assert told[0] == SCHEDULER
    assert set(evens) < set(told)
    assert told[1:] == sorted(told[1:], key=lambda name: int(name.split("-")[1]))
    assert len(told) < 12
    assert logs[0].text == "it began"


async def test_a_look_comes_to_no_more_than_a_limit(backend: LocalBackend, tmp_path: Path) -> None:
    """Thousands of ends with long sentences and logs: the newest are told whole, of the older ones that they ended."""
    folder = ClusterFolder(tmp_path / "clusters", NAME)
    lines = [{"process": f"default-{n}", "state": "exited", "why": "w" * 1000, "code": "c"} for n in range(20_000)]
    folder.status_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number in range(19_500, 20_000):
        (folder.logs / f"default-{number}.log").write_text("\x01" * 20_000)
    while NAME not in await backend.observe([NAME]):
        pass  # Each look reads on.
    for _ in range(2):
        seen = (await backend.observe([NAME]))[NAME]
        assert len(TypeAdapter(Seen).dump_json(seen)) < 3 * local.TAILS_BYTES
        newest = seen.workers["default-19999"]
        assert (len(newest.why), len(newest.log_tail)) == (1000, local.TAIL_BYTES)
        assert seen.workers["default-19500"].log_tail == ""
        assert set(seen.workers["default-19500"].why) == {"w"}


async def test_a_cluster_that_cannot_be_looked_at_hides_no_other(backend: LocalBackend, tmp_path: Path) -> None:
    """It is left out, which is neither alive nor dead."""
    folder = ClusterFolder(tmp_path / "clusters", "broken")
    folder.give_to(own())
    # No tenant can write this file; it stands for what nobody thought of.
    folder.write_launch({"cluster": folder.name, "groups": 1})
    assert set(await backend.observe(["broken", NAME])) == {NAME}
