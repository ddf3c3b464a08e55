"""The processes of one side: which they are, what they hold, what they use, and how to end them.

Both gateways start processes that outlive them, so descent does not tell what belongs to a side. Its folder does: each
process has it in its arguments, its environment, its working folder, or among its open files (a log, at least). The
same holds for a cluster, whose name stands in all of those places.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")


def bearing(*words: str) -> set[int]:
    """Return the living processes that bear any of these words, but for this one and its parent."""
    sought = [word.encode() for word in words]
    spared = {os.getpid(), os.getppid()}
    return {pid for pid in living() - spared if any(word in text for text in _traces(pid) for word in sought)}


def living() -> set[int]:
    """Return every process of the machine that has not ended; one that waits for its parent to take note has."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX":
                    found.add(int(name))
    return found


def wait_for_end(pids: Collection[int], seconds: float) -> None:
    """Return when all of these have ended; the kernel tells, so that waiting disturbs nobody.

    Raises
    ------
    TimeoutError
    """
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        for pid in pids:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, descriptor)
            if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"process {pid} has not ended within {seconds:g} s")


def sweep(word: str) -> None:
    """Kill everything that bears ``word``, until nothing does."""
    for _ in range(20):
        left = bearing(word)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            wait_for_end(left, 5)
    raise RuntimeError(f"processes cannot be ended: {sorted(bearing(word))}")


def memory(pids: Collection[int]) -> int:
    """Return their proportional set size in bytes: shared pages are divided by those who share them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def cpu_seconds(pids: Collection[int]) -> dict[int, float]:
    """Return what each has used so far, user and system: to the nanosecond where the kernel tells, else in ticks."""
    return {pid: used for pid in pids if (used := _cpu_of(pid)) is not None}


def cpu_between(before: dict[int, float], after: dict[int, float]) -> float:
    """Return the seconds used between two looks; who came in between counts whole, who went does not."""
    return sum(used - before.get(pid, 0.0) for pid, used in after.items())


def command(pid: int) -> str:
    """Return a process's arguments."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _cpu_of(pid: int) -> float | None:
    try:
        threads = [Path(f"/proc/{pid}/task/{task}/schedstat") for task in os.listdir(f"/proc/{pid}/task")]
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    except FileNotFoundError:
        pass  # the process or a thread ended, or this kernel does not count so finely
    except OSError:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * TICK


def _traces(pid: int) -> Iterator[bytes]:
    """Yield where a mark may stand, the cheap places first."""
    base = f"/proc/{pid}"
    for name in ("cmdline", "environ"):
        with contextlib.suppress(OSError):
            yield Path(base, name).read_bytes()
    with contextlib.suppress(OSError):
        yield os.readlink(f"{base}/cwd").encode()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"{base}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"{base}/fd/{descriptor}").encode()
