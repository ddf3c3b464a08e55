"""The first steps of a keeper: detach, import distributed, fork the scheduler, and only then begin to run a loop."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback

from . import PID_FILE, SOCKET, STATUS_FILE
from .channel import listen
from .children import become_keeper
from .journal import SCHEDULER, Journal
from .processes import identity, join_group
from .scheduler import fork_scheduler

WARM = (
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


def main() -> None:
    """Become the keeper that ``LAUNCH_FILE`` describes.

    Its first process ends with status 0 as soon as the keeper is on record: then it will be found, whatever happens.
    """
    launch_file, lock_fd = sys.argv[1], int(sys.argv[2])
    with open(launch_file) as file:
        settings = json.load(file)
    folder = settings["folder"]
    listener = listen(folder, SOCKET)
    if settings["group"]:
        join_group(settings["group"])
    _detach(folder)
    _enter_home(settings["home"])
    become_keeper(lock_fd)
    journal = Journal(os.path.join(folder, STATUS_FILE))
    if not _import_engine(journal):
        sys.exit(1)
    journal.running(SCHEDULER)
    scheduler = fork_scheduler(settings)

    # Up to here all output went to the scheduler's log, where users look when nothing starts.
    from .keeper import run
    from .workers import write_to

    write_to(os.path.join(folder, "logs", "keeper.log"))
    run(settings, listener, journal, scheduler)


def _detach(folder: str) -> None:
    """Go on in a child that belongs to nobody; end here once it has written down who it is."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os._exit(0 if os.read(read_end, 1) else 1)
    os.close(read_end)
    path = os.path.join(folder, PID_FILE)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, json.dumps(identity(os.getpid())).encode())
    os.close(fd)
    os.replace(f"{path}.new", path)
    os.write(write_end, b"!")
    os.close(write_end)


def _enter_home(home: str) -> None:
    """Relative paths of tasks begin at the user's home; our own folder is on no search path of theirs."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own]
    try:
        os.chdir(home)
    except OSError as error:
        print(f"cannot work in the home folder {home} ({error.strerror}): relative paths begin at /", file=sys.stderr)
        os.chdir("/")


def _import_engine(journal: Journal) -> bool:
    """Import, once for all children, what a scheduler and a worker need. On failure leave a sentence."""
    try:
        __import__("distributed.cli.dask_scheduler")
    except ImportError as error:
        traceback.print_exc()
        if error.name in ("distributed", "dask"):
            why = f"{sys.executable} has no distributed: install dask[distributed] there"
        else:
            why = f"{sys.executable} cannot import distributed: {error}"
        journal.exited(SCHEDULER, code="cannot-start", why=why)
        return False
    except Exception as error:
        traceback.print_exc()
        why = f"{sys.executable} cannot import distributed: {type(error).__name__}: {error}"
        journal.exited(SCHEDULER, code="cannot-start", why=why)
        return False
    _import_the_rest()
    # What is there now lives as long as the process: the collector need not touch it, and its pages stay shared.
    gc.collect()
    gc.freeze()
    return True


def _import_the_rest() -> None:
    """Import what each scheduler and worker would otherwise import for itself while it starts."""
    for module in WARM:
        try:
            __import__(module)
        except Exception as error:  # Without Bokeh there are no dashboards, and all else works.
            print(f"cannot import {module}: {type(error).__name__}: {error}", file=sys.stderr)
