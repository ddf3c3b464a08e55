"""Control groups: what a worker may use of the machine, kept by the kernel, and a way to end what nothing else finds.

How to think about it
---------------------
Dask's nanny looks at the memory of its worker's process ten times a second. It sees neither what a task allocates
between two looks nor the processes that a task starts, and nobody counts cores. The kernel can do all of that for the
processes of a control group, if the host lets us make some.

Version 2 has one hierarchy of groups. Version 1, which many hosts still have beside it, has one for each resource, so a
group of ours is the folder of the same name in several of them. Nothing here asks which version a folder is of: a limit
is written where there is a file for it, and a group without folders has no limits and no members.

A cluster has a group. Below it one is for the scheduler and the keeper, and one for each worker, which lasts as long as
the worker: the processes that its nanny starts one after the other join it before they do anything else, and what tasks
start is born in it. The cluster's group is made by whoever launches the keeper (``backends/local/groups.py``), those
below it by the keeper.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

from .processes import kill, start_time

SCHEDULER = "scheduler"
"""The group of scheduler and keeper. Names of workers contain a dash."""

CPU_PERIOD = 100_000
"""Microseconds after which a used-up share of cores is filled again: the kernel's own default."""

NO_SWAP = 0
"""Bytes of swap: Dask spills results that do not fit, and a worker that swaps only looks as if it worked."""

HUGE_PAGE = 2**21
"""Bytes that a process may be given at once: so near to its limit it is refused the next."""

Limits = Sequence[tuple[str, str]]
"""Names of files and what to write there, in that order. Files that are not there are of the other version."""


def memory_limit(size: int) -> Limits:
    """Return what limits memory to ``size`` bytes."""
    return [
        ("memory.max", str(size)),
        ("memory.swap.max", str(NO_SWAP)),
        ("memory.limit_in_bytes", str(size)),
        ("memory.memsw.limit_in_bytes", str(size + NO_SWAP)),
    ]


def cores_limit(cores: float) -> Limits:
    """Return what limits the use of the processor to so many ``cores``, on the average of a tenth of a second."""
    quota = max(1000, round(cores * CPU_PERIOD))  # The kernel takes no less than a hundredth of a core.
    return [
        ("cpu.max", f"{quota} {CPU_PERIOD}"),
        ("cpu.cfs_period_us", str(CPU_PERIOD)),
        ("cpu.cfs_quota_us", str(quota)),
    ]


def processes_limit(count: int) -> Limits:
    """Return what limits processes and threads together to ``count``."""
    return [("pids.max", str(count))]


class Group:
    """A control group: one folder in each hierarchy that it is part of.

    Nothing here raises when the host refuses: then a limit is not kept, or a process stays where it is.

    Parameters
    ----------
    folders : sequence of str
        None where there are no control groups.
    """

    def __init__(self, folders: Sequence[str] = ()) -> None:
        self.folders = tuple(folders)

    def below(self, name: str) -> Group:
        """Return the group of this name below this one; it need not exist."""
        return Group([os.path.join(folder, name) for folder in self.folders])

    def make(self) -> Group:
        """Make the folders that are not there; return the group of those that are there then."""
        made = []
        for folder in self.folders:
            with contextlib.suppress(OSError):
                os.makedirs(folder, exist_ok=True)
                made.append(folder)
        return Group(made)

    def limit(self, limits: Limits) -> None:
        """Set limits."""
        for name, value in limits:
            for folder in self.folders:
                _write(os.path.join(folder, name), value)

    def join(self, pid: int = 0) -> None:
        """Move a process into it, by default this one; what it starts from now on is born here."""
        for folder in self.folders:
            _write(os.path.join(folder, "cgroup.procs"), str(pid))

    def join_meanwhile(self) -> threading.Thread:
        """Move this process into it in a thread of its own; ``join`` that to be sure.

        The kernel may wait for all of its processors before it moves one (an RCU grace period: 15 ms on two cores), and
        there is other work to be done in the time.
        """
        thread = threading.Thread(target=self.join, name="group", daemon=True)
        thread.start()
        return thread

    def members(self) -> set[int]:
        """Return the living processes in it and below."""
        return {pid for folder in self._all() for pid in _members(folder) if start_time(pid) is not None}

    def kill(self) -> None:
        """Kill what is in it and below. At one stroke from Linux 5.14 on; else what forks may be left."""
        for folder in self.folders:
            if not _write(os.path.join(folder, "cgroup.kill"), "1"):
                for below in Group([folder])._all():
                    for pid in _members(below):
                        kill(pid)

    def remove(self) -> bool:
        """Remove it and what is below; return whether nothing is left. It stays while a process is in it."""
        for folder in self._all():
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        return not any(os.path.exists(folder) for folder in self.folders)

    def memory_kills(self) -> int | None:
        """Return how many processes in it the kernel has killed for want of memory; None if it does not tell."""
        counts = (self._count(name, "oom_kill") for name in ("memory.events", "memory.oom_control"))
        return next((count for count in counts if count is not None), None)

    def is_over_memory(self) -> bool:
        """Return whether it has ever come to its limit of memory, and not just the machine to its end."""
        if self._count("memory.events", "oom"):
            return True
        # Version 1 does not count how often. (Its ``failcnt`` stays 0 in newer kernels.)
        highest, limit = self._count("memory.max_usage_in_bytes", ""), self._count("memory.limit_in_bytes", "")
        return highest is not None and limit is not None and highest + HUGE_PAGE > limit

    def _all(self) -> Iterator[str]:
        """Yield the folders and those below, the deepest first."""
        for folder in self.folders:
            # Not by recursion (``os.walk``): who runs in it may make a thousand groups, each in the other.
            found, front = [], [folder]
            while front:
                path = front.pop()
                with contextlib.suppress(OSError), os.scandir(path) as entries:
                    found.append(path)
                    front += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            yield from reversed(found)

    def _count(self, name: str, key: str) -> int | None:
        for folder in self.folders:
            with contextlib.suppress(OSError, ValueError), open(os.path.join(folder, name)) as file:
                for line in file:
                    found, _, number = line.rpartition(" ")
                    if found == key:
                        return int(number)
        return None


def _members(folder: str) -> list[int]:
    with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs")) as file:
        return [int(line) for line in file]
    return []


def _write(path: str, text: str) -> bool:
    # Never created: in the file system of groups that fails, and in a folder of a test it would hide an error.
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
