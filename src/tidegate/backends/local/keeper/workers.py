"""One worker as its keeper sees it: a stock ``Nanny``, how its processes ended, and when enough is enough."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import dask
from distributed import Nanny, Worker
from distributed.core import Status
from distributed.security import Security

from . import configuration
from .blas import set_threads
from .groups import Group, cores_limit, memory_limit, processes_limit
from .journal import Journal
from .memory import MARGIN, OUT_OF_MEMORY, GroupMemory, OutOfMemory, format_size
from .preloads import load
from .processes import describe_end, kill
from .scratch import make_private

START_TIMEOUT = 60.0
"""Seconds in which a worker must have reached the scheduler. A fork takes 0.1 s; a preload of the user's may install
packages."""

RESTARTS = 8
"""How often within ``RESTART_WINDOW`` a nanny may replace its worker's process. More than the four deaths that one bad
task causes before Dask gives it up (``distributed.scheduler.allowed-failures``)."""

RESTART_WINDOW = 60.0
"""Seconds, see ``RESTARTS``."""

PROCESSES = 4096
"""How many processes and threads a worker may come to. Honest work has some hundreds; a task that forks without end
must not take the machine's last."""

CLOSE_GRACE = 2.0
"""Seconds in which a worker that is taken away may end by itself: time for its plugins' teardown."""


class KeptNanny(Nanny):
    """A stock nanny that tells how its worker's processes end."""

    def __init__(self, kept: KeptWorker, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.kept = kept
        self.is_killing = False

    async def kill(self, *arguments: Any, **named: Any) -> None:
        """End the worker's process, as it does for ``client.restart()``: by force after four seconds."""
        self.is_killing = True
        try:
            await super().kill(*arguments, **named)
        finally:
            self.is_killing = False

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.kept.process_ended(exitcode)
        super()._on_worker_exit_sync(exitcode)


class KeptWorker:
    """A worker from its start to its end, which is written to the journal.

    Parameters
    ----------
    name : str
    scheduler : str
        Address to connect to.
    shape : dict
        ``nthreads``, ``cores``, ``memory_limit`` (bytes), ``host`` to listen on, ``preload``.
    folder : str
        The cluster's folder: the log goes to ``logs/NAME.log``.
    scratch : str
        Where the worker's own folder is made, for spilling; removed when it has ended.
    group : Group
        Where the worker's processes, and what its tasks start, are kept within their limits.
    journal : Journal
    out_of_memory : OutOfMemory
        The keeper's, shared by all: each kill that the kernel counts explains one death.
    security : Security
        The keeper's, shared by all.
    """

    def __init__(
        self,
        name: str,
        scheduler: str,
        shape: dict[str, Any],
        *,
        folder: str,
        scratch: str,
        group: Group,
        journal: Journal,
        out_of_memory: OutOfMemory,
        security: Security,
    ) -> None:
        self.name = name
        self.expected = False
        self.ended = False
        self._scheduler = scheduler
        self._shape = shape
        self._scratch = os.path.join(scratch, name)
        self._log = os.path.join(folder, "logs", f"{name}.log")
        self._journal = journal
        self._security = security
        self._nanny: KeptNanny | None = None
        self._deaths: deque[float] = deque(maxlen=RESTARTS + 1)
        self._last_end: tuple[str, str] | None = None
        self._gave_up = ""
        self._over_memory = -1
        self._group = group
        self._memory = GroupMemory(group, shape["memory_limit"], out_of_memory)
        self._task: asyncio.Task[None] | None = None

    def start(self, on_gone: Callable[[str], object]) -> None:
        """Note that it runs, and begin. ``on_gone`` is called with its name when nothing is left of it."""
        self._journal.running(self.name)
        self._task = asyncio.get_running_loop().create_task(self._live())
        self._task.add_done_callback(lambda _: on_gone(self.name))

    async def close(self, grace: float = CLOSE_GRACE) -> None:
        """Take it away: in peace where it can within ``grace`` seconds, else by force."""
        self.expected = True
        nanny, task = self._nanny, self._task
        if nanny is not None and nanny.status == Status.running:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(nanny.close(timeout=grace, reason="asked-to-stop"), 2 * grace + 1)
        self.kill()
        if task is not None and not task.done():
            # A nanny that is starting, or one that does not come to an end, even with its process killed.
            with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(task, 1.0)

    def kill(self) -> None:
        """End the worker's process at once."""
        self.expected = True
        pid = self._nanny.pid if self._nanny is not None else None
        if pid:
            kill(pid)

    def process_ended(self, status: int) -> None:
        """Note how a process of this worker ended, of which its nanny may make a new one."""
        code, why = self._explain(status)
        # What its tasks have left behind would count against the next one.
        self._group.kill()
        self._last_end = code, why
        if status == 0 or self.expected or self._nanny is None or self._nanny.status != Status.running:
            return
        if self._nanny.is_killing:  # somebody asked for it
            return
        now = time.monotonic()
        self._deaths.append(now)
        recent = [t for t in self._deaths if now - t < RESTART_WINDOW]
        if len(recent) > RESTARTS:
            self._gave_up = f"{why}, for the {len(recent)}th time within {RESTART_WINDOW:g} s"
            self._nanny.close_gracefully(reason="too-many-restarts")
            return
        self._write_log(f"{why}; a new one is started")
        self._journal.running(self.name, code=code, why=f"it was restarted after {why}")

    def look_at_memory(self) -> None:
        """Tell when the kernel has killed what a task had started: the worker itself goes on."""
        why = self._memory.look()
        if why and not self.ended:
            self._write_log(why)
            self._journal.running(self.name, code=OUT_OF_MEMORY, why=why)

    async def _live(self) -> None:
        try:
            code, why = await self._run()
        except asyncio.CancelledError:
            code, why = "exited", "it was stopped while it started"
        except Exception as error:
            code, why = self._why_not_started(error)
        if self.expected:
            code, why = "exited", "it was asked to stop"
        self.ended = True
        self._write_log(why)
        self._journal.exited(self.name, code=code, why=why, expected=self.expected)
        await self._clean_up()

    async def _clean_up(self) -> None:
        if self._nanny is not None and self._nanny.status != Status.closed:
            # It was broken off while it started, and may have come to a process meanwhile.
            self.kill()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._nanny.close(timeout=CLOSE_GRACE), 2 * CLOSE_GRACE + 1)
        self._group.kill()
        # In a thread: what was spilled may be many gigabytes.
        remove = functools.partial(shutil.rmtree, self._scratch, ignore_errors=True)
        await asyncio.get_running_loop().run_in_executor(None, remove)
        self._group.remove()

    async def _run(self) -> tuple[str, str]:
        # The parent too: what cleans /tmp may have removed it while it was empty.
        make_private(os.path.dirname(self._scratch))
        make_private(self._scratch)
        self._make_group()
        nanny = self._nanny = self._make_nanny()
        await nanny
        await nanny.finished()
        code, why = self._last_end or ("exited", "its nanny ended")
        if self._gave_up:
            return code, self._gave_up
        if (code, why) == describe_end(0):
            why = "the scheduler closed it"
        return code, why

    def _make_group(self) -> None:
        group = self._group.make()
        group.limit(memory_limit(round(self._shape["memory_limit"] * MARGIN)))
        group.limit(cores_limit(self._shape["cores"]))
        group.limit(processes_limit(PROCESSES))

    def _make_nanny(self) -> KeptNanny:
        return KeptNanny(
            self,
            scheduler_ip=self._scheduler,
            name=self.name,
            nthreads=self._shape["nthreads"],
            memory_limit=self._shape["memory_limit"],
            host=self._shape["host"],
            dashboard_address=f"{self._shape['host']}:0",
            preload=[self._shape["preload"]],
            local_directory=self._scratch,
            security=self._security,
            death_timeout=START_TIMEOUT,
            config=configuration.of_workers(),
            worker_class=functools.partial(_start_worker, self._group, self._log),
        )

    def _explain(self, status: int) -> tuple[str, str]:
        """Return why a process ended: its status, and whether memory was behind it."""
        code, why = describe_end(status)
        terminated = getattr(self._nanny.memory_manager, "_last_terminated_pid", -1) if self._nanny else -1
        if status < 0 and terminated != self._over_memory:
            self._over_memory = terminated
            fraction = dask.config.get("distributed.worker.memory.terminate")
            limit = format_size(self._shape["memory_limit"])
            return OUT_OF_MEMORY, f"its process came to more than {fraction:.0%} of its limit of {limit}"
        return self._memory.explain(status) or (code, why)

    def _why_not_started(self, error: BaseException) -> tuple[str, str]:
        if self._last_end is not None and self._last_end[0] != "exited":
            return self._last_end
        # The nanny wraps what went wrong in "Nanny failed to start": the innermost cause is what helps.
        while error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
            return "cannot-start", f"it did not reach the scheduler within {START_TIMEOUT:g} s"
        if self._last_end is not None and self._last_end != describe_end(0):
            return "cannot-start", self._last_end[1]
        return "cannot-start", f"{type(error).__name__}: {error}"

    def _write_log(self, sentence: str) -> None:
        # The nanny's own words go to the keeper's log, with those of all others.
        with contextlib.suppress(OSError), os.fdopen(_open_log(self._log), "a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} - tidegate - worker {self.name}: {sentence}\n")


def _start_worker(group: Group, log: str, **arguments: Any) -> Worker:
    """Run in the worker's process, as its nanny's ``worker_class``: it has its own limits and its own log."""
    joining = group.join_meanwhile()
    configuration.be_workers()
    write_to(log)
    set_threads(arguments["nthreads"])
    arguments["preload"] = [load(path) for path in arguments["preload"]]
    worker = Worker(**arguments)
    joining.join()  # Its limits hold before the first task comes.
    return worker


def write_to(log: str) -> None:
    """Send this process's output, and all logging that goes there, to the file ``log``."""
    fd = _open_log(log)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def _open_log(log: str) -> int:
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
