"""What a scheduler and a worker need of Python, loaded once for all that are forked later.

Two depths: ``import_engine`` imports, which is what each keeper does that starts in an interpreter of its own. A zygote
(``zygote.py``) goes on to ``warm_up``: it runs a scheduler and a worker once, because a part of what they need is only
loaded or computed when they run, and then makes sure that nothing of that run is left but memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import logging
import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

from .blas import find_setters

LATE = (
    "distributed.nanny",
    "distributed.dashboard.scheduler",
    "distributed.dashboard.worker",
    "distributed.http.health",
    "distributed.http.prometheus",
    "distributed.http.scheduler",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.statics",
    "distributed.http.worker",
    "numpy.random",
)
"""What ``distributed`` imports late."""

COMMON = ("numpy", "pandas")
"""What most tasks import: worth the memory when it is shared."""

THREADS_TIMEOUT = 5.0
"""Seconds in which the threads of the run must have ended. They take milliseconds."""


class CannotImport(Exception):
    """There is no distributed that could be run; says so in a sentence for users."""


class Unfit(Exception):
    """This process must not fork; says why."""


def import_engine(more: Iterable[str] = ()) -> None:
    """Import what each scheduler and worker would otherwise import for itself while it starts.

    Parameters
    ----------
    more : iterable of str
        Names of further modules. One that cannot be imported is passed over.

    Raises
    ------
    CannotImport
        Without this module no cluster can be.
    """
    try:
        __import__("distributed.cli.dask_scheduler")
    except ImportError as error:
        traceback.print_exc()
        if error.name in ("distributed", "dask"):
            raise CannotImport(f"{sys.executable} has no distributed: install dask[distributed] there") from error
        raise CannotImport(f"{sys.executable} cannot import distributed: {error}") from error
    except Exception as error:
        traceback.print_exc()
        raise CannotImport(f"{sys.executable} cannot import distributed: {type(error).__name__}: {error}") from error
    for module in (*LATE, *more):
        try:
            __import__(module)
        except Exception as error:  # Without Bokeh there are no dashboards, and all else works.
            print(f"cannot import {module}: {type(error).__name__}: {error}", file=sys.stderr)
    find_setters()
    # And what the keeper goes on with, when the scheduler is forked.
    from . import keeper as keeper


def freeze() -> None:
    """Tell the collector that what is there now lives as long as the process, so that its pages stay shared."""
    gc.collect()
    gc.freeze()


class ImportTimeSettings:
    """The configuration that modules read once, when they were imported.

    Users may have set it otherwise in files that a zygote does not see. What is forked cannot follow them: such a
    cluster needs an interpreter of its own.
    """

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Note, within this block, what is asked of Dask's configuration, and the answers."""
        import dask.config

        get = dask.config.get

        def record(key: str, *arguments: Any, **options: Any) -> Any:
            value = get(key, *arguments, **options)
            self._values[key] = copy.deepcopy(value)
            return value

        dask.config.get = record
        try:
            yield
        finally:
            dask.config.get = get

    def differing(self) -> list[str]:
        """Return the keys that have another value now."""
        import dask.config

        return [key for key, value in self._values.items() if dask.config.get(key, None) != value]


def warm_up(scratch: str) -> None:
    """Run a scheduler, a worker and a client of this process once, and end all of it, threads too.

    Raises
    ------
    Unfit
        A thread is left.
    """
    logging.disable()  # A worker that is closed at once has much to say, and what fails raises.
    try:
        asyncio.run(_run_once(scratch))
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(scratch, ignore_errors=True)
    _end_offload()
    _look_once()
    from distributed import Client, Scheduler, Worker

    # Somebody still refers to them, and code that asks for "the worker of this process" must not find them.
    for kind in (Client, Scheduler, Worker):
        getattr(kind, "_instances", set()).clear()
    gc.collect()
    deadline = time.monotonic() + THREADS_TIMEOUT
    while threads() > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    check_threads()


def _look_once() -> None:
    """Have found out what would else be found out at each start.

    Python remembers which classes are of an abstract kind (a ``Mapping``, say), unless new ones have come: then it
    searches through all that there are, and makes a megabyte of pages a fork's own.
    """
    import dask.config
    from distributed.cli.dask_scheduler import main

    main.make_context("dask-scheduler", ["--no-dashboard"]).close()
    dask.config.merge(dask.config.config)
    # For the agent, which tells versions: toolz searches the disk for its own, in 5 ms.
    getattr(sys.modules.get("toolz"), "__version__", "")


def threads() -> int:
    """Return how many threads of the system this process has: those of libraries too, which Python does not know."""
    return len(os.listdir("/proc/self/task"))


def check_threads() -> None:
    """Raise ``Unfit`` if there is any thread but this: its locks would stay locked in a forked child, for ever."""
    if threads() == 1:
        return
    names = []
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:
            names.append(file.read().strip())
    raise Unfit(f"it has {len(names)} threads ({', '.join(names)}), and a fork is safe with one only")


async def _run_once(scratch: str) -> None:
    from distributed import Client, Scheduler, Worker
    from distributed.comm import connect, listen
    from tornado.iostream import SSLIOStream

    # What can be asked to run code listens within this process only; what has a port answers with pages, or an echo.
    pages = {"dashboard": True, "dashboard_address": "127.0.0.1:0"}
    async with Scheduler(protocol="inproc", **pages) as scheduler:
        async with Worker(scheduler.address, nthreads=1, local_directory=scratch, **pages) as worker:
            async with Client(scheduler.address, asynchronous=True, set_as_default=False) as client:
                await client.submit(abs, -1)
            await _get(f"http://127.0.0.1:{worker.http_server.port}/status")
        await _get(f"http://127.0.0.1:{scheduler.http_server.port}/health")
    # Dask leaves these open until the process ends; everything that is forked would inherit them.
    worker.http_server.stop()
    scheduler.http_server.stop()

    async def echo(comm: Any) -> None:
        await comm.write(await comm.read())

    async with listen("tcp://127.0.0.1:0", echo) as listener:
        comm = await connect(listener.contact_address)
        await comm.write({"op": "echo"})
        await comm.read()
        await comm.close()
    # With the first TLS connection of a process OpenSSL reads its configuration, and Tornado loads the authorities
    # that the machine trusts: 35 ms. There is no certificate here to go further with.
    near, far = socket.socketpair()
    SSLIOStream(near).close()
    far.close()


async def _get(url: str) -> None:
    from tornado.httpclient import AsyncHTTPClient

    client = AsyncHTTPClient(force_instance=True)
    try:
        await client.fetch(url, raise_error=False)
    finally:
        client.close()


def _end_offload() -> None:
    import distributed.utils

    executor = getattr(distributed.utils, "_offload_executor", None)
    if executor is not None:
        executor.shutdown(wait=True)
        distributed.utils._offload_executor = type(executor)(max_workers=1, thread_name_prefix="Dask-Offload")
