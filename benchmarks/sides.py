"""Both gateways, started alike: on loopback, without TLS on the HTTP port, with mutual TLS to their schedulers, each
in an environment of its own with the same Dask, each with a folder by which all of its processes are known.

What runs is what an administrator gets: ``tidegate serve`` and ``dask-gateway-server``, with their own proxies. With
``backend="simulated"`` both keep records and routes of clusters that are not there.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml

from benchmarks import processes
from benchmarks.records import mint_all

HERE = Path(__file__).parent
ROOT = HERE.parent
PEER = ROOT / ".envs/peer/bin"

OURS = "tidegate"
THEIRS = "dask-gateway"

USER = getpass.getuser()

START_SECONDS = 60.0
STOP_SECONDS = 60.0

COOKIE_SECONDS = 120.0
"""dask-gateway knows its cookies for 300 s; no measurement between two looks takes as long as the rest."""

FORGOTTEN = ("DASK_CONFIG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
"""Variables of whoever runs the benchmark that would change one side. (An installed package is compiled already; what
lies in a checkout would be compiled anew by each process, if none of them were to keep the result.)"""


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Side(ABC):
    """One gateway with a folder of its own.

    Parameters
    ----------
    folder : Path
        A new folder, whose name is the mark of every process of this side.
    backend : {"local", "simulated"}
    scheduler : str
        ``host:port`` of what stands for the schedulers of simulated clusters.
    """

    name: str
    module: str
    python: Path

    def __init__(self, folder: Path, backend: str = "local", scheduler: str = "127.0.0.1:1") -> None:
        self.folder = folder
        self.backend = backend
        self.scheduler = scheduler
        self.port = free_port()
        self.home = folder / "home"
        self.home.mkdir()
        self.log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server, once it was started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process

    @property
    def address(self) -> str:
        """Where users reach it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What its processes, and its users' programs, are started with."""
        kept = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
        return kept | {"HOME": str(self.home), "TMPDIR": str(self.folder)}

    @property
    @abstractmethod
    def command(self) -> list[str]:
        """What starts the server."""

    @abstractmethod
    def credential(self, user: str = USER) -> dict[str, str]:
        """Return the headers by which a user's program is recognised, as this side's own client sends them."""

    def plain_credential(self, user: str = USER) -> dict[str, str]:
        """Return headers that also a server process which has just been started recognises."""
        return self.credential(user)

    @abstractmethod
    def interrupt(self) -> None:
        """Ask the server to stop, with all of its clusters."""

    def launch(self) -> None:
        """Start the server, and do not wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS
        while not self.answers("/api/version"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start:\n{self.last_words()}")
            time.sleep(0.05)

    def answers(self, path: str, headers: dict[str, str] | None = None) -> bool:
        """Whether a request on a new connection is answered with 200."""
        request = urllib.request.Request(self.address + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, method: str, path: str, body: Any = None, user: str = USER) -> Any:
        """Make one request, and return what its JSON says."""
        headers = self.credential(user) | {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read()[:500].decode(errors="replace")
            raise RuntimeError(f"{self.name}: {method} {path} says {error.code}: {said}") from None
        return json.loads(text) if text else None

    def run_user(self, action: str, *arguments: str, seconds: float = 300) -> dict[str, float]:
        """Let a user's program (``user.py``) do something with this side's own client; return its figures."""
        command = [str(self.python), "-m", "benchmarks.user", self.module, self.address, action, *arguments]
        environment = self.environment | {"PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                command, env=environment, cwd=self.home, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{self.name}: {action} did not end within {seconds:g} s") from error
        if done.returncode:
            raise RuntimeError(f"{self.name}: {action} failed:\n{done.stderr[-4000:]}\n{self.last_words()}")
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return figures

    def last_words(self) -> str:
        """Return the ends of the server's logs, for when something went wrong."""
        logs = [self.log, *sorted(self.folder.glob("data/logs/*.log"))]
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in logs if log.exists())

    def processes(self) -> set[int]:
        """Return every process of this side: server, proxies, clusters."""
        return processes.bearing(str(self.folder))

    def stop(self) -> None:
        """Stop it, and end what is left."""
        try:
            if self._process is not None and self._process.poll() is None:
                self.interrupt()
                self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{self.name} did not stop within {STOP_SECONDS:g} s and was killed", file=sys.stderr)
        finally:
            processes.sweep(str(self.folder))
            if self._process is not None:
                self._process.wait()


class Tidegate(Side):
    """``tidegate serve``, configured with nothing but the backend."""

    name = OURS
    module = "tidegate"
    python = Path(sys.executable)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    @property
    def command(self) -> list[str]:
        """What starts the server."""
        config = self.folder / "tidegate.yaml"
        config.write_text(json.dumps({"backend": {"name": self.backend}}))
        tidegate = str(self.python.with_name("tidegate"))
        return [tidegate, "serve", "--config", str(config), "--address", f"127.0.0.1:{self.port}", *self._data]

    @property
    def _data(self) -> list[str]:
        return ["--data", str(self.data)]

    def credential(self, user: str = USER) -> dict[str, str]:
        """Return a bearer token: for whoever started it the one that it left for Dask, for others a new one."""
        return {"Authorization": f"Bearer {self._tokens[user] if user in self._tokens else self._mint(user)}"}

    def interrupt(self) -> None:
        """Press Ctrl-C twice."""
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    @property
    def _tokens(self) -> dict[str, str]:
        if not hasattr(self, "_minted"):
            content = yaml.safe_load((self.home / ".config/dask/tidegate.yaml").read_text())
            self._minted = {USER: content["tidegate"]["auth"]["kwargs"]["token"]}
        return self._minted

    def _mint(self, user: str) -> str:
        self._tokens[user] = mint_all(self.data, [user])[user]
        return self._tokens[user]


class DaskGateway(Side):
    """``dask-gateway-server`` with its local backend, and its Go proxy."""

    name = THEIRS
    module = "dask_gateway"
    python = PEER / "python"
    database = "sqlite:///:memory:"

    def __init__(self, folder: Path, backend: str = "local", scheduler: str = "127.0.0.1:1") -> None:
        super().__init__(folder, backend, scheduler)
        self._api_port = free_port()
        self._key = base64.b64encode(secrets.token_bytes(32)).decode()
        self._cookies: dict[str, tuple[str, float]] = {}

    @property
    def command(self) -> list[str]:
        """What starts the server."""
        return [str(PEER / "dask-gateway-server"), "-f", str(HERE / "peer/config.py")]

    @property
    def environment(self) -> dict[str, str]:
        """What its configuration reads, besides."""
        return super().environment | {
            "PATH": f"{PEER}:{os.environ['PATH']}",
            "BENCH_PORT": str(self.port),
            "BENCH_API_PORT": str(self._api_port),
            "BENCH_FOLDER": str(self.folder),
            "BENCH_BACKEND": self.backend,
            "BENCH_DATABASE": self.database,
            "BENCH_SCHEDULER": self.scheduler,
            "DASK_GATEWAY_ENCRYPT_KEYS": self._key,
        }

    def keep_database(self) -> None:
        """Keep the records in a file, so that they outlive the server; call it before the start."""
        self.database = f"sqlite:///{self.folder}/dask_gateway.sqlite"

    def credential(self, user: str = USER) -> dict[str, str]:
        """Return the cookie that it hands out after the first request, which is the quickest way for it."""
        cookie, good_until = self._cookies.get(user, ("", 0.0))
        if time.monotonic() > good_until:
            request = urllib.request.Request(f"{self.address}/api/v1/clusters/", headers=self.plain_credential(user))
            with urllib.request.urlopen(request, timeout=20) as answer:
                cookie = answer.headers["Set-Cookie"].partition(";")[0]
            self._cookies[user] = cookie, time.monotonic() + COOKIE_SECONDS
        return {"Cookie": cookie}

    def plain_credential(self, user: str = USER) -> dict[str, str]:
        """Return name and (no) password."""
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:'.encode()).decode()}"}

    def interrupt(self) -> None:
        """Ask it to stop; it stops its clusters first."""
        self.process.send_signal(signal.SIGTERM)


@contextlib.contextmanager
def serving(module: str, *arguments: str) -> Iterator[int]:
    """Run a module of this package that serves until its standard input ends; yield the port that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


AnySide = TypeVar("AnySide", bound=Side)


def make_folder() -> Path:
    """Return a new folder with a name that stands nowhere else."""
    return Path(tempfile.mkdtemp(prefix="gateway-bench-"))


@contextlib.contextmanager
def running(side: AnySide) -> Iterator[AnySide]:
    """Start a side, and see in the end that nothing is left of it, whatever happens."""
    try:
        side.start()
        yield side
    finally:
        side.stop()
        shutil.rmtree(side.folder, ignore_errors=True)


@contextlib.contextmanager
def both(backend: str = "local", scheduler: str = "127.0.0.1:1") -> Iterator[tuple[Tidegate, DaskGateway]]:
    """Start both sides."""
    with (
        running(Tidegate(make_folder(), backend, scheduler)) as ours,
        running(DaskGateway(make_folder(), backend, scheduler)) as theirs,
    ):
        yield ours, theirs
