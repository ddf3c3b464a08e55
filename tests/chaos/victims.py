"""Who is killed: every kind of process that a gateway consists of, how to find it, and what its death may cost.

A process that is new in the house becomes a victim by one line in ``VICTIMS``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psutil

from tests.chaos.world import World, command_of

Find = Callable[[World, str], list[int]]
"""Returns the process ids, oldest first, given the world and the name of the cluster that is meant."""


class Cost(Enum):
    """The most that the death of a process may cost."""

    NOTHING = "nothing"
    """No user notices: every operation succeeds, no connection to a cluster is cut."""
    CONNECTIONS = "connections"
    """Connections are cut: what was being computed is lost to its client, clusters go on."""
    CLUSTER = "cluster"
    """Its cluster fails, with a reason that tells; all others notice nothing."""


@dataclass(frozen=True)
class Victim:
    """A kind of process."""

    role: str
    cost: Cost
    find: Find


def module(name: str) -> Find:
    """Find processes of the gateway that were started as ``python -m NAME``."""

    def find(world: World, _cluster: str) -> list[int]:
        found = []
        for process in world.processes():
            words = command_of(process)
            if "-m" in words and words[words.index("-m") + 1] == name:
                found.append(process.pid)
        return found

    return find


def zygote(world: World, _cluster: str) -> list[int]:
    """Find what keepers are forked from. By its file: what it has forked has its name."""
    return [pid for file in (world.data / "clusters" / ".zygotes").glob("*/zygote.pid") for pid in _alive(file)]


def supervisor(world: World, _cluster: str) -> list[int]:
    """Find ``tidegate serve``."""
    process = world.gateway.process
    return [process.pid] if process is not None and process.poll() is None else []


def keeper(world: World, cluster: str) -> list[int]:
    """Find the cluster's keeper, by the file that it leaves."""
    return _alive(world.folder_of(cluster) / "keeper.pid")


def scheduler(world: World, cluster: str) -> list[int]:
    """Find the cluster's scheduler: the child of the keeper that writes the scheduler's log."""
    return [pid for pid in _children(world, cluster) if _log_of(pid) == "scheduler.log"]


def worker(world: World, cluster: str) -> list[int]:
    """Find the processes that the cluster's nannies look after."""
    return [pid for pid in _children(world, cluster) if _log_of(pid) not in ("scheduler.log", "")]


VICTIMS = (
    Victim("supervisor", Cost.NOTHING, supervisor),
    Victim("control", Cost.NOTHING, module("tidegate.server.control")),
    Victim("holder", Cost.NOTHING, module("tidegate.holder")),
    Victim("zygote", Cost.NOTHING, zygote),
    Victim("proxy", Cost.NOTHING, module("tidegate.proxy")),
    Victim("keeper", Cost.CLUSTER, keeper),
    Victim("scheduler", Cost.CLUSTER, scheduler),
    Victim("worker", Cost.NOTHING, worker),
)


def _alive(file: Path) -> list[int]:
    """Return the process that a file names, if it is there."""
    try:
        pid = int(json.loads(file.read_text())["pid"])
    except (OSError, ValueError):
        return []
    return [pid] if psutil.pid_exists(pid) else []


def _children(world: World, cluster: str) -> list[int]:
    """Return what the keeper has forked, but not what Python's ``multiprocessing`` started beside."""
    found = []
    for pid in keeper(world, cluster):
        with suppress(psutil.NoSuchProcess):
            found += [c.pid for c in psutil.Process(pid).children() if "resource_tracker" not in "".join(command_of(c))]
    return found


def _log_of(pid: int) -> str:
    """Return the name of the file that a process writes its output to."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/fd/1"))
    except OSError:
        return ""
