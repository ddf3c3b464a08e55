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
        status.jsonl         what happened to each process (``keeper/journal.py``)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.backends.local.keeper import LOCK_FILE, PID_FILE, STATUS_FILE
from tidegate.backends.local.keeper.journal import SCHEDULER
from tidegate.backends.local.keeper.processes import identity
from tidegate.model.errors import Invalid
from tidegate.model.observation import ProcessSeen

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
WORKER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}-[0-9]{1,12}")

LOG_BYTES = 512 * 1024
"""How much of the end of a log is read to find its last lines: 200 lines of 2,600 characters."""

READ_BYTES = 64 * 1024 * 1024
"""How much of a journal is read at a time; the rest at the next look. An honest one has 200 bytes a line."""


@dataclass(frozen=True)
class Status:
    """The last line of the journal about one process."""

    process: str
    state: str
    why: str = ""
    code: str = ""
    expected: bool = False


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
        self._reading = threading.Lock()
        self._offset = 0
        self._statuses: dict[str, Status] = {}
        self.ends: dict[Status, ProcessSeen] = {}
        """What was seen of processes that have ended, so that their logs are read once."""

    # -- writing -------------------------------------------------------------------------------------------------------

    def create(self, files: Mapping[str, bytes]) -> None:
        """Make the folder and lay down ``files``, each whole or not at all, for nobody else to read."""
        for folder in (self.path, self.secrets, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            if os.path.basename(name) != name or not name.strip("."):
                raise Invalid(f"cannot hand over a file named {name!r}")
            write_whole(self.secrets / name, content)

    def write_launch(self, settings: Mapping[str, Any]) -> None:
        """Note what is asked to start."""
        write_whole(self.launch_file, json.dumps(settings, indent=1).encode())

    def forget_attempt(self) -> None:
        """Remove the traces of an earlier attempt that has ended, but its logs."""
        for file in (self.pid_file, self.status_file, self.launch_file):
            file.unlink(missing_ok=True)
        self._offset, self._statuses = 0, {}
        self.ends.clear()

    def remove_secrets(self) -> None:
        """Remove what must not outlast the processes: secrets, and what workers spilled."""
        shutil.rmtree(self.secrets, ignore_errors=True)
        scratch = self.read_launch().get("scratch")
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything."""
        self.remove_secrets()
        shutil.rmtree(self.path, ignore_errors=True)

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_launch(self) -> dict[str, Any]:
        """Return what was asked to start; empty if nothing was."""
        return _read_json(self.launch_file)

    @property
    def launched(self) -> bool:
        """Whether a keeper was started, alive or not."""
        return self.pid_file.exists()

    def keeper(self) -> int | None:
        """Return the process id of the keeper if it lives."""
        noted = _read_json(self.pid_file)
        pid = noted.get("pid")
        return pid if isinstance(pid, int) and pid > 0 and identity(pid) == noted else None

    def statuses(self) -> dict[str, Status]:
        """Return the last status of each process; reads only what was appended since the last time."""
        with self._reading:
            try:
                with self.status_file.open("rb") as file:
                    file.seek(self._offset)
                    new = file.read(READ_BYTES)
            except OSError:
                return {}
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for status in map(_parse_status, whole.splitlines()):
                if status is not None:
                    self._statuses[status.process] = status
            return dict(self._statuses)

    def log_tail(self, process: str, lines: int, limit: int = LOG_BYTES) -> str:
        """Return the last lines of the log of ``process``, at most ``limit`` bytes; empty if there is none."""
        try:
            # Not through a link: who writes there is not who reads here.
            fd = os.open(self.logs / f"{process}.log", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(fd, "rb") as file:
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
        files = {file.stem: file for file in self.logs.glob("*.log") if file.stem != "keeper"}
        written = {name: _written_at(file) if newest_first else 0.0 for name, file in files.items()}

        def order(name: str) -> tuple[bool, float, list[int], str]:
            return name != SCHEDULER, -written[name], [int(p) if p.isdigit() else -1 for p in name.split("-")], name

        return sorted(files, key=order)


def folders(root: Path) -> Iterator[ClusterFolder]:
    """Yield every cluster's folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return
    yield from (ClusterFolder(root, name) for name in names if NAME.fullmatch(name))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read; whoever reads it sees all of it or what was before."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    new.replace(path)


def _written_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0  # It was removed meanwhile.


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _parse_status(line: bytes) -> Status | None:
    """Read a line of the journal; what cannot be one is no status. The keeper runs as the user, who may write there."""
    try:
        entry = json.loads(line)
        process, state, why, code = (str(entry.get(key, ""))[:1000] for key in ("process", "state", "why", "code"))
        return Status(process, state, why, code, expected=bool(entry.get("expected", False)))
    except (ValueError, AttributeError):
        return None
