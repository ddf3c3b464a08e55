"""The processes of one test: a scheduler with the agent in it, workers, clients, each with a log of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import tidegate.agent
from tests.compat.gateway_double import TOKEN, GatewayDouble
from tests.support import eventually

AGENT = Path(tidegate.agent.__file__).with_name("tidegate_agent.py")
GUARD = AGENT.with_name("tidegate_worker.py")
SCRIPTS = Path(__file__).parent / "scripts"
SECRET = "dashboard-secret-that-no-log-may-show"
HEADERS = {"X-Tidegate-Dashboard": SECRET}


class Talker:
    """A client program that says lines and waits for ours."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    async def hear(self, expected: str, timeout: float = 60.0) -> None:
        """Wait for the line ``expected``."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), timeout)
        assert line.decode().strip() == expected, f"{line!r}\n{self._log.read_text()}"

    def say(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")


class Lab:
    """Starts processes and ends them."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.python = python
        self.folder = folder
        self.gateway = GatewayDouble()
        self.token = TOKEN
        self.address = ""
        self.more: dict[str, str | None] = {}  # in the agent's file
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "DASK_TEMPORARY_DIRECTORY": str(folder),
            "PYTHONUNBUFFERED": "1",
            "TIDEGATE_AGENT_FILE": str(folder / "agent.json"),
        }
        self._processes: dict[str, Process] = {}

    def write_agent_file(self, attempt: int = 1) -> None:
        """Lay down what the gateway hands over."""
        path = self.folder / "agent.json"
        path.touch(0o600)
        given = {"cluster": "0123456789abcdef", "attempt": attempt, "url": self.gateway.url, "token": self.token}
        path.write_text(json.dumps(given | {"dashboard_secret": SECRET, "ca": None} | self.more))

    async def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """Start a Python program; its standard error goes to ``<name>.log``."""
        with open(self.log(name), "wb") as log:
            self._processes[name] = process = await asyncio.create_subprocess_exec(
                str(self.python),
                *arguments,
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=self.folder,
                env=self.environment | environment,
                start_new_session=True,
            )
        return process

    async def start_scheduler(self, *, attempt: int = 1, **environment: str) -> Process:
        """Start a scheduler with the agent in it, by Dask's own command line."""
        self.write_agent_file(attempt)
        module = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0")
        options = ("--dashboard-address", "127.0.0.1:0", "--no-dashboard", "--preload", str(AGENT))
        return await self.start("scheduler", *module, *options, **environment)

    async def scheduler(self, **environment: str) -> None:
        """Start a scheduler and wait until it has reported."""
        await self.start_scheduler(**environment)
        await self.reported()

    async def reported(self) -> None:
        """Wait for the scheduler's first report, and note its address."""
        report = await self.gateway.until(lambda report: report.port)
        self.address = f"tcp://127.0.0.1:{report.port}"

    async def start_with_timing(self, **timing: object) -> None:
        """Start a scheduler whose agent has other numbers than in use, for the sake of the test's time."""
        self.write_agent_file()
        await self.start("scheduler", str(SCRIPTS / "scheduler.py"), str(AGENT), json.dumps(timing))

    async def workers(self, *names: str, threads: int = 1) -> None:
        """Start workers of these names, all in one process, and wait until they are reported."""
        await self.start(f"workers-{names[0]}", str(SCRIPTS / "workers.py"), self.address, str(threads), *names)
        known = {name for name in names if re.fullmatch(r"default-\d+", name)}
        await self.gateway.until(lambda report: known <= set(report.workers))

    async def client(self, script: str) -> Talker:
        """Start a program that has a ``client``, ``say(word)`` and ``wait()`` for our word."""
        name = f"client-{len(self._processes)}"
        process = await self.start(name, str(SCRIPTS / "client.py"), self.address, script)
        return Talker(process, self.log(name))

    def log(self, name: str) -> Path:
        """Return where the process of that name writes."""
        return self.folder / f"{name}.log"

    async def wait_for_log(self, name: str, pattern: str, timeout: float = 60.0) -> str:
        """Return the first group of ``pattern``, as soon as the log has it."""
        await eventually(lambda: re.search(pattern, self.log(name).read_text()), timeout, f"{pattern} in {name}.log")
        found = re.search(pattern, self.log(name).read_text())
        assert found is not None
        return found[1] if found.groups() else found[0]

    async def exit_status(self, name: str, timeout: float = 60.0) -> int:
        """Wait for the end of a process."""
        return await asyncio.wait_for(self._processes[name].wait(), timeout)

    def kill(self, name: str) -> None:
        """End a process as the kernel does when memory is short."""
        os.killpg(self._processes[name].pid, signal.SIGKILL)

    def is_running(self, name: str) -> bool:
        """Say whether the process goes on."""
        return self._processes[name].returncode is None

    async def close(self) -> None:
        """End everything, grandchildren too."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await self.gateway.close()

    def check_logs(self) -> None:
        """Fail when a secret stands in a log, or the agent stumbled."""
        for path in self.folder.glob("*.log"):
            text = path.read_text()
            assert TOKEN not in text, path
            assert SECRET not in text, path
            assert not re.search(r"cannot \w+; trying again", text), text
