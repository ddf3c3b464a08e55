"""Whether it was for want of memory that a process ended: what the kernel counts.

It sends SIGKILL, like many others, and says no more than how often it has done so: for the whole machine, and for each
control group.
"""

from __future__ import annotations

import signal

from .groups import Group

OUT_OF_MEMORY = "out-of-memory"

MARGIN = 1.05
"""How much more than the limit of a worker its group may use. Dask's nanny acts at 95 % of the limit, as its users know
it; the kernel is there for what is quicker than the nanny's ten looks a second, and for what it does not look at."""


class OutOfMemory:
    """Tells whether the kernel killed a process because memory ran out: by its count of such kills since boot.

    The count is the whole machine's. So each kill explains one death, and only one of these seconds: ``look`` must be
    called at regular times, and a kill that was there at the look before the last one explains nothing any more.
    """

    def __init__(self, statistics: str = "/proc/vmstat") -> None:
        self._statistics = statistics
        self._last = self._explained = self._read()

    def look(self) -> None:
        """Let go of what happened before the last look: who died of it is known to have died."""
        self._explained = max(self._explained, self._last)
        self._last = self._read()

    def explain(self, status: int) -> tuple[str, str] | None:
        """Return code and sentence if that is how a process came to end with ``status``, else None."""
        if status != -signal.SIGKILL or self._read() <= self._explained:
            return None
        self._explained += 1
        return OUT_OF_MEMORY, "the kernel killed its process because memory ran out"

    def _read(self) -> int:
        try:
            with open(self._statistics) as file:
                return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)
        except OSError:
            return 0


class GroupMemory:
    """Tells what the kernel killed of a worker or the scheduler for want of memory: by the count of its control group.

    Parameters
    ----------
    group : Group
        Where it counts nothing, the machine's count has to do.
    limit : int
        Its limit in bytes.
    machine : OutOfMemory
    who : str
        How the sentence begins that tells that it came to more.
    """

    def __init__(
        self,
        group: Group,
        limit: int,
        machine: OutOfMemory,
        who: str = "with all that its tasks had started it came",
    ) -> None:
        self._group = group
        self._limit = limit
        self._machine = machine
        self._who = who
        self._last = self._told = 0

    def explain(self, status: int) -> tuple[str, str] | None:
        """Return code and sentence if that is how its process came to end with ``status``, else None."""
        kills = self._group.memory_kills()
        if kills is None:
            return self._machine.explain(status)
        if status != -signal.SIGKILL or kills <= self._told:
            return None
        self._told = kills
        return OUT_OF_MEMORY, f"the kernel killed its process: {self._why()}"

    def look(self) -> str:
        """Return a sentence if a process was killed that a task had started, else nothing.

        It is told a look later, for then the end of the worker's own process would have been explained.
        """
        before, self._last = self._last, self._group.memory_kills() or 0
        if before <= self._told:
            return ""
        self._told = before
        return f"the kernel killed a process that a task had started: {self._why()}"

    def _why(self) -> str:
        if self._group.is_over_memory():
            return f"{self._who} to more than its limit of {format_size(self._limit)}"
        return "memory ran out on the machine"


def format_size(size: int) -> str:
    """Return a size in words.

    >>> format_size(2 * 2**30), format_size(300 * 2**20)
    ('2 GiB', '300 MiB')
    """
    return f"{size / 2**30:.4g} GiB" if size >= 2**30 else f"{size / 2**20:.4g} MiB"
