"""What is left of a cluster whose keeper is dead, or does not obey: finding it, ending it, and writing that down.

What a process says of itself is believed as far as it harms nobody else. It belongs to a cluster when it bears its mark
*and* runs as the cluster's account, so nobody can put a process into the cluster of another. And nothing is killed that
the account could not kill itself: a number may have gone to another process between the look and the signal, so the
signal goes to what was looked at (pidfd_open(2)).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from tidegate.backends.local.accounts import user_of
from tidegate.backends.local.folder import ClusterFolder
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.groups import Group
from tidegate.backends.local.keeper.journal import EXITED, Journal
from tidegate.backends.local.statuses import Status, Unread

SWEEP_TIMEOUT = 10.0
"""Seconds in which what is killed is gone."""

KEEPER_KILLED = "its keeper was killed, and it with it"


def group_of(folder: ClusterFolder) -> Group:
    """Return the control group that was made for a cluster; it may have no folders."""
    # Everything in it will be killed. So it is not enough that we noted it: it has to bear the cluster's name.
    noted = folder.read_launch().get("groups", ())
    return Group([path for path in noted if os.path.basename(path).endswith(f"-{folder.name}")])


def members(folder: ClusterFolder, marked: dict[str, set[int]]) -> set[int]:
    """Return the living processes of a cluster: of those that bear a mark (``processes.marked``), or in its group."""
    return _of_account(folder, marked.get(folder.name, set()) | group_of(folder).members())


def below(folder: ClusterFolder, keeper: int) -> Iterator[int]:
    """Yield the processes below a keeper: first scheduler and workers, without a look at the whole machine."""
    uid = folder.account.uid
    yield from (pid for pid in processes.children(keeper) if user_of(pid) == uid)
    yield from _of_account(folder, processes.descendants(keeper))


def end(folder: ClusterFolder, mark: str) -> None:
    """End what is left, of which a keeper that lives; remove secrets and write down how it ended."""
    keeper = folder.keeper()
    group = group_of(folder)
    group.kill()
    if keeper is not None:
        _sweep(folder, lambda: processes.descendants(keeper) | {keeper} if folder.keeper() else set())
    _sweep(folder, lambda: processes.marked(mark).get(folder.name, set()) | group.members())
    group.remove()
    folder.remove_secrets()
    if folder.path.exists():
        with folder.account.acting():
            _write_ends(folder, asked=keeper is not None)


def remove(folder: ClusterFolder) -> None:
    """Remove the traces of a cluster that has ended."""
    group_of(folder).remove()
    folder.remove()


def await_gone(folder: ClusterFolder) -> None:
    """Wait until the keeper is gone that was told to end."""
    deadline = time.monotonic() + SWEEP_TIMEOUT
    while folder.keeper() is not None and time.monotonic() < deadline:
        time.sleep(0.01)


def _sweep(folder: ClusterFolder, find: Callable[[], set[int]]) -> None:
    """Kill what ``find`` finds until it finds nothing. Again and again, because what is killed may just have forked."""
    deadline = time.monotonic() + SWEEP_TIMEOUT
    while (pids := _of_account(folder, find())) and time.monotonic() < deadline:
        for pid in pids:
            _kill(pid, folder.account.uid)
        time.sleep(0.002)


def _kill(pid: int, uid: int) -> None:
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if user_of(pid) == uid:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)


def _of_account(folder: ClusterFolder, pids: set[int]) -> set[int]:
    uid = folder.account.uid
    return {pid for pid in pids if user_of(pid) == uid}


def _write_ends(folder: ClusterFolder, *, asked: bool) -> None:
    """Write down the end of what no keeper wrote down: it was killed with its keeper, by us or before."""
    journal = Journal(str(folder.status_file))
    for status in _read_to_end(folder).values():
        if status.state != EXITED and asked:
            journal.exited(status.process, code="exited", why="the cluster was stopped", expected=True)
        elif status.state != EXITED:
            journal.exited(status.process, code="killed", why=KEEPER_KILLED)


def _read_to_end(folder: ClusterFolder) -> dict[str, Status]:
    """Return the last status of each process; who could write more is dead, and there is a largest journal."""
    while True:
        with suppress(Unread):
            return folder.statuses()
