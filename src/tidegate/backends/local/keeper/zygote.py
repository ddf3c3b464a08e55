"""The zygote: a process that has all loaded which schedulers and workers need, and forks keepers on request.

How to think about it
---------------------
An interpreter that imports distributed costs a second; a fork of a process that did so long ago costs milliseconds, and
shares its memory. So for each Python (and user, and environment to start in) there is one process that is ready. It
knows no cluster and no secret: it is started with an empty home and without what the gateway's environment has, and
listens on a socket that only its users may reach. Nothing depends on it: a cluster that it has forked goes on without
it, and where there is none, keepers start in an interpreter of their own (``main.py``).

A launch is one connection of packets::

    gateway -> zygote   {"op": "fork", "launch_file": ..., "environment": {...}}, and two descriptors: launch lock, log
    keeper -> gateway   {"ready": true}     or {"refused": sentence}: start an interpreter instead
    gateway -> keeper   {"go": true}
    keeper -> gateway   {"ok": true}        now it is on record

The connection passes to the forked child, so its end says that there is neither zygote nor child any more that could
still become a keeper; and a child that hears no *go* ends. Whoever asks can therefore give up before it says *go*, be
killed, or ask somebody else, and still no more than one keeper comes to be.

A zygote ends when it is out of date (a package was installed, say), when nobody has been connected for a while, when
its folder is gone, or when it is told to (``{"op": "end"}``). Somebody else then starts another.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import Any

from .channel import listen, peer
from .main import keep, note_identity
from .pages import gather
from .preloads import compile_all
from .processes import CLUSTER, MARK
from .renewal import renew
from .warm import COMMON, CannotImport, ImportTimeSettings, Unfit, check_threads, freeze, import_engine, warm_up

# What lies in its folder. The folder's name says what all of it is for, so nothing in it is ever out of date but by
# what ``Source`` looks at.
SETTINGS_FILE = "zygote.json"
LOCK_FILE = "zygote.lock"
SOCKET_FILE = "zygote.sock"
PID_FILE = "zygote.pid"
LOG_FILE = "zygote.log"
HOME = "home"
"""An empty folder: the home of a process that knows no user."""

PACKET = 128 * 1024
"""Bytes of a request at the most: an environment, as large as Linux lets one variable be."""

CHECK_INTERVAL = 5.0
"""Seconds between two looks whether it is still of use."""

GO_TIMEOUT = 10.0
"""Seconds in which whoever asked for a keeper says that it still wants it. It does so at once, or never."""


def main(folder: str) -> None:
    """Be the zygote that ``folder/zygote.json`` describes.

    The first process ends with status 0 as soon as a zygote listens, this or another; else with a sentence on stderr.
    """
    lock = os.open(os.path.join(folder, LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with contextlib.suppress(OSError), contextlib.closing(connect(folder)):
        return  # Another was quicker.
    with open(os.path.join(folder, SETTINGS_FILE)) as file:
        settings = json.load(file)
    source = Source()
    recorded = ImportTimeSettings()
    try:
        with recorded.recording():
            import_engine((*COMMON, *settings["modules"], "tidegate_keeper.keeper"))
        warm_up(os.path.join(folder, "scratch"))
    except (CannotImport, Unfit) as error:
        sys.exit(str(error))
    source.add_modules()
    freeze()
    gather()
    listener = listen(folder, SOCKET_FILE, socket.SOCK_SEQPACKET)
    if os.fork():
        os._exit(0)
    note_identity(os.path.join(folder, PID_FILE))
    # From here on one that looks for the socket finds it; the lock has done its service.
    os.close(lock)
    Zygote(folder, settings, listener, source, recorded).serve()


def connect(folder: str) -> socket.socket:
    """Connect to the zygote of this folder, through a descriptor of the folder (see ``channel.listen``).

    Raises ``OSError`` when there is none, and also when so many wait to be accepted that one would have to wait.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.setblocking(False)  # One that accepts nobody must keep nobody waiting.
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET_FILE}")
        connection.setblocking(True)
    except OSError:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


class Source:
    """Where the loaded code came from, and whether it would be the same today.

    Looked at are folders in which packages lie (to install one changes its folder), and the files of modules that lie
    in none of them, such as a checkout in which somebody works.
    """

    def __init__(self) -> None:
        folders = [path for path in sys.path if path]
        self._paths = [os.path.realpath(sys.executable), os.path.join(sys.prefix, "pyvenv.cfg"), *folders]
        self._before = self._look()

    def add_modules(self) -> None:
        """Look also at the files of what was imported from other places."""
        installed = (sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(__file__)))
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        more = [file for file in files if isinstance(file, str) and not file.startswith(installed)]
        self._paths += more
        self._before += self._look(more)

    def is_unchanged(self) -> bool:
        """Return whether an interpreter that starts now would load the same."""
        return self._look() == self._before

    def _look(self, paths: list[str] | None = None) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in (self._paths if paths is None else paths)]


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class Zygote:
    """Serves requests until it is of no more use.

    Parameters
    ----------
    folder : str
    settings : dict
        ``users`` who may ask (user ids); ``idle``: seconds after which it ends when nobody is connected.
    listener : socket
    source, recorded
        What was loaded.
    """

    def __init__(
        self,
        folder: str,
        settings: dict[str, Any],
        listener: socket.socket,
        source: Source,
        recorded: ImportTimeSettings,
    ) -> None:
        self._folder = folder
        self._allowed = {os.getuid(), *settings["users"]}
        self._idle = settings["idle"]
        self._listener = listener
        self._source = source
        self._recorded = recorded
        self._connections: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._end = ""

    def serve(self) -> None:
        """Serve until the end has a reason, and say it in the log."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody waits for keepers.
        self._poll.register(self._listener, select.POLLIN)
        used = checked = time.monotonic()
        self._end = self._find_out_of_date()  # what has changed, or was given up, while it warmed up
        while not self._end:
            for fd, _ in self._poll.poll(CHECK_INTERVAL * 1000):
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._connections:
                    self._obey(self._connections[fd])
            now = time.monotonic()
            used = now if self._connections else used
            if now - used > self._idle:
                self._end = f"nobody was connected for {self._idle:g} s"
            elif now - checked > CHECK_INTERVAL:
                checked = now
                self._end = self._end or self._find_out_of_date()
        print(f"tidegate: the zygote {os.getpid()} ends: {self._end}", file=sys.stderr)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if peer(connection) not in self._allowed:
            connection.close()
            return
        self._connections[connection.fileno()] = connection
        self._poll.register(connection, select.POLLIN)

    def _drop(self, connection: socket.socket) -> None:
        self._poll.unregister(connection)
        del self._connections[connection.fileno()]
        connection.close()

    def _obey(self, connection: socket.socket) -> None:
        given: list[int] = []
        try:
            packet, given, _, _ = socket.recv_fds(connection, PACKET, 2, socket.MSG_CMSG_CLOEXEC)
            request = json.loads(packet or b"{}")
            if request.get("op") == "fork" and len(given) == 2:
                with open(request["launch_file"]) as file:
                    compile_all(json.load(file)["preloads"])
                self._fork(connection, request, *given)
            elif request.get("op") == "end":
                self._end = "it was told to"
        except Exception as error:  # Whatever it was, it must not cost the others their zygote.
            print(f"tidegate: cannot understand a request: {type(error).__name__}: {error}", file=sys.stderr)
        # What is forked has the connection now; else its end is the answer.
        self._drop(connection)
        for fd in given:
            os.close(fd)

    def _find_out_of_date(self) -> str:
        if not os.path.exists(os.path.join(self._folder, SETTINGS_FILE)):
            return "its folder is gone"
        return "" if self._source.is_unchanged() else "its packages have changed"

    # -- the fork ------------------------------------------------------------------------------------------------------

    def _fork(self, connection: socket.socket, request: dict[str, Any], lock: int, log: int) -> None:
        self._end = self._end or self._find_out_of_date()
        try:
            check_threads()
        except Unfit as error:
            self._end = str(error)
        if self._end:
            _say(connection, {"refused": self._end})
        elif os.fork() == 0:
            status = 1
            try:
                self._become_keeper(connection, request, lock, log)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

    def _become_keeper(self, connection: socket.socket, request: dict[str, Any], lock: int, log: int) -> None:
        """Be the keeper that was asked for, in the forked child. Returns only if it is not to be."""
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._leave(connection, lock, log)
        renew(request["environment"])
        differing = self._recorded.differing()
        if differing:
            _say(connection, {"refused": f"the user's configuration of Dask sets {', '.join(differing)} otherwise"})
            return
        _say(connection, {"ready": True})
        connection.settimeout(GO_TIMEOUT)
        if not connection.recv(PACKET):
            return  # Whoever asked has given up, or died.

        def tell() -> None:
            _say(connection, {"ok": True})
            connection.close()

        sys.argv = ["tidegate_keeper", request["launch_file"], str(lock)]
        keep(request["launch_file"], lock, tell)

    def _leave(self, connection: socket.socket, lock: int, log: int) -> None:
        """Let go of all that is the zygote's, and write to the cluster's log from now on."""
        self._listener.close()
        for other in list(self._connections.values()):
            if other is not connection:
                other.close()
        null = os.open(os.devnull, os.O_RDWR)
        for fd, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(fd, target)
        kept = {0, 1, 2, lock, connection.fileno()}
        for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
            if fd not in kept:
                with contextlib.suppress(OSError):  # That of the listing itself.
                    os.close(fd)


def _say(connection: socket.socket, packet: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # Nobody listens any more.
        connection.send(json.dumps(packet).encode())


def describe(launch_file: str, environment: dict[str, str]) -> bytes:
    """Return the packet that asks for a keeper."""
    if not {MARK, CLUSTER} <= environment.keys():
        raise ValueError("cannot fork a keeper without its cluster's mark")
    return json.dumps({"op": "fork", "launch_file": launch_file, "environment": environment}).encode()
