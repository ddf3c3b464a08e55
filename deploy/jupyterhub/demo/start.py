"""``make platform``: a JupyterHub with the gateway as its service, for two users, on loopback, in the foreground.

It starts two programs, the gateway and the Hub (which starts its proxy, and a JupyterLab for each user), and ends them
again. All that they know is in the two files of the folder above, which are there to be copied; what is added here is
what a demonstration has and a site has not: free ports, a password made anew with each start, one folder for all.

Each program has a session of its own, because Ctrl-C reaches the whole foreground group, and here an order matters: the
Hub first, with the notebook servers; then the gateway, which is told twice, so that it ends the clusters too.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
HUB = ROOT / ".envs" / "hub"
NOTEBOOK = ROOT / ".envs" / "platform"
USERS = ("alice", "bob")
SERVICE = "/services/dask-gateway"

START_SECONDS = 90.0
"""A start takes 2 s for the gateway and 4 s for the Hub; a machine with much else to do needs many times that."""
HUB_STOP_SECONDS = 30.0
"""The Hub gives each notebook server 15 s to end by itself."""
GATEWAY_STOP_SECONDS = 90.0
"""The gateway gives clusters 60 s to be gone."""
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")
"""What the programs get of our environment: nothing by which Dask or Jupyter could be set up otherwise."""


class Failed(Exception):
    """The platform cannot go on; the message is for the person at the terminal."""


class Program:
    """A program of the platform, with a log.

    Parameters
    ----------
    name : str
        What it is called in messages.
    log : Path
        Where its output goes; what earlier starts wrote there is kept.
    """

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._begin = log.stat().st_size if log.exists() else 0

    async def start(self, command: list[str], environ: Mapping[str, str], lock: int) -> None:
        """Start it; it holds the lock for as long as it lives, and its number stands in there."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command,
                env=environ,
                cwd=self.log.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[lock],
            )
        os.write(lock, f"{self.process.pid} ".encode())

    @property
    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return hasattr(self, "process") and self.process.returncode is None

    @property
    def said(self) -> str:
        """What it wrote since its start."""
        with self.log.open("rb") as log:
            log.seek(self._begin)
            return log.read().decode(errors="replace")

    def why(self) -> str:
        """Return the end of its log."""
        return f"{self.name} has ended; the end of {self.log}:\n" + "\n".join(self.said.splitlines()[-20:])

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until it has ended or the condition holds; return whether one of the two came in time."""
        deadline = time.monotonic() + seconds
        while self.runs and not await asyncio.to_thread(condition):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def started(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition says that it serves."""
        in_time = await self.until(condition, START_SECONDS)
        if not self.runs:
            raise Failed(self.why())
        if not in_time:
            raise Failed(f"{self.name} does not answer after {START_SECONDS:g} s; see {self.log}")


class Platform:
    """Gateway and Hub.

    Parameters
    ----------
    folder : Path
        For everything that they keep: homes, logs, the gateway's data, configuration.
    port : int
        Of the Hub on loopback; 0 for one that is free.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        inner = free_ports(4)
        self.hub_address = f"http://127.0.0.1:{port or inner[3]}"
        self._gateway_at, self._hub_inner, self._proxy_api = (f"127.0.0.1:{port}" for port in inner[:3])
        self._password = secrets.token_urlsafe(9)
        self._gateway = Program("the gateway", folder / "gateway.log")
        self._hub = Program("the Hub", folder / "hub.log")

    async def run(self, lock: int) -> None:
        """Start both, say how to log in, and stay until a signal comes or one of them ends."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait())
        working = asyncio.create_task(self._work(lock))
        try:
            await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            for task in (stopping, working):
                task.cancel()
            await asyncio.wait([stopping, working])
            await self._stop()

    async def _work(self, lock: int) -> None:
        # The gateway first: the Hub waits half a minute for services that do not answer.
        await self._start_gateway(lock)
        await self._start_hub(lock)
        self._announce()
        ends = [asyncio.create_task(program.process.wait()) for program in (self._gateway, self._hub)]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        raise Failed(next(program for program in (self._gateway, self._hub) if not program.runs).why())

    async def _start_gateway(self, lock: int) -> None:
        token = self.folder / "service-token"
        token.write_text(secrets.token_hex(32))
        settings = yaml.safe_load((HERE.parent / "tidegate.yaml").read_text())
        settings["address"] = settings["proxy_address"] = self._gateway_at
        settings["public_url"] = self.hub_address + SERVICE
        settings["authentication"]["logins"]["jupyterhub"] |= {
            "api_url": f"http://{self._hub_inner}/hub/api",
            "api_token_file": str(token),
        }
        settings["backend"]["environments"] = dict.fromkeys(
            settings["backend"]["environments"], str(NOTEBOOK / "bin" / "python")
        )
        config = self.folder / "tidegate.yaml"
        config.write_text(yaml.safe_dump(settings, sort_keys=False))
        tidegate = str(Path(sys.executable).with_name("tidegate"))
        command = [tidegate, "serve", "--config", str(config), "--data", str(self.folder / "data")]
        # A home of its own: whoever starts the platform may have a gateway for themselves, and its configuration there.
        await self._gateway.start(command, environment() | {"HOME": str(self.folder)}, lock)
        await self._gateway.started(lambda: "Ctrl-C stops the gateway" in self._gateway.said)

    async def _start_hub(self, lock: int) -> None:
        command = [str(HUB / "bin" / "jupyterhub"), "--config", str(HERE / "jupyterhub_config.py")]
        environ = environment() | {
            "HOME": str(self.folder),
            # In a user's terminal `python`, `dask` and `tidegate` are those of the notebooks.
            "PATH": f"{NOTEBOOK / 'bin'}:{os.environ['PATH']}",
            "PLATFORM_HUB": self.hub_address,
            "PLATFORM_GATEWAY": self._gateway_at,
            "PLATFORM_TOKEN_FILE": str(self.folder / "service-token"),
            "PLATFORM_FOLDER": str(self.folder),
            "PLATFORM_HUB_INNER": f"http://{self._hub_inner}",
            "PLATFORM_PROXY_API": f"http://{self._proxy_api}",
            "PLATFORM_PROXY": str(HUB / "node_modules" / ".bin" / "configurable-http-proxy"),
            "PLATFORM_SINGLEUSER": str(NOTEBOOK / "bin" / "jupyterhub-singleuser"),
            "PLATFORM_USERS": " ".join(USERS),
            "PLATFORM_PASSWORD": self._password,
        }
        await self._hub.start(command, environ, lock)
        await self._hub.started(lambda: answers(f"{self.hub_address}/hub/api/"))

    def _announce(self) -> None:
        say(f"""JupyterHub with Dask clusters is at {self.hub_address}

  Log in      as {" or ".join(USERS)}, with the password {self._password}
              (of this start alone; two browsers, or a private window, are two users)
  Notebook    from tidegate import Gateway          # or: from dask_gateway import Gateway
              cluster = Gateway().new_cluster()
              cluster.scale(2)
              client = cluster.get_client()
  Console     {self.hub_address}{SERVICE}/          (in the Hub's menu: Services)
  Files, logs {self.folder}
  Isolation   all of it runs as your own account: users are kept apart by the Hub and the gateway, not by the machine

  Ctrl-C ends everything, clusters too.
""")

    async def _stop(self) -> None:
        if self._hub.runs:
            say("\nStopping: notebook servers and the Hub ...")
            self._hub.process.send_signal(signal.SIGTERM)
            await self._end(self._hub, HUB_STOP_SECONDS)
        if self._gateway.runs:
            say("Stopping: clusters and the gateway ...")
            before = len(self._gateway.said)
            self._gateway.process.send_signal(signal.SIGINT)
            # With clusters it waits for a second one, which ends them; without it ends by itself.
            await self._gateway.until(lambda: "press Ctrl-C again" in self._gateway.said[before:], GATEWAY_STOP_SECONDS)
            if self._gateway.runs:
                self._gateway.process.send_signal(signal.SIGINT)
            await self._end(self._gateway, GATEWAY_STOP_SECONDS)
            say(self._gateway.said[before:].strip().rpartition("\n")[2])

    async def _end(self, program: Program, seconds: float) -> None:
        if not await program.until(lambda: False, seconds):
            say(f"{program.name} does not end; killing it. What it started may go on: see {program.log}")
            program.process.kill()
        await program.process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def environment() -> dict[str, str]:
    """Return what the programs get of our environment."""
    return {name: os.environ[name] for name in KEPT if name in os.environ}


def answers(url: str) -> bool:
    """Whether somebody says yes at this address."""
    # Without any proxy of the environment: it is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, flush=True)


def prepare(folder: Path, port: int) -> int:
    """Make the folder, see that nothing of an earlier start is in the way, and return the lock."""
    if missing := [path for path in (HUB / "bin" / "jupyterhub", NOTEBOOK / "bin" / "python") if not path.exists()]:
        raise Failed(f"there is no {missing[0]}: start this by `make platform`, which installs it")
    os.umask(0o077)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(
            f"a platform runs in {folder} already, or parts of one that was killed. Press Ctrl-C where it runs; if it "
            f"was killed: kill {(folder / 'lock').read_text().strip()}; or give this one another folder and port: "
            'make platform ARGS="--folder DIR --port 8011"'
        ) from None
    os.ftruncate(lock, 0)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(
                f'127.0.0.1:{port} is taken ({error.strerror}). Choose another: make platform ARGS="--port 8011"'
            ) from None
    return lock


def main() -> int:
    """Run the platform; return the exit code."""
    parser = argparse.ArgumentParser(prog="make platform", description="A JupyterHub with the gateway, on loopback.")
    parser.add_argument("--port", type=int, default=8010, help="of the Hub on loopback; 0 for a free one (8010)")
    parser.add_argument("--folder", type=Path, default=ROOT / ".platform", help="for homes, logs and data (.platform)")
    given = parser.parse_args()
    folder = given.folder.absolute()
    try:
        lock = prepare(folder, given.port)
        asyncio.run(Platform(folder, given.port).run(lock))
    except Failed as error:
        print(f"cannot go on: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
