"""Giving up root: the gateway becomes an account of its own, and leaves behind what must stay root.

Where a backend is privileged, or ``user`` is set, ``tidegate serve`` is started as root. Then it parts in two. The
process that was started stays root, keeps the launcher running (``launcher.py``), and does nothing else: it reads
nothing from anybody, and opens no port. Its child becomes the account ``user`` for good, and is the supervisor, as
anywhere else; all that it starts is that account's too. When one of the two ends, so does the other.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.backends.local.accounts import Account, named
from tidegate.config.load import Loaded
from tidegate.server import preflight
from tidegate.server.backend import is_privileged, make_backend
from tidegate.server.children import Say, describe_end, open_log
from tidegate.server.imports import check_imports
from tidegate.server.parent import die_with
from tidegate.server.preflight import CannotServe

READY_SECONDS = 30.0
"""How long the launcher may take until it serves: its imports take one, on a cold disk several."""

PAUSE, LONGEST_PAUSE = 0.2, 3.0
"""Seconds before the launcher is started again, at first and at the most; control waits ten for it."""

SOON = 30.0
"""Seconds that it must have lived for its end not to count with those before."""

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What the process that stays root passes on. Its child has a session of its own, so that Ctrl-C comes once."""


def give_up_root(loaded: Loaded, say: Say) -> None:
    """Return as the account that the gateway is to run as: at once, or in a child of this process.

    Raises
    ------
    CannotServe
        When root is needed and is not there, there is no account to become, or others could change what stays root.
    """
    privileged, user = is_privileged(make_backend(loaded)), loaded.settings.user
    if os.geteuid() != 0:
        if privileged:
            raise CannotServe(
                "cannot run clusters under their owners' accounts: the gateway was not started as root. Start it as "
                "root, or set backend.accounts to gateway"
            )
        return
    if user is None and not privileged:
        return
    account = _find(user)
    data = loaded.settings.data
    _prepare_data(data, account)
    if not privileged:
        _become(account)
        return
    check_imports(loaded.file)
    with account.acting():
        lock = preflight.lock(data / "launcher.lock", f"cannot start: a gateway is running on {data} already")
    launcher = _Launcher(loaded, account)
    launcher.start()
    sys.stdout.flush()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        os.close(lock)
        launcher.end()
        os.setsid()
        _become(account)
        die_with(parent, signal.SIGTERM)
        return
    sys.exit(_look_after(child, launcher, say))


def _find(user: str | None) -> Account:
    account = named(user) if user is not None else None
    if account is None or account.uid == 0:
        given = f"{user!r} is " + ("root" if account else "no account of this machine") if user else "it is not set"
        raise CannotServe(
            f"cannot start as root: the gateway needs an account of its own to run as, and for user {given}. Run "
            "useradd --system tidegate, and set user to tidegate"
        )
    return account


def _prepare_data(folder: Path, account: Account) -> None:
    """Make the data folder for the account; one that was left to root empty, by a crash, is given to it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_uid == 0 and not os.listdir(descriptor):
            os.fchown(descriptor, account.uid, account.gid)
        if os.fstat(descriptor).st_uid != account.uid:
            raise CannotServe(
                f"cannot use {folder} for data: it does not belong to {account.name}, as whom the gateway runs. Run "
                f"chown -R {account.name} {folder}, or choose another with --data"
            )
    finally:
        os.close(descriptor)
    with account.acting():
        try:
            for name in ("run", "logs"):
                (folder / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise CannotServe(
                f"cannot use {folder} for data: {account.name}, as whom the gateway runs, cannot work there "
                f"({error.strerror}). Choose another with --data, such as /var/lib/tidegate"
            ) from None


def _become(account: Account) -> None:
    """Become the account, for good: the groups first, the user last, for he may change none of it."""
    os.setgroups(account.groups)
    os.setgid(account.gid)
    os.setuid(account.uid)
    os.environ.update({"HOME": account.home, "USER": account.name, "LOGNAME": account.name, "SHELL": account.shell})


def _look_after(child: int, launcher: _Launcher, say: Say) -> int:
    """Keep the launcher running for as long as the child lives; return what to end with."""
    for number in FORWARDED:
        signal.signal(number, lambda number, _: _send(child, number))
    pause, failure = PAUSE, ""
    while True:
        # When it could not be started, there is no end of it to wait for, but the child's may have come.
        pid, status = os.waitpid(-1, os.WNOHANG if failure else 0)
        code = os.waitstatus_to_exitcode(status)
        if pid == child:
            launcher.end()
            return code if code >= 0 else 128 - code
        if not failure and pid != launcher.pid:
            continue
        if time.monotonic() - launcher.began > SOON:
            pause = PAUSE
        say(f"The launcher ended ({failure or describe_end(code)}); it is started again in {pause:g} s.")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        failure = _start_again(launcher)


def _start_again(launcher: _Launcher) -> str:
    """Start the launcher; return why there is no process of it, if so."""
    try:
        launcher.start()
    except CannotServe:  # it ends, which is heard of in the next round
        pass
    except OSError as error:
        return f"it could not be started: {error.strerror or error}"
    return ""


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class _Launcher:
    """The launcher's process, as its parent sees it."""

    def __init__(self, loaded: Loaded, account: Account) -> None:
        self._account = account
        self._log = loaded.settings.data / "logs" / "launcher.log"
        greeting = {"settings": loaded.settings.model_dump(mode="json"), "folder": str(loaded.folder)}
        self._greeting = json.dumps({**greeting, "uid": account.uid, "gid": account.gid}).encode()
        self._channel = socket.socket(socket.AF_UNIX)
        self.pid = 0
        self.began = 0.0

    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises
        ------
        CannotServe
            When it says why it cannot; it ends then.
        """
        self.began = time.monotonic()
        self._channel.close()
        # For as long as this end is open, it stays.
        self._channel, theirs = socket.socketpair()
        with theirs, self._output() as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tidegate.server.launcher", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            self.pid = process.pid
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(self._greeting)
            theirs.close()
            answer = _hear(self._channel)
        # It is waited for with all others, not by the object, which would otherwise complain.
        process.returncode = 0
        if "ready" not in answer:
            raise CannotServe(answer.get("failed", f"cannot start the launcher: {self._log} tells more"))

    def end(self) -> None:
        """Have it end. It holds nothing, so there is nothing to wait for."""
        self._channel.close()

    @contextlib.contextmanager
    def _output(self) -> Iterator[int]:
        # The folder is the account's.
        with self._account.acting():
            output = open_log(self._log)
        try:
            yield output
        finally:
            os.close(output)


def _hear(end: socket.socket) -> dict[str, Any]:
    """Return what the launcher says of its start; nothing if it says nothing."""
    end.settimeout(READY_SECONDS)
    try:
        return dict(json.loads(end.recv(65536) or b"{}"))
    except (OSError, ValueError):
        return {}
