"""Starting a keeper: hand over its code, lay down what it needs, and run it with the Python that the user chose.

Everything here blocks, and runs in a thread of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.backends import commands
from tidegate.backends.base import Launch
from tidegate.backends.local import keeper, machine
from tidegate.backends.local.folder import ClusterFolder, write_whole
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.journal import SCHEDULER, Journal
from tidegate.backends.local.keeper.scratch import make_private
from tidegate.backends.local.settings import LocalSettings

HOST = "127.0.0.1"
"""Where schedulers and workers listen: nobody but the proxy on this machine reaches them."""

START_TIMEOUT = 20.0
"""Seconds in which an interpreter must have come so far that it has detached. On a network file system it may take
several; nothing but the standard library is imported till then."""


class Launcher:
    """Starts keepers below ``root``, the folder of all clusters."""

    def __init__(self, root: Path, settings: LocalSettings) -> None:
        self._root = root
        self._settings = settings
        self.mark = ""

    def prepare(self) -> None:
        """Make the folder, its mark, and the keeper's code, unless they are there."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark_file = self._root / ".mark"
        if not mark_file.exists():
            write_whole(mark_file, secrets.token_hex(8).encode())
        self.mark = mark_file.read_text()
        self._code = hand_over(self._root / ".keeper")

    def launch(self, folder: ClusterFolder, launch: Launch) -> None:
        """Start the keeper of this launch, unless it was started. A failure is written to the journal."""
        folder.create({})
        with open(folder.lock_file, "w", opener=_private) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # A keeper lives, or one is being started right now.
            if folder.launched or SCHEDULER in folder.statuses():
                return  # It was started and has ended: its traces say how.
            settings = self._describe(folder, launch)
            # Before it is noted, for what is noted is removed with the cluster, and before any secret is laid down.
            Path(settings["scratch"]).parent.mkdir(parents=True, exist_ok=True)
            make_private(settings["scratch"])
            folder.write_launch(settings)
            folder.create(launch.files)
            # The keeper inherits the lock, and with it the promise that there is no other.
            problem = self._run(folder, launch.spec.environment, self._environment(folder, launch), lock.fileno())
            if problem:
                journal = Journal(str(folder.status_file))
                journal.exited(SCHEDULER, code="cannot-start", why=problem)

    def _describe(self, folder: ClusterFolder, launch: Launch) -> dict[str, Any]:
        scratch = self._settings.scratch
        return {
            "cluster": launch.cluster,
            "attempt": launch.attempt,
            "owner": launch.owner,
            "folder": str(folder.path),
            "home": _home(),
            "mark": self.mark,
            "users": [os.getuid()],
            "group": self._make_group(launch.cluster),
            "scratch": str(scratch / f"tidegate-{launch.cluster}" if scratch else folder.path / "scratch"),
            "scheduler_arguments": commands.scheduler_arguments(str(folder.secrets), HOST),
            "scheduler_environment": commands.scheduler_environment(str(folder.secrets)),
        }

    def _make_group(self, cluster: str) -> str:
        parent = machine.group_folder()
        if parent is None:
            return ""
        group = parent / f"tidegate-{self.mark}-{cluster}"
        try:
            group.mkdir(exist_ok=True)
        except OSError:
            return ""  # The host does not let us: descent and mark must do.
        return str(group)

    def _environment(self, folder: ClusterFolder, launch: Launch) -> dict[str, str]:
        environment = commands.passed_environment(os.environ, self._settings.pass_environment)
        environment.update(commands.worker_environment(str(folder.secrets), launch.spec))
        # First on the path, so that programs which tasks start come from the same environment.
        own = os.path.dirname(launch.spec.environment)
        environment["PATH"] = os.pathsep.join((own, environment.get("PATH", os.defpath)))
        environment["HOME"] = _home()
        environment[processes.MARK] = self.mark
        environment[processes.CLUSTER] = launch.cluster
        return environment

    def _run(self, folder: ClusterFolder, python: str, environment: Mapping[str, str], lock: int) -> str:
        """Run the keeper until it has detached. Return what went wrong, a sentence; empty if nothing did."""
        with open(folder.logs / f"{SCHEDULER}.log", "ab", opener=_private) as log:
            try:
                ended = subprocess.run(
                    [python, "-u", "-m", "tidegate_keeper", str(folder.launch_file), str(lock)],
                    cwd=self._code,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    timeout=START_TIMEOUT,
                )
            except OSError as error:
                return f"cannot run {python}: {error.strerror}"
            except subprocess.TimeoutExpired:
                return f"{python} did not start within {START_TIMEOUT:g} s"
        if ended.returncode == 0:
            return ""
        _, how = processes.describe_end(ended.returncode)
        return f"{python} could not run: {how} (it must be a Python of version 3.9 or newer)"


def hand_over(place: Path) -> Path:
    """Copy the keeper's code to where any Python can run it as ``tidegate_keeper``, and return the folder to run it in.

    Each version of the code has a folder of its own: clusters that run go on with theirs when the gateway is upgraded.
    """
    source = Path(keeper.__file__).parent
    files = {file.name: file.read_bytes() for file in sorted(source.glob("*.py"))}
    digest = hashlib.sha256(b"\0".join(name.encode() + b"\0" + text for name, text in files.items())).hexdigest()[:16]
    folder = place / digest
    if not folder.exists():
        new = place / f"{digest}.{os.getpid()}.new"
        shutil.rmtree(new, ignore_errors=True)
        (new / "tidegate_keeper").mkdir(mode=0o700, parents=True)
        for name, text in files.items():
            (new / "tidegate_keeper" / name).write_bytes(text)
        new.rename(folder)
    return folder


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _home() -> str:
    return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
