"""What must hold after every round, whatever was killed, and within which time. What does not is ``AssertionError``."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tests.chaos.operations import Subject
from tests.chaos.victims import module
from tests.chaos.world import World, command_of
from tests.support import eventually_sync

SETTLE_SECONDS = 40.0
"""In which every cluster has come to where it is to be. A worker that died is started again after ten at the most."""
GONE_SECONDS = 15.0
"""In which nothing is left of a cluster that has ended."""
SPARE_DESCRIPTORS = 12
"""By how many open descriptors the gateway's processes may differ from what they had: clients come and go."""

LEGAL = {"requested", "starting", "running", "stopping", "stopped", "failed"}


def all_on_record(world: World, granted: Collection[str]) -> None:
    """Every cluster that the API granted is on record, and none beside."""
    recorded = world.clusters()
    assert set(recorded) == set(granted), f"granted {sorted(granted)}, on record {sorted(recorded)}"
    for name, cluster in recorded.items():
        assert cluster["state"] in LEGAL, f"{name} is {cluster['state']}"


def settles_running(world: World, subject: Subject) -> None:
    """The cluster comes to run with as many workers as are wanted, and does not change any more."""

    def settled() -> bool:
        cluster = world.cluster(subject.name)
        assert cluster["state"] not in ("failed", "stopped"), f"nobody ended {subject.name}: {cluster['reason']}"
        workers, (low, high) = cluster["workers"], subject.workers
        return cluster["state"] == "running" and workers["starting"] == 0 and low <= workers["running"] <= high

    eventually_sync(settled, SETTLE_SECONDS, f"{subject.name} runs with {subject.workers} workers")


def settles_stopped(world: World, subject: Subject) -> None:
    """The cluster that its user has ended is called stopped, and nothing else."""

    def stopped() -> bool:
        cluster = world.cluster(subject.name)
        assert cluster["state"] != "failed", f"{subject.name} was ended, and failed: {cluster['reason']}"
        return bool(cluster["state"] == "stopped")

    eventually_sync(stopped, SETTLE_SECONDS, f"{subject.name} is stopped")


def settles_ended(world: World, subject: Subject) -> str:
    """The cluster comes to an end, whichever. Return that."""

    def ended() -> bool:
        return world.cluster(subject.name)["state"] in ("failed", "stopped")

    eventually_sync(ended, SETTLE_SECONDS, f"{subject.name} has ended")
    return str(world.cluster(subject.name)["state"])


def settles_failed(world: World, subject: Subject) -> str:
    """The cluster that lost its scheduler has failed, and its reason says what killed it. Return that.

    Empty if its user had asked for its end, and it is called stopped.
    """
    state = settles_ended(world, subject)
    if subject.ends and state == "stopped":
        return ""
    reason = world.cluster(subject.name)["reason"]
    assert state == "failed", f"{subject.name} lost its scheduler, and is {state}"
    assert reason["code"] == "scheduler-exited", reason
    assert "kill" in reason["message"].lower(), f"the reason does not say what happened: {reason}"
    return str(reason["message"])


def nothing_left_of(world: World, cluster: str) -> None:
    """No process and no secret is left of a cluster that has ended."""
    eventually_sync(
        lambda: not processes_of(world, cluster),
        GONE_SECONDS,
        f"the processes of {cluster} are gone: {world.describe()}",
    )
    folder = world.folder_of(cluster)
    left = [str(p) for p in (folder / "secrets", folder / "scratch") if p.exists()]
    assert not left, f"{cluster} has ended and left {left}"


def no_secret_in_sight(world: World, alive: Collection[str]) -> None:
    """No file but those of clusters that run holds a private key or the user's token; no command line holds that."""
    token = world.token.encode()
    # The user's own configuration is in their home, which is not the gateway's.
    for path in _files(world.data):
        if path.parent.name == "secrets" and path.parent.parent.name in alive:
            continue
        content = path.read_bytes()
        assert b"PRIVATE KEY" not in content, f"{path} holds a private key"
        assert token not in content, f"{path} holds the user's token"
    for process in world.processes():
        assert world.token not in " ".join(command_of(process)), (
            f"{process.pid} bears the user's token in its arguments"
        )


def processes_of(world: World, cluster: str) -> list[int]:
    """Return what runs of a cluster: what bears its name in arguments, environment, open files or control group."""
    return [p.pid for p in world.processes() if cluster in _traces(p)]


def descriptors(world: World) -> int:
    """Return how many descriptors the gateway's own lasting processes have open."""
    pids = [pid for name in ("tidegate.server.control", "tidegate.proxy") for pid in module(name)(world, "")]
    return sum(_count_descriptors(pid) for pid in pids)


def no_descriptor_leaked(world: World, before: int) -> None:
    """They have about as many open as before."""
    eventually_sync(
        lambda: descriptors(world) <= before + SPARE_DESCRIPTORS,
        GONE_SECONDS,
        f"{before} descriptors were open, and now {descriptors(world)}",
    )


def port_is_free(world: World) -> None:
    """Nobody listens any more where the gateway listened."""
    where = urlsplit(world.gateway.url)
    with socket.socket() as knock:
        assert knock.connect_ex((where.hostname or "", where.port or 0)) != 0, "the port is still served"


def no_group_left(world: World) -> None:
    """No control group bears the mark of this gateway any more."""
    mark = (world.data / "clusters" / ".mark").read_text()
    left = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if mark in folder]
    assert not left, f"control groups are left: {left}"


def _traces(process: psutil.Process) -> str:
    found = command_of(process)
    for name in ("environ", "cgroup"):
        found += _read(f"/proc/{process.pid}/{name}")
    for number in (0, 1, 2):
        try:
            found.append(os.readlink(f"/proc/{process.pid}/fd/{number}"))
        except OSError:
            continue
    return "\n".join(found)


def _read(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace").split("\0")
    except OSError:
        return []


def _count_descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def _files(folder: Path) -> Iterable[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            # Sockets cannot be read; what is removed meanwhile holds nothing.
            if path.is_file():
                yield path
