"""Run the life of a cluster on Tidegate and on dask-gateway in alternation, and print medians and ratios.

    python run.py [--rounds 10]

Needs `.envs/peer` (made by `make bench`): dask-gateway 2026.3.0 beside the same distributed as Tidegate's environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
PEER = ROOT / ".envs/peer/bin"


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until_up(url: str, process: subprocess.Popen) -> None:
    """Wait until ``url`` answers."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode} before it answered at {url}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=1).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing answers at {url}")


@contextlib.contextmanager
def peer(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Run dask-gateway; yield the command of one round and its environment."""
    port = free_port()
    environment = os.environ | {
        "BENCH_PORT": str(port),
        "BENCH_API_PORT": str(free_port()),
        "PATH": f"{PEER}:{os.environ['PATH']}",
        "DASK_CONFIG": str(folder),
    }
    server = subprocess.Popen(
        [PEER / "dask-gateway-server", "-f", HERE / "peer_config.py"],
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_until_up(f"{address}/api/version", server)
        yield [str(PEER / "python"), str(HERE / "lifecycle.py"), "dask_gateway", address], environment
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


@contextlib.contextmanager
def tidegate(folder: Path) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Run Tidegate; yield the command of one round and its environment."""
    port = free_port()
    home = folder / "home"
    home.mkdir()
    environment = os.environ | {"HOME": str(home), "XDG_DATA_HOME": str(folder / "data")}
    environment.pop("DASK_CONFIG", None)
    address = f"http://127.0.0.1:{port}"
    with (folder / "tidegate.log").open("wb") as log:
        server = subprocess.Popen(
            [Path(sys.executable).with_name("tidegate"), "serve", "--address", f"127.0.0.1:{port}"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_up(f"{address}/api/version", server)
        yield [sys.executable, str(HERE / "lifecycle.py"), "tidegate", address], environment
    finally:
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(1)
        server.send_signal(signal.SIGINT)
        server.wait(30)


def one_round(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run one round and return its figures."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"a round failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def compare(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Alternate the rounds; the first of each side warms caches and is not counted."""
    figures: dict[str, dict[str, list[float]]] = {"tidegate": {}, "dask-gateway": {}}
    with (
        tempfile.TemporaryDirectory() as a,
        tempfile.TemporaryDirectory() as b,
        tidegate(Path(a)) as ours,
        peer(Path(b)) as theirs,
    ):
        for number in range(rounds + 1):
            for side, (command, environment) in (("tidegate", ours), ("dask-gateway", theirs)):
                for action, seconds in one_round(command, environment).items():
                    if number:
                        figures[side].setdefault(action, []).append(seconds)
            print(f"round {number} of {rounds} done", file=sys.stderr, flush=True)
    return figures


def print_table(figures: dict[str, dict[str, list[float]]]) -> None:
    """Print the medians and their ratio, as a table in Markdown."""
    print(f"\n| action | Tidegate | dask-gateway | ratio |\n|{' --- |' * 4}")
    for action, ours in figures["tidegate"].items():
        mine, its = statistics.median(ours), statistics.median(figures["dask-gateway"][action])
        print(f"| {action} | {mine:.3f} s | {its:.3f} s | {its / mine:.1f} × |")


def main() -> None:
    """Run, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    figures = compare(parser.parse_args().rounds)
    print_table(figures)
    result = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}, "seconds": figures}
    (HERE / "results/lifecycle.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
