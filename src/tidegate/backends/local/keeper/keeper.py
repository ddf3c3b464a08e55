"""The keeper once the scheduler is forked: a loop that runs nannies and obeys requests, and then ends everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import threading
import traceback
from typing import Any

from distributed.versions import get_versions

from . import configuration
from .channel import Channel
from .children import fork_on_main_thread
from .groups import SCHEDULER as SCHEDULER_GROUP
from .groups import Group
from .journal import SCHEDULER, Journal
from .logs import INTERVAL, EndedLogs, cap_logs
from .memory import GroupMemory, OutOfMemory
from .processes import descendants, describe_end, marked, sweep, zombie_children
from .security import SharedSecurity
from .workers import KeptWorker

STOP_GRACE = 0.12
"""Seconds that workers get to tear down their plugins when the whole cluster stops. Their results are lost anyway, and
a person waits: ten workers on two cores seldom manage in 0.15 s, and few of those who wait have plugins."""

SWEEP_TIMEOUT = 10.0
"""Seconds in which everything must have died of SIGKILL; longer only takes what hangs in the kernel."""

REAP_DELAY = 2.0
"""Seconds for which an ended child must stay unclaimed to count as an orphan that nobody else here waits for."""


def run(settings: dict[str, Any], listener: socket.socket, journal: Journal, scheduler: int) -> None:
    """Keep the cluster until it is stopped or its scheduler ends. Does not return."""
    configuration.be_nannies()
    keeper = Keeper(settings, listener, journal, scheduler)
    try:
        asyncio.run(keeper.live())
    except BaseException as error:
        traceback.print_exc()
        keeper.finish(f"its keeper failed ({type(error).__name__}: {error})")


class Keeper:
    """The processes of one cluster on this machine."""

    def __init__(self, settings: dict[str, Any], listener: socket.socket, journal: Journal, scheduler: int) -> None:
        self._settings = settings
        self._journal = journal
        self._scheduler = scheduler
        self._group = Group(settings["groups"])
        self._out_of_memory = OutOfMemory()
        self._security = SharedSecurity()
        limit = settings["scheduler_memory"]
        self._scheduler_memory = GroupMemory(self._group.below(SCHEDULER_GROUP), limit, self._out_of_memory, "it came")
        self._channel = Channel(listener, {os.getuid(), *settings["users"]}, self._handle)
        self._workers: dict[str, KeptWorker] = {}
        self._names: set[str] = set()
        self._ended_logs = EndedLogs(os.path.join(settings["folder"], "logs"))
        self._closing: set[asyncio.Task[None]] = set()
        self._unclaimed: set[int] = set()
        self._reaping = False
        self._why_end = ""
        self._asked = False

    async def live(self) -> None:
        """Run until the end has a reason, then end."""
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        self._journal.on_change = self._channel.changed
        fork_on_main_thread(lambda fork: self._loop.call_soon_threadsafe(fork))
        self._loop.add_signal_handler(signal.SIGTERM, self._end, "its keeper was told to end (SIGTERM)")
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap_later)
        threading.Thread(target=self._wait_for_scheduler, name="scheduler", daemon=True).start()
        self._look_after()
        self._server = await self._channel.serve()
        await self._ending.wait()
        if self._asked and self._workers:
            closing = [asyncio.ensure_future(worker.close(STOP_GRACE)) for worker in self._workers.values()]
            await asyncio.wait(closing, timeout=STOP_GRACE)
        # The loop ends here, with this coroutine: nothing may start any more.
        self.finish()

    # -- requests ------------------------------------------------------------------------------------------------------

    def _handle(self, request: dict[str, Any]) -> None:
        op = request["op"]
        if op == "start_workers":
            self._start_workers(request["names"], request["scheduler"], request["shape"])
        elif op == "stop_workers":
            self._stop_workers(request["names"])
        elif op == "stop":
            self._asked = True
            self._end("the cluster was stopped")
        else:
            raise ValueError(f"there is no op {op!r}")

    def _start_workers(self, names: list[str], scheduler: str, shape: dict[str, Any]) -> None:
        if self._ending.is_set():
            return
        # What is forked remembers them, where each worker would search the disk. A zygote has found them before.
        get_versions()
        for name in names:
            # A name is never used again, so what has ended stays ended.
            if name not in self._names:
                self._names.add(name)
                self._workers[name] = KeptWorker(
                    name,
                    scheduler,
                    shape,
                    folder=self._settings["folder"],
                    scratch=self._settings["scratch"],
                    group=self._group.below(name),
                    journal=self._journal,
                    out_of_memory=self._out_of_memory,
                    security=self._security,
                )
                self._workers[name].start(self._forget_worker)

    def _forget_worker(self, name: str) -> None:
        # Its nanny holds 90 kB, and there may be thousands in the life of a cluster.
        if self._workers[name].ended:
            del self._workers[name]
            self._ended_logs.add(name)

    def _stop_workers(self, names: list[str]) -> None:
        for name in names:
            worker = self._workers.get(name)
            if worker is not None and not worker.ended:
                task = self._loop.create_task(worker.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    def _look_after(self) -> None:
        self._out_of_memory.look()
        for worker in self._workers.values():
            worker.look_at_memory()
        # In the loop, not in a thread: other threads must not be in the middle of anything when a worker is forked.
        cap_logs(os.path.join(self._settings["folder"], "logs"))
        self._loop.call_later(INTERVAL, self._look_after)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _wait_for_scheduler(self) -> None:
        _, status = os.waitpid(self._scheduler, 0)
        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            self._loop.call_soon_threadsafe(self._scheduler_ended, os.waitstatus_to_exitcode(status))

    def _scheduler_ended(self, status: int) -> None:
        if self._ending.is_set():
            return
        code, why = self._scheduler_memory.explain(status) or describe_end(status)
        self._journal.exited(SCHEDULER, code=code, why=why)
        self._end("the scheduler ended")

    def _end(self, why: str) -> None:
        self._why_end = self._why_end or why
        self._ending.set()

    def finish(self, why: str = "") -> None:
        """Kill all that is left, write down how it ended, remove what must not stay, and go."""
        self._why_end = self._why_end or why
        sweep(self._find_all, SWEEP_TIMEOUT)
        for name, worker in self._workers.items():
            if not worker.ended:
                self._journal.exited(name, code="exited", why=self._why_end, expected=self._asked)
        if self._why_end != "the scheduler ended":
            self._journal.exited(SCHEDULER, code="exited", why=self._why_end, expected=self._asked)
        shutil.rmtree(self._settings["scratch"], ignore_errors=True)
        if self._asked:
            shutil.rmtree(os.path.join(self._settings["folder"], "secrets"), ignore_errors=True)
        # No further: threads of nannies still wait for processes that are gone.
        os._exit(0)

    def _find_all(self) -> set[int]:
        own = os.getpid()
        found = descendants(own) | marked(self._settings["mark"]).get(self._settings["cluster"], set())
        return (found | self._group.members()) - {own}

    # -- orphans -------------------------------------------------------------------------------------------------------

    def _reap_later(self) -> None:
        if not self._reaping:
            self._reaping = True
            self._loop.call_later(REAP_DELAY, self._reap)

    def _reap(self) -> None:
        """Wait for children that we did not start: orphans whose parents have ended.

        Those of the nannies are claimed within milliseconds by threads that wait for just them; taking their status
        away would hide how a worker ended. So only what nobody has claimed between two looks is taken.
        """
        self._reaping = False
        zombies = zombie_children(os.getpid())
        for pid in zombies & self._unclaimed:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._unclaimed = zombies - self._unclaimed
        if self._unclaimed:
            self._reap_later()
