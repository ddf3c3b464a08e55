"""The floor: how soon stock workers are there when nothing of a gateway stands around them.

    python -m benchmarks.floor [--rounds N]

A process that has imported the engine, and has run a scheduler and a worker once, forks a second one, which starts
stock ``Nanny`` objects with the fork method, all at once, for a scheduler in a third process, by mutual TLS with P-256
keys. No gateway, no agent, no client, no limits of memory or cores: only what a worker under a nanny costs in any
design that keeps both as they are. From that follows which ratios can be reached on a machine at all.

What is timed ends when all workers have registered. The CPU is that of all three processes and of the workers: divided
by the number of cores it is less than any arrangement of these processes can take.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Nanny, Scheduler, Worker
from distributed.security import Security

from tidegate.control.credentials import mint

COUNTS = (1, 4, 10)


def security(folder: Path) -> Security:
    """Return the credentials of one cluster, as files in ``folder``."""
    made = mint("floor", time.time())
    files = {"ca": made.ca_cert}
    for role in ("client", "scheduler", "worker"):
        files |= {f"{role}.crt": getattr(made, f"{role}_cert"), f"{role}.key": getattr(made, f"{role}_key")}
    for name, text in files.items():
        (folder / name).write_text(text)
    named: dict[str, Any] = {"tls_ca_file": str(folder / "ca"), "require_encryption": True}
    for role in ("client", "scheduler", "worker"):
        named |= {f"tls_{role}_cert": str(folder / f"{role}.crt"), f"tls_{role}_key": str(folder / f"{role}.key")}
    return Security(**named)


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


def fork_scheduler(credentials: Security) -> tuple[int, str]:
    """Start a scheduler in a fork; return its process and its address."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:

        async def serve() -> None:
            async with scheduler(credentials) as there:
                os.write(theirs, there.address.encode())
                os.close(theirs)
                await there.finished()

        asyncio.run(serve())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        return pid, answer.read()


async def start(count: int, address: str, scheduler_pid: int, credentials: Security) -> tuple[float, float]:
    """Return the seconds, and the seconds of CPU, until ``count`` workers have registered."""
    me, its = psutil.Process(), psutil.Process(scheduler_pid)
    before, began = used([me, its]), time.perf_counter()
    nannies = [Nanny(address, nthreads=1, security=credentials, dashboard=False) for _ in range(count)]
    await asyncio.gather(*nannies)
    took = time.perf_counter() - began
    cpu = used([me, its, *me.children(recursive=True)]) - before
    await asyncio.gather(*(nanny.close() for nanny in nannies))
    return took, cpu


def used(processes: Sequence[psutil.Process]) -> float:
    """Return the seconds of CPU that these processes have used."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    dask.config.set({"distributed.worker.multiprocessing-method": "fork", "distributed.nanny.pre-spawn-environ": {}})
    logging.disable(logging.CRITICAL)  # each start and end would be told
    with tempfile.TemporaryDirectory() as folder:
        dask.config.set({"temporary-directory": folder})
        credentials = security(Path(folder))
        asyncio.run(warm_up(credentials))
        gc.collect()
        gc.freeze()
        print("| stock nannies of a warm process | median | CPU of it all | on these cores at least |")
        print("| --- | --- | --- | --- |")
        for count in COUNTS:
            runs = [measure(count, credentials) for _ in range(rounds + 1)][1:]
            took, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
            least = cpu / len(os.sched_getaffinity(0))
            print(f"| {count} registered | {took * 1e3:.0f} ms | {cpu * 1e3:.0f} ms | {least * 1e3:.0f} ms |")


def measure(count: int, credentials: Security) -> tuple[float, float]:
    """Return what ``start`` does, with a scheduler of its own."""
    pid, address = fork_scheduler(credentials)
    try:
        took, cpu = in_fork(lambda: start(count, address, pid, credentials))
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)
    return float(took), float(cpu)


if __name__ == "__main__":
    main()
