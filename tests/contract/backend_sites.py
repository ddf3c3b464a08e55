"""The places in which the contract of backends is tested: this machine with real processes, and a simulation.

A site gives backends that look at the same engine, launches with all the files that the gateway would hand over, and
ways to do harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from distributed import Client, Security

from tests.compat.gateway_double import TOKEN, GatewayDouble
from tests.support import eventually
from tidegate.backends.base import Backend, Launch
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.place import place_of
from tidegate.backends.local.settings import LocalSettings
from tidegate.backends.remote import BackendServer, RemoteBackend
from tidegate.backends.simulated import SimulatedBackend
from tidegate.backends.simulation import ManualClock, Script, Simulation
from tidegate.control.credentials import LaunchFiles, mint
from tidegate.model.cluster import Cluster, ClusterSpec
from tidegate.model.observation import ProcessState, Seen
from tidegate.server.unix import listen
from tidegate.store.base import Credentials

SECRET_OF_THE_SERVER = "a-secret-of-the-server"


class Site(Protocol):
    """An engine with one cluster's name, and what a test may do to it."""

    backend: Backend
    launch: Launch

    async def open(self) -> Backend:
        """Return another backend that looks at the same engine, started; it is closed with the site."""

    async def address(self) -> str:
        """Return the scheduler's address, as soon as it has reported."""

    async def ports(self) -> list[int]:
        """Return where the scheduler and its dashboard listen, as soon as it has reported."""

    def foreign_port(self) -> int:
        """Return a port of the scheduler's host on which something else listens."""

    def clock(self) -> float:
        """Return the time that the backends go by."""

    def kill_scheduler(self) -> None:
        """End the scheduler as nobody wanted."""

    def forbid_start(self) -> None:
        """Make the site's launch one that cannot start."""

    async def close(self) -> None:
        """End everything."""


async def see(site: Site, backend: Backend | None = None) -> Seen:
    """Look at the site's cluster."""
    return (await (backend or site.backend).observe([site.launch.cluster]))[site.launch.cluster]


async def until(site: Site, predicate: Callable[[Seen], object], timeout: float = 30.0) -> Seen:
    """Look until what is seen satisfies ``predicate``, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        seen = await see(site)
        if predicate(seen):
            return seen
        assert time.monotonic() < deadline, f"it did not come to be within {timeout:g} s: {seen}"
        await asyncio.sleep(0.02)


def state_of(seen: Seen, process: str = "scheduler") -> ProcessState | None:
    """Return the state of a process; None if there is no trace of it."""
    found = seen.scheduler if process == "scheduler" else seen.workers.get(process)
    return found.state if found else None


class SimulatedSite:
    """A simulation."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.simulation = Simulation(self.clock, Script())
        self.launch = Launch(secrets.token_hex(8), "alice", 1, ClusterSpec())
        self._open: list[SimulatedBackend] = []

    async def start(self) -> SimulatedSite:
        """Open the first backend."""
        self.backend = await self.open()
        return self

    async def open(self) -> SimulatedBackend:
        backend = SimulatedBackend(None, self.clock, simulation=self.simulation)
        await backend.start()
        self._open.append(backend)
        return backend

    async def address(self) -> str:
        return "tls://127.0.0.1:40000"

    async def ports(self) -> list[int]:
        return [40000, 40001]

    def foreign_port(self) -> int:
        self.simulation.script.foreign_ports = frozenset({22})
        return 22

    def kill_scheduler(self) -> None:
        self.simulation.kill(self.launch.cluster)

    def forbid_start(self) -> None:
        self.simulation.script.scheduler_error = "there is no distributed"

    async def close(self) -> None:
        for backend in self._open:
            await backend.close()


@dataclass
class LocalSite:
    """Real processes below a folder, with the real agent, which reports to a gateway's double."""

    folder: Path
    spec: ClusterSpec = field(default_factory=lambda: ClusterSpec(worker_memory=2**30))
    python: str = sys.executable
    settings: dict[str, Any] | None = None
    owner: str = "alice"
    zygote: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    data: Path | None = None
    """A data folder that other sites use as well, one after the other, with the zygote that is warm in it."""

    async def start(self) -> LocalSite:
        """Open the first backend, and make everything ready to launch."""
        self._open: list[LocalBackend] = []
        self._foreign: list[socket.socket] = []
        self.double = GatewayDouble()
        await self.double.start()
        await self.double.want({"default": (1000, None, None)})  # The agent must not retire what tests start.
        # A keeper starts in an interpreter, or is forked; never the one or the other as it happens.
        self.settings = {"zygotes": int(self.zygote)} | (self.settings or {})
        self.backend = await self.open()
        if self.zygote:
            await eventually(lambda: self.zygotes(), 60)
        name = secrets.token_hex(8)
        spec = replace(self.spec, environment=self.python)
        cluster = Cluster(name, self.owner, "local", spec, time.time())
        minted = await asyncio.to_thread(mint, name, time.time())
        self.credentials: Credentials = replace(minted, variables=self.variables)
        files = dict(LaunchFiles("http://gateway.test").build(cluster, self.credentials))
        agent = json.loads(files["agent.json"]) | {"url": self.double.url, "token": TOKEN}
        files["agent.json"] = json.dumps(agent).encode()
        self.launch = Launch(name, self.owner, 1, spec, files)
        return self

    async def open(self) -> LocalBackend | RemoteBackend:
        backend = LocalBackend(self._data, self.clock, self.settings or {})
        await backend.start()
        self._open.append(backend)
        return backend

    @staticmethod
    def clock() -> float:
        return time.time()

    async def address(self) -> str:
        report = await self.double.until(lambda report: report.port, timeout=60)
        return f"tls://127.0.0.1:{report.port}"

    async def ports(self) -> list[int]:
        report = await self.double.until(lambda report: report.dashboard_port, timeout=60)
        return [report.port, report.dashboard_port]

    def foreign_port(self) -> int:
        self._foreign.append(socket.create_server(("127.0.0.1", 0)))
        return int(self._foreign[-1].getsockname()[1])

    async def scale(self, first: int, last: int, timeout: float = 60.0) -> list[str]:
        """Start the workers of these numbers, and wait until they are registered."""
        names = [f"default-{n}" for n in range(first, last + 1)]
        await self.backend.start_workers(self.launch, await self.address(), names)
        await self.double.until(lambda report: set(names) <= set(report.workers), timeout)
        return names

    async def run(self, *, workers: int = 0) -> LocalSite:
        """Launch, and start so many workers."""
        await self.backend.launch(self.launch)
        await self.address()
        if workers:
            await self.scale(1, workers)
        return self

    async def nannies_up(self) -> None:
        """Wait until each nanny has heard from its worker; one that dies before could not start."""
        async with self.client() as client:
            while set((await client.run(lambda dask_worker: dask_worker.status.name, nanny=True)).values()) != {
                "running"
            }:
                await asyncio.sleep(0.02)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Give a client with the user's certificate."""
        place = self.write_client_files()
        security = Security(
            require_encryption=True,
            tls_ca_file=str(place / "ca.pem"),
            tls_client_cert=str(place / "client.pem"),
            tls_client_key=str(place / "client.key"),
        )
        async with Client(await self.address(), security=security, asynchronous=True, set_as_default=False) as client:
            yield client

    def write_client_files(self) -> Path:
        """Write what the user gets, and return the folder."""
        place = self.folder / "client"
        place.mkdir(exist_ok=True)
        given = {"ca.pem": self.credentials.ca_cert, "client.pem": self.credentials.client_cert}
        for name, text in (given | {"client.key": self.credentials.client_key}).items():
            (place / name).write_text(text)
        return place

    # -- what runs -----------------------------------------------------------------------------------------------------

    @property
    def cluster_folder(self) -> Path:
        """The cluster's own folder."""
        return self._place / self.launch.cluster

    @property
    def mark(self) -> str:
        """The mark of this data folder."""
        return (self._place / ".mark").read_text()

    @property
    def _data(self) -> Path:
        return self.data or self.folder / "data"

    @property
    def _place(self) -> Path:
        return place_of(self._data, LocalSettings.model_validate(self.settings or {}))

    def keeper(self) -> int:
        """Return the keeper's process id."""
        return int(json.loads((self.cluster_folder / "keeper.pid").read_text())["pid"])

    def children(self) -> list[int]:
        """Return the keeper's children, oldest first: the scheduler, then workers."""
        keeper = self.keeper()
        parents = {pid: _parent(pid) for pid in processes.descendants(keeper)}
        return sorted((pid for pid, parent in parents.items() if parent == keeper), key=_age)

    def scheduler(self) -> int:
        """Return the scheduler's process id."""
        return self.children()[0]

    def marked(self) -> set[int]:
        """Return every living process that bears the cluster's mark."""
        return processes.marked(self.mark).get(self.launch.cluster, set())

    def kill_scheduler(self) -> None:
        os.kill(self.scheduler(), signal.SIGKILL)

    def forbid_start(self) -> None:
        self.launch = replace(self.launch, spec=replace(self.launch.spec, environment="/bin/false"))

    def log(self, process: str) -> str:
        """Return the log of a process."""
        return (self.cluster_folder / "logs" / f"{process}.log").read_text()

    def zygotes(self) -> list[int]:
        """Return the living zygotes of this data folder."""
        return zygotes_in(self._place)

    def was_forked(self) -> bool:
        """Say whether the keeper was forked from a zygote, rather than started in an interpreter."""
        return b"--zygote" in Path(f"/proc/{self.keeper()}/cmdline").read_bytes()

    async def close(self) -> None:
        """End everything, and fail if something is left."""
        for listener in self._foreign:
            listener.close()
        await self.backend.stop(self.launch.cluster)
        with contextlib.suppress(AssertionError):
            await eventually(lambda: not self.marked(), 30)
            # Control would look too, and when nothing remains, the control group goes.
            await until(self, lambda seen: not seen.remains, 10)
        left = self.marked()
        for pid in left:
            processes.kill(pid)
        if self.data is not None:
            with somebody_computes(self._place):
                await self._close_backends()
        else:
            await self._close_backends()
            end_zygotes(self._place)  # Nobody would ask for it any more.
        await self.double.close()
        assert not left, "processes were left after stop"

    async def _close_backends(self) -> None:
        for backend in self._open:
            await backend.close()


@contextlib.contextmanager
def somebody_computes(place: Path) -> Iterator[None]:
    """Have a cluster with a keeper, this process: who closes now leaves zygotes to the next gateway, for a minute."""
    folder = place / secrets.token_hex(8)
    folder.mkdir(mode=0o700)
    (folder / "keeper.pid").write_text(json.dumps(processes.identity(os.getpid())))
    yield
    shutil.rmtree(folder)


@contextlib.contextmanager
def shared_data(folder: Path) -> Iterator[Path]:
    """Give a data folder for sites that come one after the other, and end what was kept warm in it."""
    yield folder
    end_zygotes(place_of(folder, LocalSettings()))


def end_zygotes(place: Path) -> None:
    """End the zygotes of a backend's folder."""
    for pid in zygotes_in(place):
        processes.kill(pid)


def zygotes_in(place: Path) -> list[int]:
    """Return the living zygotes of a backend's folder."""
    noted = [json.loads(file.read_text()) for file in place.glob(".zygotes/*/zygote.pid")]
    return [identity["pid"] for identity in noted if processes.identity(identity["pid"]) == identity]


@dataclass
class RemoteSite(LocalSite):
    """The same, where the backends are asked through a socket, as where they need a process of their own."""

    async def start(self) -> RemoteSite:
        self._servers: list[asyncio.AbstractServer] = []
        await super().start()
        return self

    async def open(self) -> RemoteBackend:
        backend = await super().open()
        name = f"{len(self._servers)}.sock"
        self._servers.append(await BackendServer(backend, os.getuid()).serve(listen(self.folder, name)))
        remote = RemoteBackend(backend, self.folder, name)
        await remote.start()
        return remote

    async def close(self) -> None:
        await super().close()
        for server in self._servers:
            server.close()


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _age(pid: int) -> tuple[int, int]:
    return processes.start_time(pid) or 0, pid
