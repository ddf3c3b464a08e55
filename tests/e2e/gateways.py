"""A gateway as its users have it: ``tidegate serve`` as a process, with a home folder and a data folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import eventually_sync
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore

START_SECONDS = 60.0
"""Two cores, shared by several tests: a start takes two seconds, on a bad day twenty."""
STOP_SECONDS = 60.0
GONE_SECONDS = 80.0
"""A zygote waits a minute for the next gateway when control was too slow to end in peace, and was killed."""

TIDEGATE = [str(Path(sys.executable).with_name("tidegate"))]


class GatewayProcess:
    """``tidegate serve`` under test.

    Parameters
    ----------
    folder : Path
        Where its home and its data are made. Its name is the mark by which its processes are known.
    arguments : sequence of str
        What is passed to ``tidegate serve`` besides ``--address`` and ``--data``.
    address : str
        Where to listen.
    command : sequence of str
        The ``tidegate`` command.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str] = (),
        *,
        address: str = "127.0.0.1:0",
        command: Sequence[str] = TIDEGATE,
    ) -> None:
        self.folder = folder
        self.command = command
        self.home = folder / "home"
        self.data = folder / "data"
        self.home.mkdir(parents=True, exist_ok=True)
        self.arguments = [*arguments, "--address", address, "--data", str(self.data)]
        self.more_environ: dict[str, str] = {}
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self) -> GatewayProcess:
        """Start it and wait until it says that it serves."""
        self.launch()
        eventually_sync(self._settled, START_SECONDS, "the gateway serves")
        assert self.url, self.text
        return self

    def launch(self) -> None:
        """Start it, and do not wait."""
        self.output = []
        self.process = subprocess.Popen(
            [*self.command, "serve", *self.arguments],
            env=self.environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def send(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until the supervisor has ended; return its exit code."""
        assert self.process is not None
        code = self.process.wait(STOP_SECONDS)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def stop(self) -> None:
        """Press Ctrl-C twice, and see that nothing is left: no process, of the gateway's or of a cluster's."""
        if self.process is not None and self.process.poll() is None:
            self.send(signal.SIGINT)
            # With clusters it waits for a second one, without it ends by itself.
            eventually_sync(lambda: self.process.poll() is not None or self.says("press Ctrl-C again"), STOP_SECONDS)
            if self.process.poll() is None:
                self.send(signal.SIGINT)
            self.wait()
        eventually_sync(
            lambda: not self.processes(), GONE_SECONDS, f"nothing is left of {self.folder}: {self.describe()}"
        )

    def kill_everything(self) -> None:
        """End whatever is left, when a test has failed."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its user: nothing of ours but what starts Python."""
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "TMPDIR")}
        return kept | {"HOME": str(self.home), "TIDEGATE_TEST": str(self.folder)} | self.more_environ

    @property
    def text(self) -> str:
        """What it has said since its start."""
        return "".join(self.output)

    def says(self, words: str) -> bool:
        """Whether it has said this since its start."""
        return words in self.text

    @property
    def url(self) -> str:
        """Its address as it said it; empty before."""
        found = re.search(r"serves at (\S+)", self.text)
        return found[1] if found else ""

    @property
    def login_url(self) -> str:
        """The one-time link into the console."""
        found = re.search(r"Console +(\S+)", self.text)
        assert found, self.text
        return found[1]

    @property
    def client_config(self) -> dict[str, Any]:
        """What it left for Dask."""
        content: dict[str, Any] = yaml.safe_load((self.home / ".config" / "dask" / "tidegate.yaml").read_text())
        return content

    @property
    def token(self) -> str:
        """The credential of its user."""
        token: str = self.client_config["tidegate"]["auth"]["kwargs"]["token"]
        return token

    @property
    def headers(self) -> dict[str, str]:
        """What a program sends to be recognised."""
        return {"Authorization": f"Bearer {self.token}"}

    def mint(self, user: str, *, admin: bool = False) -> str:
        """Make a token for another user, or for another administrator."""
        made: list[str] = []
        # In a thread, for the caller may have an event loop.
        minting = threading.Thread(
            target=lambda: made.append(asyncio.run(_mint(self.data, Principal(user, admin=admin))))
        )
        minting.start()
        minting.join()
        return made[0]

    def run_python(self, code: str, *, timeout: float = 90, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of its user's, in their home."""
        return subprocess.run(
            [sys.executable, "-c", code],
            env=self.environ | environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def run_cli(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run the ``tidegate`` command as its user."""
        return subprocess.run(
            [*self.command, *arguments],
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    # -- its processes -------------------------------------------------------------------------------------------------

    def processes(self, words: str = "") -> list[int]:
        """Return the live processes that bear its mark (its folder), and ``words``, in arguments or environment."""
        return [pid for pid, line, environ in _marked(str(self.folder)) if words in line or words in environ]

    def describe(self) -> str:
        """Return those processes in words."""
        return "; ".join(f"{pid} {line}" for pid, line, _ in _marked(str(self.folder)))

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output.append(line)

    def _settled(self) -> bool:
        assert self.process is not None
        return self.says("Ctrl-C stops the gateway") or self.process.poll() is not None


@contextlib.contextmanager
def serving(folder: Path, config: str = "") -> Iterator[GatewayProcess]:
    """Start a gateway with this configuration, and see in the end that nothing is left of it."""
    gateway = GatewayProcess(folder, ["--config", "tidegate.yaml"])
    (gateway.home / "tidegate.yaml").write_text(config)
    try:
        yield gateway.start()
        gateway.stop()
    finally:
        gateway.kill_everything()


async def _mint(data: Path, principal: Principal) -> str:
    store = SqlStore(data)
    await store.start()
    try:
        return (await mint_token(store, principal, "test", now=time.time()))[1]
    finally:
        await store.close()


def _marked(mark: str) -> Iterator[tuple[int, str, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            environ = (entry / "environ").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state != "Z" and (mark in line or mark in environ):
            yield int(entry.name), line, environ
