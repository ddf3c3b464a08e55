"""The control groups of clusters: where this host lets us make them, and which limits the kernel keeps there.

They are made below the group that the gateway itself is in, so that whatever limits the gateway limits its clusters
too, and nobody else's groups are touched. What a group is, and what goes on below the one of a cluster, is said in
``keeper/groups.py``.

A host without groups, or one that does not let us make any, is no error: then Dask alone looks after memory, nobody
after cores, and processes are found by descent and mark. It is said once, at the start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tidegate.backends.local import machine
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.groups import SCHEDULER, Group, Limits, cores_limit, memory_limit, processes_limit

CONTROLLERS = ("memory", "cpu", "pids")
"""What limits are kept by, as the kernel names it."""

KEPT: dict[str, Limits] = {"memory": memory_limit(0), "cores": cores_limit(1), "processes": processes_limit(1)}
"""The limits by the names that people read."""

OWN = "tidegate-server"
"""The group of the gateway's own processes, where version 2 wants one: a group that shares out memory has none itself.
Also a name for the setting ``DelegateSubgroup=`` of systemd."""

MOVES = 10
"""How often the processes of the gateway are moved before we give up: those that were born meanwhile are moved next."""

DELEGATED = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks")
"""Files that belong to whom a group was given (cgroup-v2.rst, Delegation; ``tasks`` is of version 1)."""


class Groups:
    """Makes the groups of clusters.

    Parameters
    ----------
    enabled : bool
        If not, none are made.
    proc : Path
        Where the host says which groups there are.
    """

    def __init__(self, enabled: bool = True, proc: Path = machine.PROC) -> None:
        self._enabled = enabled
        self._proc = proc
        self._parents: list[str] = []
        self._prefix = ""
        self.kept: frozenset[str] = frozenset()

    def prepare(self, mark: str, present: Collection[str] = ()) -> None:
        """Find out where groups can be made, by making one. ``mark`` tells this gateway's from others'.

        What is left of clusters that have ended is removed; ``present`` are those that have not, by name.
        """
        self._prefix = f"tidegate-{mark}"
        parents = list(dict.fromkeys(self._find_parents())) if self._enabled else []
        self._parents = [parent for parent in parents if Group([f"{parent}/{self._prefix}"]).make().folders]
        probe = Group([f"{parent}/{self._prefix}" for parent in self._parents])
        self.kept = frozenset(name for name, limits in KEPT.items() if _has_file(probe, limits))
        probe.remove()
        self._remove_left({f"{self._prefix}-{cluster}" for cluster in present})

    def make(self, cluster: str, uid: int = -1, gid: int = -1, limits: Limits = ()) -> Group:
        """Make the group of a cluster, and below it the one of its scheduler with these limits, for a keeper of this
        user.
        """
        group = Group([f"{parent}/{self._prefix}-{cluster}" for parent in self._parents]).make()
        for folder in group.folders:
            _share_out(Path(folder))
        scheduler = group.below(SCHEDULER).make()
        scheduler.limit(limits)
        for folder in (*group.folders, *scheduler.folders):
            _give(folder, uid, gid)
        return group

    @staticmethod
    def adopt(group: Group, keeper: int) -> None:
        """Move a keeper that could not join its group itself: another user's, where there is version 2.

        What it forks from then on is born there. What it has forked before is moved after it, so that none is missed;
        but not workers that have groups of their own, so this can be repeated.
        """
        for folder in group.folders:
            whole = Group([folder])
            scheduler = whole.below(SCHEDULER)
            scheduler.join(keeper)
            children = processes.children(keeper)
            present = whole.members()
            for pid in children:
                if pid not in present:
                    scheduler.join(pid)

    def describe(self) -> str:
        """Return in a sentence what the kernel keeps, for whoever runs the gateway."""
        if not self._enabled:
            return "Limits: control groups are switched off; only Dask looks after the memory of workers."
        if not self.kept:
            return (
                "Limits: this host lets the gateway make no control groups; only Dask looks after the memory of "
                "workers, and nobody after their cores."
            )
        kept = ", ".join(name for name in KEPT if name in self.kept)
        missing = ", ".join(name for name in KEPT if name not in self.kept)
        return f"Limits: the kernel keeps each worker to its {kept}" + (f", but not its {missing}." if missing else ".")

    def _remove_left(self, present: Collection[str]) -> None:
        """Remove the groups of clusters that ended while there was no gateway to look."""
        for parent in self._parents:
            for folder in Path(parent).glob(f"{self._prefix}-*"):
                left = Group([str(folder)])
                # A keeper is in its own group for as long as it lives, but not at once: it has to import a lot first.
                if folder.name not in present and not left.members():
                    left.remove()

    def _find_parents(self) -> Iterator[str]:
        for own in machine.group_folders("cgroup2", "", self._proc):
            folder = own.parent if own.name == OWN else own
            if _is_ours(folder):
                _share_out(folder)
                yield str(folder)
        for controller in CONTROLLERS:
            yield from (str(f) for f in machine.group_folders("cgroup", controller, self._proc) if _is_ours(f))


def _is_ours(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _has_file(group: Group, limits: Limits) -> bool:
    return any(os.access(os.path.join(folder, name), os.W_OK) for folder in group.folders for name, _ in limits)


def _share_out(folder: Path, controllers: Collection[str] = CONTROLLERS) -> None:
    """Let groups below one of version 2 have limits of their own."""
    try:
        available = set((folder / "cgroup.controllers").read_text().split())
        control = folder / "cgroup.subtree_control"
        missing = available.intersection(controllers) - set(control.read_text().split())
    except OSError:
        return  # Of version 1.
    if not missing:
        return
    words = " ".join(f"+{controller}" for controller in sorted(missing))
    with contextlib.suppress(OSError):
        try:
            control.write_text(words)
        except OSError:
            if _make_room(folder):
                control.write_text(words)


def _make_room(folder: Path) -> bool:
    """Move the gateway's processes out of their group into one below it; not if it is shared with anybody else's."""
    own = Group([str(folder / OWN)])
    for _ in range(MOVES):
        present = _read_members(folder)
        if not present:
            return True
        supervisor = os.getppid()
        if not present <= {supervisor} | processes.descendants(supervisor):
            return False
        own.make()
        for pid in present:
            own.join(pid)
    return False


def _read_members(folder: Path) -> set[int]:
    return {int(line) for line in (folder / "cgroup.procs").read_text().split()}


def _give(folder: str, uid: int, gid: int) -> None:
    if uid in (-1, os.geteuid()):
        return
    os.chown(folder, uid, gid)
    for name in DELEGATED:
        with contextlib.suppress(FileNotFoundError):
            os.chown(os.path.join(folder, name), uid, gid)
