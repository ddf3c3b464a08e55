"""The first steps of a keeper: be on record, load the engine, fork the scheduler, and only then begin to run a loop.

``keep`` is the one way there, from wherever a process comes that is to be a keeper: from an interpreter started for
just this cluster (``main``), or forked from a zygote (``zygote.py``), where the engine is loaded already.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable

from . import PID_FILE, SOCKET, STATUS_FILE
from .channel import listen
from .children import become_keeper
from .groups import SCHEDULER as SCHEDULER_GROUP
from .groups import Group
from .journal import SCHEDULER, Journal
from .preloads import compile_all
from .processes import identity
from .scheduler import fork_scheduler
from .variables import take_variables
from .warm import CannotImport, freeze, import_engine


def main(launch_file: str, lock_fd: int) -> None:
    """Become the keeper that ``launch_file`` describes, in a child that belongs to nobody.

    The first process ends with status 0 as soon as the keeper is on record: then it will be found, whatever happens.
    """
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os._exit(0 if os.read(read_end, 1) else 1)
    os.close(read_end)

    def tell() -> None:
        os.write(write_end, b"!")
        os.close(write_end)

    keep(launch_file, lock_fd, tell)


def keep(launch_file: str, lock_fd: int, tell: Callable[[], None]) -> None:
    """Be the keeper that ``launch_file`` describes. Does not return.

    Parameters
    ----------
    launch_file : str
        Written by the launcher: ``launcher._describe``.
    lock_fd : int
        The lock of the launch, held for as long as the keeper lives: the promise that there is no other.
    tell : callable
        Is called as soon as the keeper is on record.
    """
    with open(launch_file) as file:
        settings = json.load(file)
    folder = settings["folder"]
    listener = listen(folder, SOCKET)
    # A core dump has the data of its user in it, and as many bytes. Who wants one can raise the limit again.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    note_identity(os.path.join(folder, PID_FILE))
    tell()
    _enter_home(settings["home"])
    become_keeper(lock_fd)
    journal = Journal(os.path.join(folder, STATUS_FILE))
    try:
        import_engine()
    except CannotImport as error:
        journal.exited(SCHEDULER, code="cannot-start", why=str(error))
        sys.exit(1)
    take_variables(settings["variables"])
    compile_all(settings["preloads"])
    freeze()
    journal.running(SCHEDULER)
    # Each moves itself, and not the keeper both before the fork: it takes a while, in which they can begin.
    group = Group(settings["groups"]).below(SCHEDULER_GROUP)
    scheduler = fork_scheduler(settings, group)
    group.join_meanwhile()

    # Up to here all output went to the scheduler's log, where users look when nothing starts.
    from .keeper import run
    from .workers import write_to

    write_to(os.path.join(folder, "logs", "keeper.log"))
    run(settings, listener, journal, scheduler)


def note_identity(path: str) -> None:
    """Write down who this process is, for those who will look for it."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(fd, json.dumps(identity(os.getpid())).encode())
    os.close(fd)
    os.replace(f"{path}.new", path)


def _enter_home(home: str) -> None:
    """Relative paths of tasks begin at the user's home; our own folder is on no search path of theirs."""
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != own]
    try:
        os.chdir(home)
    except OSError as error:
        print(f"cannot work in the home folder {home} ({error.strerror}): relative paths begin at /", file=sys.stderr)
        os.chdir("/")
