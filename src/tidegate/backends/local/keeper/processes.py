"""Which processes belong to a cluster, and how to end them all: what ``/proc`` tells.

Three ways lead to a process of a cluster, for each has a hole. *Descent* loses those whose keeper was killed. The
*mark* in the environment that it was started with loses those that were started with another. The *control group*
(``groups.py``) loses nothing, but not every host lets us make one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator

MARK = "TIDEGATE_MARK"
"""Environment variable that says to which gateway's data folder a process belongs."""

CLUSTER = "TIDEGATE_CLUSTER"
"""Environment variable that says to which cluster a process belongs."""


SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What the kernel says when descriptors or memory have run out."""


def raise_if_short(error: OSError) -> None:
    """Raise ``error`` if it tells of what *we* have run out of: then nothing is known of what was to be looked at.

    Whoever took it for "there is none" would call a living process dead.
    """
    if error.errno in SHORT:
        raise error


def start_time(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot, or None if it has ended (a zombie has)."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def identity(pid: int) -> dict[str, object] | None:
    """Return what tells this process from every other, before and after a reboot; None if it has ended."""
    started = start_time(pid)
    if started is None:
        return None
    with open("/proc/sys/kernel/random/boot_id") as file:
        return {"pid": pid, "started": started, "boot": file.read().strip()}


def marked(mark: str) -> dict[str, set[int]]:
    """Return the living processes that bear ``mark``, by the name of their cluster, in one look at ``/proc``."""
    found: dict[str, set[int]] = {}
    sign = f"{MARK}={mark}".encode()
    name = f"{CLUSTER}=".encode()
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = file.read()
        except OSError as error:
            raise_if_short(error)
            continue
        if sign not in environment:
            continue
        variables = environment.split(b"\0")
        if sign in variables and start_time(pid) is not None:
            cluster = next((v[len(name) :].decode(errors="replace") for v in variables if v.startswith(name)), "")
            found.setdefault(cluster, set()).add(pid)
    return found


def descendants(root: int) -> set[int]:
    """Return the living processes below ``root``."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        stat = _stat(pid, zombies=True)
        if stat:
            children.setdefault(int(stat[1]), []).append(pid)
    found: set[int] = set()
    front = [root]
    while front:
        below = children.get(front.pop(), [])
        found.update(below)
        front += below
    return {pid for pid in found if start_time(pid) is not None}


def children(parent: int) -> list[int]:
    """Return what the first thread of ``parent`` forked or adopted, oldest first, without a look at all processes.

    None on a kernel that was built without this list (CONFIG_PROC_CHILDREN).
    """
    try:
        with open(f"/proc/{parent}/task/{parent}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def zombie_children(parent: int) -> set[int]:
    """Return the children of ``parent`` that have ended and were not waited for."""
    zombies = set()
    for pid in _pids():
        stat = _stat(pid, zombies=True)
        if stat and stat[0] == b"Z" and int(stat[1]) == parent:
            zombies.add(pid)
    return zombies


def kill(pid: int) -> None:
    """Send SIGKILL; a process that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def sweep(find: Callable[[], set[int]], timeout: float) -> bool:
    """Kill what ``find`` finds until it finds nothing; return whether that came to be within ``timeout`` seconds.

    Again and again, because what is killed may just have forked.
    """
    deadline = time.monotonic() + timeout
    while True:
        pids = find()
        if not pids:
            return True
        for pid in pids:
            kill(pid)
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)


def describe_end(status: int) -> tuple[str, str]:
    """Return the code of a reason and a sentence for an exit status (negative: the signal), as in ``subprocess``.

    >>> describe_end(-9)
    ('killed', 'signal 9 (SIGKILL) ended its process')
    """
    if status >= 0:
        return "exited", f"its process ended with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = "unknown"
    return "killed", f"signal {-status} ({name}) ended its process"


# -- /proc -------------------------------------------------------------------------------------------------------------


def _pids() -> Iterator[int]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            yield int(entry)


def _stat(pid: int, *, zombies: bool = False) -> list[bytes] | None:
    """Return the fields of ``/proc/PID/stat`` from the state (number 3 in proc(5)) on."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may itself contain parentheses and blanks.
            fields = file.read().rpartition(b")")[2].split()
    except OSError as error:
        raise_if_short(error)
        return None
    if not fields:
        return None
    # A process whose first thread has ended is shown as a zombie while others still hold what it had open.
    ended = fields[0] in b"ZX" and int(fields[17]) <= 1
    return fields if zombies or not ended else None
