"""A cluster's folder: what lies in it, and what can be read from it without asking anybody.

::

    clusters/NAME/           mode 0700
        secrets/             certificates, keys, token: removed when the cluster stops
        logs/                scheduler.log, WORKER.log, keeper.log: kept until the cluster is forgotten
        scratch/             where workers spill, unless that is elsewhere
        launch.json          what was asked to start; its presence says that a launch began
        keeper.lock          locked by whoever launches, then by the keeper
        keeper.pid           which process the keeper is; its presence says that the launch succeeded
        keeper.sock          where it takes requests
        status.jsonl         what happened to each process (``statuses.py`` reads it)

It belongs to the account that the cluster runs as, whose processes can do in it what they like. So all of it is read
and written with that account's rights (``accounts.py``), through no link, waiting for nothing, and no further than an
honest file goes. The one thing in it that we believe is ``launch.json``, which belongs to *us*.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tidegate.backends.local.accounts import Account, of_folder, user_of
from tidegate.backends.local.keeper import LOCK_FILE, PID_FILE, STATUS_FILE
from tidegate.backends.local.keeper.journal import SCHEDULER
from tidegate.backends.local.keeper.processes import identity, raise_if_short
from tidegate.backends.local.keeper.scratch import make_private
from tidegate.backends.local.removal import empty_tree, remove_tree
from tidegate.backends.local.statuses import Status, Statuses, Unread, is_process
from tidegate.model.errors import BackendFailed, Invalid
from tidegate.model.observation import ProcessSeen

log = logging.getLogger(__name__)

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

LOG_BYTES = 512 * 1024
"""How much of the end of a log is read to find its last lines: 200 lines of 2,600 characters."""

NOTE_BYTES = 64 * 1024
"""How much is read of the small files: an honest one has 4 kB."""

LOGS = 20_000
"""How many logs are listed. An honest keeper leaves those of 200 workers that have ended (``keeper/logs.py``)."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class ClusterFolder:
    """The folder of one cluster, present or not."""

    def __init__(self, root: Path, name: str) -> None:
        if not NAME.fullmatch(name):
            raise Invalid(f"cannot name a cluster {name!r}: use lower-case letters, digits and dashes")
        self.name = name
        self.path = root / name
        self.secrets = self.path / "secrets"
        self.logs = self.path / "logs"
        self.launch_file = self.path / "launch.json"
        self.pid_file = self.path / PID_FILE
        self.status_file = self.path / STATUS_FILE
        self.lock_file = self.path / LOCK_FILE
        self._statuses = Statuses(name, lambda: self._open(self.status_file))
        self.ends: dict[Status, ProcessSeen] = {}
        """What was seen of processes that have ended, so that their logs are read once."""

    # -- writing -------------------------------------------------------------------------------------------------------

    def give_to(self, account: Account) -> None:
        """Make the folder, for this account."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Nobody but us writes in the folder above, so what is here is what we made, if need be a crash ago.
        if self.account.uid == os.geteuid() and account.foreign:
            os.chown(self.path, account.uid, account.gid)
        if self.account.uid != account.uid:
            raise BackendFailed(
                f"cannot launch the cluster {self.name}: its folder belongs to another account than its owner's",
                detail=f"{self.path} belongs to user id {self.account.uid}, {account.name} has {account.uid}",
                permanent=True,
            )

    def create(self, files: Mapping[str, bytes]) -> None:
        """Lay down ``files``, each whole or not at all, for nobody else to read."""
        with self.account.acting():
            for folder in (self.secrets, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
            for name, content in files.items():
                if os.path.basename(name) != name or not name.strip("."):
                    raise Invalid(f"cannot hand over a file named {name!r}")
                write_whole(self.secrets / name, content)

    def make_scratch(self, path: Path) -> None:
        """Make the folder in which workers spill."""
        account = self.account
        with account.acting():
            path.parent.mkdir(parents=True, exist_ok=True)
            make_private(str(path), account.uid)

    def write_launch(self, settings: Mapping[str, Any]) -> None:
        """Note what is asked to start: our file, which the keeper can read."""
        mode = 0o644 if self.account.foreign else 0o600
        write_whole(self.launch_file, json.dumps(settings, indent=1).encode(), mode)

    def forget_attempt(self) -> None:
        """Remove the traces of an earlier attempt that has ended, but its logs."""
        with self.account.acting():
            for file in (self.pid_file, self.status_file, self.launch_file):
                file.unlink(missing_ok=True)
        self._statuses.forget()
        self.ends.clear()

    def remove_secrets(self) -> None:
        """Remove what must not outlast the processes: secrets, and what workers spilled."""
        scratch = self.read_launch().get("scratch")
        with self.account.acting(), suppress(FileNotFoundError):
            os.chmod(self.path, 0o700)  # Its owner may have closed it to themselves.
            remove_tree(self.secrets)
            # What cannot be removed must not keep the cluster from having ended.
            with suppress(OSError):
                self.secrets.rename(self.path / f".left-{os.urandom(8).hex()}")
        if scratch:
            with self.account.acting():
                remove_tree(Path(scratch))

    def remove(self) -> None:
        """Remove everything that the account could remove itself."""
        self.remove_secrets()
        with self.account.acting():
            empty_tree(self.path)
        try:
            self.path.rmdir()  # It stands in a folder of ours.
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("cannot remove %s: %s; what is in it belongs to others than its owner", self.path, error)

    def open_to_write(self, file: Path, flags: int) -> int:
        """Open one of the folder's own files as who runs in it; return its descriptor."""
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self.account.acting():
            return os.open(file, flags, 0o600)

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def account(self) -> Account:
        """As whom the cluster runs."""
        return of_folder(self.path)

    def read_launch(self) -> dict[str, Any]:
        """Return what was asked to start; empty if nothing was."""
        noted = self._read_note(self.launch_file, os.geteuid())
        # Ours, but perhaps another cluster's of the same account, which can move it.
        return noted if noted.get("cluster") == self.name else {}

    @property
    def launched(self) -> bool:
        """Whether a keeper was started, alive or not."""
        return self._has(self.pid_file)

    @property
    def has_secrets(self) -> bool:
        """Whether secrets lie here."""
        return self._has(self.secrets)

    def keeper(self) -> int | None:
        """Return the process id of the keeper if it lives."""
        uid = self.account.uid
        noted = self._read_note(self.pid_file, uid)
        pid = noted.get("pid")
        if not isinstance(pid, int) or pid <= 0 or identity(pid) != noted:
            return None
        # The account can write any number there. Its own processes are at its mercy anyway; those of others are not.
        return pid if user_of(pid) == uid else None

    def statuses(self) -> dict[str, Status]:
        """Return the last status of each process (``statuses.py``); raises ``Unread`` when it is not known yet."""
        return self._statuses.read()

    def has_listening_keeper(self) -> bool:
        """Say whether a keeper lives that takes requests; before there is a scheduler it still imports."""
        if self.keeper() is None:
            return False
        try:
            return SCHEDULER in self.statuses()
        except Unread:  # So much is written only where there long was one.
            return True

    @property
    def is_unread(self) -> bool:
        """Whether the last look at the journal did not come to its end."""
        return self._statuses.is_unread

    def log_tail(self, process: str, lines: int, limit: int = LOG_BYTES) -> str:
        """Return the last lines of the log of ``process``, at most ``limit`` bytes; empty if there is none."""
        try:
            with self._open(self.logs / f"{process}.log") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - limit))
                text = file.read(limit).decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:]) if lines > 0 else ""

    def logged(self, *, newest_first: bool = False) -> list[str]:
        """Return which processes have a log: the scheduler first, then the workers in the order of their numbers.

        With ``newest_first`` the workers come in the order in which their logs were last written to.
        """
        with self.account.acting():
            files = _logs_in(self.logs)
            written = {name: _written_at(file) if newest_first else 0.0 for name, file in files.items()}

        def order(name: str) -> tuple[bool, float, list[int], str]:
            return name != SCHEDULER, -written[name], [int(p) if p.isdigit() else -1 for p in name.split("-")], name

        return sorted(files, key=order)

    @contextmanager
    def _open(self, file: Path) -> Iterator[BinaryIO]:
        """Open a file of the folder to read. ``OSError`` when it is none, or not of the cluster's own account."""
        with self._open_as(file, self.account.uid) as opened:
            yield opened

    @contextmanager
    def _open_as(self, file: Path, uid: int) -> Iterator[BinaryIO]:
        # One step after the other: no part of the path below our own folder is a link.
        with self.account.acting():
            fd = os.open(self.path, _FOLDER)
            for part in file.relative_to(self.path).parts:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                flags |= 0 if part == file.name else os.O_DIRECTORY
                try:
                    below = os.open(part, flags, dir_fd=fd)
                finally:
                    os.close(fd)
                fd = below
        with os.fdopen(fd, "rb") as opened:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != uid:
                raise FileNotFoundError(f"{file} is not what we look for")
            yield opened

    def _read_note(self, file: Path, uid: int) -> dict[str, Any]:
        try:
            with self._open_as(file, uid) as opened:
                content = json.loads(opened.read(NOTE_BYTES))
        except OSError as error:
            raise_if_short(error)
            return {}
        except (ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _has(self, file: Path) -> bool:
        try:
            with self.account.acting():
                file.lstat()
        except OSError:
            return False
        return True


def folders(root: Path) -> Iterator[ClusterFolder]:
    """Yield every cluster's folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    yield from (ClusterFolder(root, name) for name in names if NAME.fullmatch(name))


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file that only its owner may read; whoever reads it sees all of it or what was before."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, mode)
    new.replace(path)


def _written_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0  # It was removed meanwhile.


def _logs_in(folder: Path) -> dict[str, Path]:
    try:
        with os.scandir(folder) as entries:
            files = [Path(entry.path) for entry in islice(entries, LOGS)]
    except OSError:
        return {}
    return {file.stem: file for file in files if file.suffix == ".log" and is_process(file.stem)}
