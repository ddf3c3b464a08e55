"""The gateway's side of zygotes (``keeper/zygote.py``): keeps some of them warm, and asks them for keepers.

How to think about it
---------------------
A zygote stands for everything that an interpreter would be started with: the Python, the account, the environment, the
version of the keeper's code, the modules that the administrator named. All of that is in the name of its folder, so
whoever looks there finds a zygote that fits or none, and a gateway that is restarted finds the ones of the last.

For each that is in use there is a thread: it starts the zygote unless one listens, stays connected, by which the zygote
knows that it is of use, and begins again when the connection ends. A launch never waits for that. It asks if there is
a zygote, and where there is none, or its answer is no, the launcher starts an interpreter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.backends.local.accounts import Account, of_folder
from tidegate.backends.local.folder import write_whole
from tidegate.backends.local.keeper import renewal, zygote
from tidegate.backends.local.keeper.channel import peer
from tidegate.backends.local.settings import LocalSettings
from tidegate.backends.local.starting import wait_for_end
from tidegate.model.errors import BackendFailed

log = logging.getLogger(__name__)

READY_TIMEOUT = 10.0
"""Seconds in which what was forked is ready. It takes hundredths, and more on a machine that is overloaded;
longer, and an interpreter is started instead."""

RECORD_TIMEOUT = 20.0
"""Seconds in which a keeper that was told to go on is on record: as for an interpreter."""

WARM_TIMEOUT = 120.0
"""Seconds in which a zygote must have warmed up. It takes one or two; on a network file system perhaps thirty."""

RETRY = 300.0
"""Seconds until the next try for one that could not warm up: it would most likely fail again."""

AGAIN = 1.0
"""Seconds until one that has ended is replaced: whatever changed its packages may still be at it."""

IDLE = 60.0
"""Seconds for which a zygote outlives the last gateway: longer than a restart takes."""

SINGLE_THREADED = {
    # Libraries that start their threads while they are imported. What workers may use is set when they are forked.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

LOG_BYTES = 64 * 1024
"""How much of the end of a zygote's log is read to find its last line."""

OF_A_CLUSTER = ("TIDEGATE_", "DASK_")
"""How the names of variables begin that a zygote is started without: what is forked sets and reads them itself."""


@dataclass(frozen=True)
class Kind:
    """What tells one zygote from another."""

    account: Account
    python: str
    environment: tuple[tuple[str, str], ...]

    def name(self, *more: str) -> str:
        """Return the name of its folder."""
        what = [str(self.account.uid), str(self.account.gid), *map(str, self.account.groups), self.python, *more]
        return hashlib.sha256(json.dumps([what, self.environment]).encode()).hexdigest()[:16]


class Stuck(Exception):
    """A keeper may or may not come to be; says so in a sentence."""


class Zygotes:
    """The zygotes of one gateway.

    Parameters
    ----------
    root : Path
        The folder below which each has its own.
    settings : LocalSettings
    """

    def __init__(self, root: Path, settings: LocalSettings) -> None:
        self._root = root
        self._settings = settings
        self._lock = threading.Lock()
        self._kept: dict[Kind, _Kept] = {}

    def prepare(self, code: Path) -> None:
        """Note where ``tidegate_keeper`` can be imported."""
        self._code = code

    def keep_warm(self, account: Account, python: str, environment: Mapping[str, str]) -> Path:
        """See to it that there is a zygote for keepers with this ``environment``; return its folder at once."""
        kind = Kind(account, python, tuple(sorted(_common(environment).items())))
        folder = self._root / kind.name(self._code.name, *self._settings.preload_modules)
        dropped = []
        with self._lock:
            if self._settings.zygotes:
                # The last used is the last.
                kept = self._kept.pop(kind) if kind in self._kept else _Kept(self._start, kind, folder)
                self._kept[kind] = kept
            while len(self._kept) > self._settings.zygotes:
                dropped.append(self._kept.pop(next(iter(self._kept))))
        for kept in dropped:
            kept.end()
        return folder

    def fork(
        self, account: Account, python: str, environment: Mapping[str, str], launch_file: Path, lock: int, log_fd: int
    ) -> bool:
        """Have a keeper forked; return whether one is on record.

        If not, none will be, and whoever asked may start one otherwise.

        Raises
        ------
        Stuck
            One was forked, and neither ends nor gets on record.

        Parameters
        ----------
        account, python, environment
            What the keeper is to be started as, and with.
        launch_file : Path
        lock, log_fd : int
            Descriptors of the launch's lock, and of the log to write to.
        """
        folder = self.keep_warm(account, python, environment)
        try:
            with _connect(folder, account) as connection:
                connection.settimeout(READY_TIMEOUT)
                request = zygote.describe(str(launch_file), dict(environment))
                socket.send_fds(connection, [request], [lock, log_fd])
                answer = _receive(connection)
                if "ready" in answer:
                    return _let_go_on(connection)
        except (OSError, ValueError) as error:
            # It has not been told to go on, so it ends when it sees that nobody is there any more.
            answer = {"refused": f"{type(error).__name__}: {error}"}
        log.info("no keeper was forked: %s", answer.get("refused", "the zygote ended"))
        return False

    def close(self, *, end: bool) -> None:
        """Let go of all. They go on for a while, for the next gateway, unless they are to ``end``."""
        with self._lock:
            dropped = list(self._kept.values())
            self._kept.clear()
        for kept in dropped:
            if end:
                kept.end()
            else:
                kept.let_go()

    def _start(self, kind: Kind, folder: Path, note: Callable[[subprocess.Popen[bytes] | None], None]) -> str:
        """Start a zygote and wait until it listens. Return what went wrong; empty if nothing did.

        Meanwhile it is noted, so that it can be ended.
        """
        _make_folder(self._root, folder, kind.account)
        with kind.account.acting():
            settings = {
                "users": [os.getuid()],
                "modules": list(self._settings.preload_modules),
                "idle": IDLE,
            }
            write_whole(folder / zygote.SETTINGS_FILE, json.dumps(settings).encode())
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            log_fd = os.open(folder / zygote.LOG_FILE, flags, 0o600)
        with os.fdopen(log_fd, "wb") as output:
            home = dict(kind.environment).get("HOME", kind.account.home)
            environment = {
                **dict(kind.environment),
                **SINGLE_THREADED,
                "HOME": str(folder / zygote.HOME),
                # Where packages lie that a user has installed for himself alone.
                "PYTHONUSERBASE": os.path.join(home, ".local"),
                renewal.ROOM: "-" * renewal.ROOM_LENGTH,
            }
            process = subprocess.Popen(
                [kind.python, "-u", "-m", "tidegate_keeper", "--zygote", str(folder)],
                cwd=self._code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **kind.account.popen_arguments(),
            )
        note(process)
        try:
            status = wait_for_end(process, WARM_TIMEOUT)
        finally:
            note(None)
        with kind.account.acting():
            return "" if status == 0 else f"{_last_line(folder / zygote.LOG_FILE)} ({folder / zygote.LOG_FILE})"


class _Kept:
    """A thread that sees to it that a zygote is there, until it is told not to."""

    def __init__(
        self,
        start: Callable[[Kind, Path, Callable[[subprocess.Popen[bytes] | None], None]], str],
        kind: Kind,
        folder: Path,
    ) -> None:
        self._start = start
        self._kind = kind
        self._folder = folder
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._warming: subprocess.Popen[bytes] | None = None
        self._over = threading.Event()
        threading.Thread(target=self._run, name=f"zygote-{folder.name}", daemon=True).start()

    def let_go(self) -> None:
        """Go on without it; it ends when nobody has asked for it for a while."""
        self._over.set()
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Have it end: its memory is wanted for another, or nobody will come for it any more."""
        self._over.set()
        self._unwant()
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.send(b'{"op": "end"}')
            elif self._warming is not None:
                self._warming.kill()
        # It may listen already, though our own connection is not there yet.
        with contextlib.suppress(OSError), _connect(self._folder, self._kind.account) as connection:
            connection.send(b'{"op": "end"}')
        self.let_go()

    def _unwant(self) -> None:
        """Take away the settings of one that listens to nobody yet: a gateway before us may have left it warming up.

        It looks for them when it begins to listen, and ends without.
        """
        with self._kind.account.acting(), contextlib.suppress(OSError):
            (self._folder / zygote.SETTINGS_FILE).unlink()

    def _note(self, process: subprocess.Popen[bytes] | None) -> None:
        with self._lock:
            self._warming = process
            if process is not None and self._over.is_set():
                process.kill()
                self._unwant()  # they were written again, for this one

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                connection = _connect(self._folder, self._kind.account)
            except (OSError, BackendFailed):
                problem = self._try_to_start()
                if problem and not self._over.is_set():
                    log.warning(
                        "clusters of %s start slowly: its zygote could not warm up: %s", self._kind.python, problem
                    )
                self._over.wait(RETRY if problem else 0)
            else:
                self._stay(connection)
                self._over.wait(AGAIN)

    def _try_to_start(self) -> str:
        try:
            return self._start(self._kind, self._folder, self._note)
        except Exception as error:  # Whatever it was, it may be over at the next try.
            return f"{type(error).__name__}: {error}"

    def _stay(self, connection: socket.socket) -> None:
        with connection:
            with self._lock:
                self._connection = connection
            with contextlib.suppress(OSError):
                while not self._over.is_set() and connection.recv(1):
                    pass
            with self._lock:
                self._connection = None


def _common(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what all clusters of an account have in their environment."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(OF_A_CLUSTER) and name not in SINGLE_THREADED
    }


def _make_folder(root: Path, folder: Path, account: Account) -> None:
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    # Nobody but us writes in the folder above, so what is here is what we made, if need be a crash ago.
    if account.foreign and of_folder(folder).uid == os.geteuid():
        os.chown(folder, account.uid, account.gid)
    with account.acting():
        (folder / zygote.HOME).mkdir(mode=0o700, exist_ok=True)


def _connect(folder: Path, account: Account) -> socket.socket:
    with account.acting():
        connection = zygote.connect(str(folder))
    if peer(connection) != account.uid:
        connection.close()
        raise PermissionError(f"what listens in {folder} is not of the user {account.uid}")
    return connection


def _let_go_on(connection: socket.socket) -> bool:
    """Tell a keeper that it is wanted; return whether it then got on record, or else has ended."""
    try:
        connection.send(b'{"go": true}')
    except OSError:
        return False  # It has ended already.
    connection.settimeout(RECORD_TIMEOUT)
    try:
        return "ok" in _receive(connection)
    except TimeoutError as error:
        raise Stuck(f"the keeper that was forked did not come on record within {RECORD_TIMEOUT:g} s") from error
    except (OSError, ValueError):
        return False


def _receive(connection: socket.socket) -> dict[str, Any]:
    """Return an answer; empty if there will be none."""
    answer = json.loads(connection.recv(zygote.PACKET) or b"{}")
    return answer if isinstance(answer, dict) else {}


def _last_line(path: Path) -> str:
    """Return what a program said last. It may have put anything in the place of its log: a link, a pipe, a device."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                return "what it said is not in its log"
            file.seek(max(0, found.st_size - LOG_BYTES))
            lines = file.read(LOG_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return "it said nothing"
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
