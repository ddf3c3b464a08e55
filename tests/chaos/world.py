"""One gateway with everything that it starts, seen from outside: its processes, its API, its files.

A program of its own can ``adopt``: then all of it runs below this process, which is the parent of what is orphaned (as
init is on a machine), so that no process can get out of sight: not a detached one, not one whose parent was killed, not
one that changed its name or environment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from tests.e2e.gateways import GatewayProcess
from tests.support import ANY_TLS, eventually_sync
from tidegate import Gateway
from tidegate.client.auth import TokenAuth

PR_SET_CHILD_SUBREAPER = 36

API_SECONDS = 30.0
"""In which the API must answer again after a death: a restart takes one or two, on two cores that others use too."""


class World:
    """A gateway in a folder of its own.

    Parameters
    ----------
    folder : Path
        Where its home, its data and its logs lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gateway = GatewayProcess(folder)
        self.data = self.gateway.data
        self.said: list[str] = []
        """What earlier supervisors printed."""
        self.waited_for: set[int] = set()
        """Children of this process that are no part of the gateway, and that somebody waits for."""
        self._stop_adopting: Callable[[], None] | None = None

    def adopt(self) -> World:
        """Make this process the parent of what is orphaned: for a program that does nothing else."""
        self._stop_adopting = adopt_orphans(self)
        return self

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, and hold on to its address: a later start must be found at the same one."""
        self.gateway.start()
        arguments = self.gateway.arguments
        arguments[arguments.index("--address") + 1] = urlsplit(self.gateway.url).netloc
        self.token = self.gateway.token
        self.headers = self.gateway.headers

    def restart(self) -> None:
        """Do what an operator does whose supervisor was killed: start it again."""
        self.gateway.wait()
        self.said.append(self.gateway.text)
        self.gateway.start()

    def stop(self) -> None:
        """Stop the gateway as a person does, and see that no process is left: neither marked nor anywhere below us."""
        self.gateway.stop()
        eventually_sync(lambda: not self.processes(), 30, f"nothing is left: {self.describe()}")

    def kill_everything(self) -> None:
        """End whatever is left when a round has failed."""
        while left := self.processes():
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        if self._stop_adopting is not None:
            self._stop_adopting()

    def user(self) -> Gateway:
        """Return a client of this gateway, logged in."""
        return Gateway(self.gateway.url, auth=TokenAuth(self.token))

    # -- processes -----------------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Return everything alive that the gateway has started, directly or not."""
        if self._stop_adopting is None:
            return list(_alive(_process_of(self.gateway.processes())))
        return [p for p in _alive(psutil.Process().children(recursive=True)) if p.pid not in self.waited_for]

    def describe(self) -> str:
        """Return those in words."""
        return "; ".join(f"{p.pid} {' '.join(command_of(p))}" for p in self.processes()) or "no process"

    def is_waited_for(self, pid: int) -> bool:
        """Whether somebody waits for it in Python: its end must not be taken away behind their back."""
        process = self.gateway.process
        return pid in self.waited_for or (process is not None and process.pid == pid)

    # -- the API -------------------------------------------------------------------------------------------------------

    def ask(self, path: str, **params: Any) -> Any:
        """Return what the API says; wait for it while it is being restarted, but not for ever."""
        deadline = time.monotonic() + API_SECONDS
        while True:
            why = ""
            try:
                answer = httpx.get(
                    f"{self.gateway.url}{path}", headers=self.headers, params=params, timeout=10, verify=ANY_TLS
                )
                if answer.status_code == 200:
                    return answer.json()
                why = f"{answer.status_code} {answer.text}"
            except httpx.HTTPError as error:
                why = repr(error)
            assert time.monotonic() < deadline, f"the API does not answer {path} within {API_SECONDS:g} s: {why}"
            threading.Event().wait(0.05)

    def clusters(self) -> dict[str, dict[str, Any]]:
        """Return all clusters on record, by name."""
        found: dict[str, dict[str, Any]] = {}
        cursor = None
        while True:
            page = self.ask("/api/v2/clusters", limit=500, **({"cursor": cursor} if cursor else {}))
            found |= {c["name"]: c for c in page["clusters"]}
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def cluster(self, name: str) -> dict[str, Any]:
        """Return one cluster, with its reason whole."""
        return dict(self.ask(f"/api/v2/clusters/{name}"))

    # -- files ---------------------------------------------------------------------------------------------------------

    def folder_of(self, cluster: str) -> Path:
        """Return where a cluster's files are."""
        return self.data / "clusters" / cluster


def adopt_orphans(world: World) -> Callable[[], None]:
    """Make this process the parent of what is orphaned below it, and wait for those that end. Return what stops that.

    Only for those that Python does not wait for itself: its child watchers would miss them.
    """
    become_subreaper()
    over = threading.Event()

    def reap() -> None:
        while not over.wait(0.05):
            for pid in _zombies():
                if not world.is_waited_for(pid):
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)

    thread = threading.Thread(target=reap, name="reap", daemon=True)
    thread.start()
    return over.set


def become_subreaper() -> None:
    """Make this process the parent of what is orphaned below it."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("cannot adopt orphans")


def command_of(process: psutil.Process) -> list[str]:
    """Return its command line; nothing if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def kill(pid: int) -> None:
    """Send SIGKILL; gone already is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _process_of(pids: Iterable[int]) -> Iterator[psutil.Process]:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _alive(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _zombies() -> list[int]:
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
