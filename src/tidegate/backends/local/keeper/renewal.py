"""What a process forked from a zygote must have anew, where one that starts in an interpreter gets it by itself.

A zygote knows nothing of the cluster, of its owner or of the gateway, so most of this is filling in: the environment,
the configuration that follows from it, and the mark. The rest is what no two clusters may have in common.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import time
from collections.abc import Mapping

from .children import renew_threads
from .processes import CLUSTER, MARK

ROOM = "TIDEGATE_ROOM"
"""The variable with which a zygote is started to make room, in the memory that ``/proc/PID/environ`` shows, for the
mark of what it forks."""

ROOM_LENGTH = 160
"""Characters of its value: mark and cluster come to 120 at the most."""


def renew(environment: Mapping[str, str]) -> None:
    """Make this process one that was started with ``environment``."""
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    show_mark(environment[MARK], environment[CLUSTER])
    # With it processes of ``multiprocessing`` prove that they belong together.
    multiprocessing.current_process().authkey = os.urandom(32)
    renew_threads()
    before = _logging_settings()
    _renew_configuration()
    if _logging_settings() != before:
        _renew_logging()


def show_mark(mark: str, cluster: str) -> None:
    """Write the mark where others look for it, over the variable that made room for it.

    ``/proc/PID/environ`` shows the memory in which the kernel laid down the environment at the start of the program,
    and a fork has a copy of it: what is changed there shows in the child alone, and in all that it forks.
    """
    with open("/proc/self/environ", "rb") as file:
        laid_down = file.read()
    length = len(ROOM) + 1 + ROOM_LENGTH
    room = f"{ROOM}=".encode()
    at = 0 if laid_down.startswith(room) else laid_down.index(b"\0" + room) + 1
    text = f"{MARK}={mark}\0{CLUSTER}={cluster}\0".encode()
    if len(text) > length:
        raise ValueError(f"the mark {mark} of {cluster} is longer than the {length} bytes that were kept for it")
    with open("/proc/self/stat") as file:
        start = int(file.read().rpartition(")")[2].split()[47])  # env_start, field 50 in proc(5)
    ctypes.memmove(start + at, text.ljust(length, b"\0"), length)


def _renew_configuration() -> None:
    """Read Dask's configuration again: the files of this home, and the variables of this environment."""
    import dask.config
    from distributed.config import deprecations  # ``distributed.config`` itself is the configuration.

    # The list itself is what ``refresh`` looks at.
    dask.config.paths[:] = dask.config._get_paths()
    dask.config.PATH = os.environ.get("DASK_CONFIG", os.path.join(os.path.expanduser("~"), ".config", "dask"))
    dask.config.refresh()
    dask.config.rename(deprecations)


def _logging_settings() -> dict[str, object]:
    """Return what the configuration says of logging. Hardly anybody sets it, and to set it up anew takes 2 ms."""
    import dask.config

    return {key: value for key, value in dask.config.config.items() if key.startswith("logging")}


def _renew_logging() -> None:
    """Set up logging as importing distributed does, by the configuration that holds now."""
    import dask.config
    from distributed.config import initialize_logging

    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            for handler in list(logger.handlers):
                if isinstance(handler, logging.StreamHandler):
                    logger.removeHandler(handler)
    initialize_logging(dask.config.config)
