"""Clusters on the gateway's own machine: one keeper per cluster, and files that say what became of it.

How to think about it
---------------------
The keeper (``keeper/``) does the work and outlives us; this side only starts it, tells it what is wanted, and reads
what it wrote. Nothing is remembered here but where reading stopped, so any number of gateways, one after the other or
by mistake at once, see and do the same.

A look never depends on a keeper that answers: what happened stands in a file, and whether a keeper lives is a question
to the kernel. A keeper that does not obey is killed; then, and whenever there is none, we end what bears the
cluster's mark ourselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from tidegate.backends import commands
from tidegate.backends.base import Launch, Log
from tidegate.backends.local import environments, remains, sockets
from tidegate.backends.local.folder import LOG_BYTES, NAME, ClusterFolder, folders
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.journal import EXITED, SCHEDULER
from tidegate.backends.local.keeper.processes import raise_if_short
from tidegate.backends.local.keeper.scratch import ScratchUnsafe
from tidegate.backends.local.launcher import HOST, Launcher
from tidegate.backends.local.place import place_of
from tidegate.backends.local.settings import LocalSettings
from tidegate.backends.local.statuses import WORKER_NAME, Status, Unread
from tidegate.backends.local.talk import NoAnswer, Watches, request
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import BackendFailed, Invalid
from tidegate.model.observation import ProcessSeen, ProcessState, Seen
from tidegate.model.options import Option
from tidegate.model.policy import Capacity

ANSWER_TIMEOUT = 10.0
"""Seconds in which a keeper accepts a request. Its loop has little to do; a fork holds it up for milliseconds."""

STOP_TIMEOUT = 2.0
"""Seconds in which a keeper begins to stop; one that does not is killed."""

OBEY_TIMEOUT = 15.0
"""Seconds in which a keeper that was told to stop has ended: an honest one sweeps for 10 s at the most. Its user may
have replaced it by one that says yes and goes on."""

TAIL_LINES = 30
"""Lines of the log that go with a failure: a traceback of the usual depth."""

TAIL_BYTES = 16 * 1024
"""How much they come to at the most: they are kept in memory for as long as their cluster runs."""

TAILS_BYTES = 1024 * 1024
"""How much the tails of all failures of one cluster come to, as they cross a socket: they go with every look."""

BRIEF = 80
"""Characters that are left of the sentences about older ends, when the newer ones have used up that room."""

LOGS_BYTES = 4 * 1024 * 1024
"""How much of all logs of a cluster is read at once: it is held in memory, and a person reads it."""

EFFECT_THREADS = 16
"""How many launches, and how many ends, go on at a time: one that hangs holds its thread for 20 s. As many as control
makes passes at a time; they mostly wait."""

LOOK_THREADS = 4
"""How many looks go on at a time: they read files and ``/proc``, so more would not be faster."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class LocalBackend:
    """Runs clusters as processes of this machine, of the gateway's account or of their owners'.

    Parameters
    ----------
    data_dir : Path
        The gateway's data folder; clusters lie in ``clusters/`` below it, or beside it (``place.py``).
    clock : callable
        Returns the time in seconds since the epoch.
    settings : mapping or LocalSettings
        What the configuration says beside ``name: local``.
    """

    Settings = LocalSettings
    knows = frozenset({"worker_threads", "scheduler_cores", "scheduler_memory", "variables"})

    def __init__(
        self,
        data_dir: Path,
        clock: Callable[[], float] = time.time,
        settings: Mapping[str, Any] | LocalSettings | None = None,
    ) -> None:
        self._clock = clock
        self._settings = LocalSettings.model_validate(settings or {})
        self._root = place_of(data_dir, self._settings)
        self._launcher = Launcher(self._root, self._settings, data_dir)
        self._watches = Watches()
        self._folders: dict[str, ClusterFolder] = {}
        self._told: dict[str, float] = {}
        """When the keeper of a cluster was first told to stop, and said that it would."""
        # Of our own, and one for each kind: what hangs in a launch must not hold up a stop, a look or anyone else.
        self._launching = ThreadPoolExecutor(EFFECT_THREADS, "local-launch")
        self._ending = ThreadPoolExecutor(EFFECT_THREADS, "local-end")
        self._looking = ThreadPoolExecutor(LOOK_THREADS, "local-look")

    @property
    def privileged(self) -> bool:
        """Whether it must run as root: only root can start processes of others."""
        return self._settings.accounts == "owner"

    async def start(self) -> None:
        """Make the folder of all clusters, and listen to the keepers that are there."""
        await asyncio.to_thread(self._launcher.prepare)
        self._follow(folder.name for folder in folders(self._root))

    async def close(self) -> None:
        """Stop listening. Clusters go on; where there is none, nothing stays that was kept ready for the next."""
        await self._watches.close()
        self._launcher.close(for_good=not any(folder.keeper() for folder in folders(self._root)))
        for executor in (self._launching, self._ending, self._looking):
            executor.shutdown(wait=False, cancel_futures=True)

    # -- what may be asked ---------------------------------------------------------------------------------------------

    def notes(self) -> Sequence[str]:
        """Return which limits of workers the kernel keeps, and which nobody but Dask does."""
        return [self._launcher.groups.describe()]

    def options(self) -> Sequence[Option]:
        """Return cores, memory and the environment."""
        return environments.options(self._settings)

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Return ``spec`` with its environment resolved to the path of a Python that the cluster's account can run."""
        return await _run(self._launching, self._resolve, spec, owner, hints)

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Return how many such workers this machine can take."""
        return environments.capacity(self._settings, spec)

    # -- effects -------------------------------------------------------------------------------------------------------

    async def launch(self, launch: Launch) -> None:
        """Start the cluster's keeper, which forks the scheduler."""
        folder = self._folder(launch.cluster)
        before = folder.read_launch().get("attempt", launch.attempt)
        if before > launch.attempt:
            return
        if before < launch.attempt:
            await self.stop(launch.cluster)
            await _run(self._launching, remains.await_gone, folder)
            await _run(self._launching, folder.forget_attempt)
            self._told.pop(launch.cluster, None)
        try:
            await _run(self._launching, self._launcher.launch, folder, launch)
        except ScratchUnsafe as error:
            raise BackendFailed(
                f"cannot launch the cluster {launch.cluster}: its scratch folder would be open to others",
                detail=str(error),
                permanent=True,
            ) from error
        except OSError as error:
            raise BackendFailed(
                f"cannot launch the cluster {launch.cluster}: the gateway's machine refuses ({error.strerror})",
                detail=f"{type(error).__name__}: {error}",
            ) from error
        self._follow([launch.cluster])
        self._watches.tell(launch.cluster)

    async def start_workers(self, launch: Launch, scheduler: str, names: Sequence[str]) -> None:
        """Have the keeper start a nanny for each name that it does not know."""
        if not names:
            return
        unfit = next((name for name in names if not WORKER_NAME.fullmatch(name)), None)
        if unfit is not None:
            raise Invalid(f"cannot name a worker {unfit!r}: use the name of its group, a dash and a number")
        folder = self._folder(launch.cluster)
        shape = {
            "nthreads": commands.threads(launch.spec),
            "cores": launch.spec.worker_cores,
            "memory_limit": launch.spec.worker_memory,
            "host": HOST,
            "preload": str(folder.secrets / commands.WORKER_GUARD),
        }
        body = {"op": "start_workers", "names": list(names), "scheduler": scheduler, "shape": shape}
        try:
            await request(folder, body, ANSWER_TIMEOUT)
        except NoAnswer as error:
            raise BackendFailed(
                f"cannot start workers of the cluster {launch.cluster}: its scheduler's keeper does not answer",
                detail=str(error),
            ) from error

    async def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """Have the keeper close these workers."""
        folder = self._folder(cluster)
        if folder.keeper() is None:
            return
        try:
            await request(folder, {"op": "stop_workers", "names": list(names)}, ANSWER_TIMEOUT)
        except NoAnswer as error:
            if folder.keeper() is not None:
                raise BackendFailed(
                    f"cannot stop workers of the cluster {cluster}: its keeper does not answer", detail=str(error)
                ) from error

    async def stop(self, cluster: str) -> None:
        """Have the keeper end everything; without one, or with one that does not obey, do it ourselves."""
        folder = self._folder(cluster)
        if self._may_obey(cluster) and await _run(self._ending, folder.has_listening_keeper):
            try:
                await request(folder, {"op": "stop"}, STOP_TIMEOUT)
            except NoAnswer:
                pass
            else:
                self._told.setdefault(cluster, self._clock())
                return
        await _run(self._ending, remains.end, folder, self._launcher.mark)
        self._told.pop(cluster, None)
        self._watches.tell(cluster)

    async def forget(self, cluster: str) -> None:
        """Remove the cluster's folder."""
        folder = self._folder(cluster)
        if folder.keeper() is not None:
            raise BackendFailed(f"cannot forget the cluster {cluster}: it still runs")
        await _run(self._ending, remains.remove, folder)
        self._folders.pop(cluster, None)
        self._told.pop(cluster, None)

    # -- looks ---------------------------------------------------------------------------------------------------------

    async def observe(self, clusters: Collection[str]) -> Mapping[str, Seen]:
        """Read what the keepers wrote, and see which of them live."""
        at = self._clock()
        seen = await _run(self._looking, self._observe, at, [self._folder(name) for name in clusters])
        self._follow(name for name, look in seen.items() if look.remains)
        for name in clusters:
            if name not in seen and self._folder(name).is_unread:
                self._watches.tell(name)  # Each look reads on, so the next may come at once.
        return seen

    async def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Look who holds the sockets that listen there."""
        return await _run(self._looking, self._listens, self._folder(cluster), ports)

    async def list_clusters(self) -> set[str]:
        """Return the clusters whose secrets lie here, whose keeper lives, or whose mark a process bears."""
        return await _run(self._looking, self._list)

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return the last lines of each log; when they come to more than ``LOGS_BYTES``, of those written to last."""
        return await _run(self._looking, self._read_logs, self._folder(cluster), lines)

    def changes(self) -> AsyncIterator[str]:
        """Yield what the keepers tell, as they tell it."""
        return self._watches.changes()

    # -- how -----------------------------------------------------------------------------------------------------------

    def _folder(self, cluster: str) -> ClusterFolder:
        return self._folders.setdefault(cluster, ClusterFolder(self._root, cluster))

    def _follow(self, clusters: Collection[str] | Any) -> None:
        for name in clusters:
            folder = self._folder(name)
            if folder.keeper() is not None:
                self._watches.follow(folder)

    def _may_obey(self, cluster: str) -> bool:
        # A clock that was set back has it killed early, which is better than never.
        return cluster not in self._told or 0 <= self._clock() - self._told[cluster] < OBEY_TIMEOUT

    def _resolve(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        environments.check_scheduler(spec)
        with self._launcher.account(owner).acting():
            return environments.resolve(self._settings, spec, hints)

    @staticmethod
    def _listens(folder: ClusterFolder, ports: Collection[int]) -> bool:
        keeper = folder.keeper()
        if keeper is None:
            raise BackendFailed(f"cannot tell where the cluster {folder.name} listens: it does not run")
        with folder.account.acting():
            return sockets.are_held(HOST, ports, remains.below(folder, keeper))

    def _list(self) -> set[str]:
        present = {f.name for f in folders(self._root) if f.has_secrets or f.keeper() is not None}
        marked = processes.marked(self._launcher.mark)
        # Any process can change its own mark, into what is no name, or into that of another user's cluster.
        return present | {n for n in marked if NAME.fullmatch(n) and remains.members(self._folder(n), marked)}

    def _observe(self, at: float, clusters: Sequence[ClusterFolder]) -> dict[str, Seen]:
        seen: dict[str, Seen] = {}
        dead: list[ClusterFolder] = []
        for folder in clusters:
            with _apart(folder):
                # First whether it lives, then what it wrote: what it wrote last is then not missed.
                if folder.keeper() is None:
                    dead.append(folder)
                else:
                    seen[folder.name] = self._look(at, folder, alive=True, remains=True)
        marked = processes.marked(self._launcher.mark) if dead else {}
        for folder in dead:
            with _apart(folder):
                left = bool(remains.members(folder, marked)) or folder.has_secrets
                seen[folder.name] = self._look(at, folder, alive=False, remains=left)
                if not left:
                    remains.group_of(folder).remove()
                    folder.ends.clear()  # Nobody looks at it any more.
        return seen

    def _look(self, at: float, folder: ClusterFolder, *, alive: bool, remains: bool) -> Seen:
        statuses = folder.statuses()
        scheduler = statuses.pop(SCHEDULER, None)
        # What is held is what is told: no more than its room.
        before, folder.ends = folder.ends, {}
        if scheduler is None and alive:
            seen: ProcessSeen | None = ProcessSeen(ProcessState.RUNNING, host=HOST)
        elif scheduler is None and not folder.launched:
            seen = None
        else:
            seen = self._process(folder, scheduler or Status(SCHEDULER, "running"), before, alive=alive)
        room = TAILS_BYTES
        workers: dict[str, ProcessSeen] = {}
        for name, status in reversed(statuses.items()):  # Those that changed last first.
            if room <= 0:
                status = replace(status, why=status.why[:BRIEF], code=status.code[:BRIEF])
            workers[name] = self._process(folder, status, before, alive=alive, tails=room > 0)
            room -= len(json.dumps([status.why, status.code, workers[name].log_tail]))
        return Seen(at, seen, workers, remains)

    @staticmethod
    def _process(
        folder: ClusterFolder, status: Status, before: Mapping[Status, ProcessSeen], *, alive: bool, tails: bool = True
    ) -> ProcessSeen:
        if status.state != EXITED and alive:
            return ProcessSeen(ProcessState.RUNNING, why=status.why, code=status.code, host=HOST)
        # What is written down as ended stays as it is. A night of failures is thousands of logs: not to be read again
        # at each look.
        final = status.state == EXITED
        if not final:
            status = Status(status.process, EXITED, remains.KEEPER_KILLED, "killed")
        seen = before.get(status) if final and tails else None
        if seen is None:
            tail = "" if status.expected or not tails else folder.log_tail(status.process, TAIL_LINES, TAIL_BYTES)
            seen = ProcessSeen(ProcessState.EXITED, status.why, status.code, HOST, tail, status.expected)
        if final and tails:
            folder.ends[status] = seen
        return seen

    @staticmethod
    def _read_logs(folder: ClusterFolder, lines: int) -> list[Log]:
        texts: dict[str, str] = {}
        room = LOGS_BYTES
        for process in folder.logged(newest_first=True):
            if room <= 0:
                break
            texts[process] = folder.log_tail(process, lines, min(room, LOG_BYTES))
            room -= len(texts[process].encode()) + 1  # The last line's end was read too.
        return [Log(process, texts[process]) for process in folder.logged() if process in texts]


@contextmanager
def _apart(folder: ClusterFolder) -> Iterator[None]:
    """Let a look at one cluster fail without the others: it is left out, unknown but not dead."""
    try:
        yield
    except Unread as error:
        log.info("%s", error.message)
    except Exception as error:
        if isinstance(error, OSError):
            raise_if_short(error)  # Then nothing is known of anybody.
        # Whoever runs in it can write there what they like.
        log.exception("cannot look at the cluster %s: what lies in its folder or groups is odd", folder.name)


async def _run(executor: ThreadPoolExecutor, function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
