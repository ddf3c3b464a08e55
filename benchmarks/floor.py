"""The floor: how soon stock workers are there when nothing of a gateway stands around them.

    python -m benchmarks.floor [--rounds N]

A process that has imported the engine, and has run a scheduler and a worker once, forks a second one, which starts
stock ``Nanny`` objects with the fork method, all at once, for a scheduler in a third process, by mutual TLS with P-256
keys. No gateway, no agent, no client, no limits of memory or cores: only what a worker under a nanny costs in any
design that keeps both as they are. From that follows which ratios can be reached on a machine at all.

What is timed ends when the scheduler has all workers: it says so itself, since a nanny looks for its worker's word only
every 50 ms. The CPU is that of all three processes and of the workers: divided by the number of cores it is less than
any arrangement of these processes can take.

The second half of the table is the same with what a keeper of the local backend does for its nannies, and no more: TLS
contexts that are made once (``keeper/security.py``), and memory in huge pages (``keeper/pages.py``).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Nanny, Scheduler, SchedulerPlugin, Worker
from distributed.security import Security

from benchmarks.processes import cpu_between, cpu_seconds
from tidegate.backends.local.keeper.pages import gather
from tidegate.backends.local.keeper.security import SharedSecurity
from tidegate.control.credentials import mint

COUNTS = (1, 4, 10)


def named_files(folder: Path) -> dict[str, Any]:
    """Lay down the credentials of one cluster in ``folder``; return what ``Security`` is made from."""
    made = mint("floor", time.time())
    files = {"ca": made.ca_cert}
    for role in ("client", "scheduler", "worker"):
        files |= {f"{role}.crt": getattr(made, f"{role}_cert"), f"{role}.key": getattr(made, f"{role}_key")}
    for name, text in files.items():
        (folder / name).write_text(text)
    named: dict[str, Any] = {"tls_ca_file": str(folder / "ca"), "require_encryption": True}
    for role in ("client", "scheduler", "worker"):
        named |= {f"tls_{role}_cert": str(folder / f"{role}.crt"), f"tls_{role}_key": str(folder / f"{role}.key")}
    return named


def in_fork(job: Callable[[], Awaitable[Any]]) -> Any:
    """Run ``job`` in a fork of this process and return its JSON answer."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        with os.fdopen(theirs, "w") as answer:
            json.dump(asyncio.run(job()), answer)  # type: ignore[arg-type]
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        told = json.load(answer)
    os.waitpid(pid, 0)
    return told


async def warm_up(credentials: Security) -> None:
    """Run a scheduler and a worker once."""
    async with scheduler(credentials) as there, Worker(there.address, security=credentials, nthreads=1):
        pass


def scheduler(credentials: Security) -> Scheduler:
    """Return a scheduler without dashboard."""
    return Scheduler(protocol="tls", host="127.0.0.1", port=0, security=credentials, dashboard=False)


class Told(SchedulerPlugin):
    """Writes a byte to a pipe for each worker that registers."""

    name = "told"

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Tell."""
        os.write(self._pipe, b"w")


@contextmanager
def forked_scheduler(credentials: Security) -> Iterator[tuple[int, str, int]]:
    """Run a scheduler in a fork; yield its process, its address, and a pipe with a byte for each worker."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:

        async def serve() -> None:
            async with scheduler(credentials) as there:
                there.add_plugin(Told(theirs))
                os.write(theirs, there.address.encode())
                await there.finished()

        asyncio.run(serve())
        os._exit(0)
    os.close(theirs)
    try:
        yield pid, os.read(ours, 1000).decode(), ours
    finally:
        os.close(ours)
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


async def start(count: int, address: str, scheduler_pid: int, told: int, credentials: Security) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU, until ``count`` workers have registered."""
    before, began = cpu_seconds([os.getpid(), scheduler_pid]), time.perf_counter()
    nannies = [Nanny(address, nthreads=1, security=credentials, dashboard=False) for _ in range(count)]
    starting = asyncio.gather(*nannies)
    await wait_for_bytes(told, count)
    took = time.perf_counter() - began
    after = cpu_seconds([os.getpid(), scheduler_pid, *(child.pid for child in psutil.Process().children())])
    await starting
    await asyncio.gather(*(nanny.close() for nanny in nannies))
    return took, cpu_between(before, after)


async def wait_for_bytes(pipe: int, count: int) -> None:
    """Return when so many have come."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        nonlocal count
        count -= len(os.read(pipe, count))
        if count <= 0:
            over.set()

    loop.add_reader(pipe, read)
    await over.wait()
    loop.remove_reader(pipe)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    dask.config.set({"distributed.worker.multiprocessing-method": "fork", "distributed.nanny.pre-spawn-environ": {}})
    logging.disable(logging.CRITICAL)  # each start and end would be told
    with tempfile.TemporaryDirectory() as folder:
        dask.config.set({"temporary-directory": folder})
        named = named_files(Path(folder))
        asyncio.run(warm_up(Security(**named)))
        gc.collect()
        gc.freeze()
        print("| stock nannies of a warm process | median | CPU of it all | on these cores at least |")
        print("| --- | --- | --- | --- |")
        print_rows("registered", Security(**named), rounds)
        gather()
        print_rows("registered, as a keeper starts them", SharedSecurity(**named), rounds)


def print_rows(what: str, credentials: Security, rounds: int) -> None:
    """Measure, and print a row for each number of workers."""
    for count in COUNTS:
        runs = [measure(count, credentials) for _ in range(rounds + 1)][1:]
        took, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
        least = cpu / len(os.sched_getaffinity(0))
        print(f"| {count} {what} | {took * 1e3:.0f} ms | {cpu * 1e3:.0f} ms | {least * 1e3:.0f} ms |", flush=True)


def measure(count: int, credentials: Security) -> tuple[float, float]:
    """Return what ``start`` does, with a scheduler of its own."""
    with forked_scheduler(credentials) as (pid, address, told):
        took, cpu = in_fork(lambda: start(count, address, pid, told, credentials))
    return float(took), float(cpu)


if __name__ == "__main__":
    main()
