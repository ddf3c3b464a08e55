"""Starting a keeper: hand over its code, lay down what it needs, and run it with the Python that the user chose.

Everything here blocks, and runs in a thread of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.backends import commands
from tidegate.backends.base import Launch
from tidegate.backends.local import accounts, environments, keeper
from tidegate.backends.local.accounts import Account
from tidegate.backends.local.folder import ClusterFolder, folders, write_whole
from tidegate.backends.local.groups import Groups
from tidegate.backends.local.keeper import processes
from tidegate.backends.local.keeper.groups import Group, Limits, cores_limit, memory_limit
from tidegate.backends.local.keeper.journal import SCHEDULER, Journal
from tidegate.backends.local.keeper.memory import MARGIN
from tidegate.backends.local.place import make_place
from tidegate.backends.local.settings import LocalSettings
from tidegate.backends.local.starting import wait_for_end
from tidegate.backends.local.zygotes import Stuck, Zygotes
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import Invalid

HOST = "127.0.0.1"
"""Where schedulers and workers listen: nobody but the proxy on this machine reaches them."""

START_TIMEOUT = 20.0
"""Seconds in which an interpreter must have come so far that it has detached. On a network file system it may take
several; nothing but the standard library is imported till then."""


class Launcher:
    """Starts keepers below ``root``, the folder of all clusters; ``data`` is the gateway's own folder."""

    def __init__(self, root: Path, settings: LocalSettings, data: Path) -> None:
        self._root = root
        self._data = data
        self._settings = settings
        self.groups = Groups(settings.control_groups == "auto")
        self._zygotes = Zygotes(root / ".zygotes", settings)
        self.mark = ""

    def prepare(self) -> None:
        """Make the folder, its mark, and the keeper's code, unless they are there."""
        make_place(self._root, self._settings)
        mark_file = self._root / ".mark"
        if not mark_file.exists():
            write_whole(mark_file, secrets.token_hex(8).encode())
        self.mark = mark_file.read_text()
        # The keeper of a cluster that has its secrets may be about to enter its group.
        self.groups.prepare(self.mark, {folder.name for folder in folders(self._root) if folder.has_secrets})
        self._code = hand_over(self._root / ".keeper")
        self._zygotes.prepare(self._code)
        if self._settings.accounts == "gateway":
            self._warm_up()

    def close(self, *, for_good: bool) -> None:
        """Let go of what is kept ready for the next launch; ``for_good`` if no gateway is likely to come for it."""
        self._zygotes.close(end=for_good)

    def _warm_up(self) -> None:
        """Get ready for what most clusters will be, the first of them perhaps in a moment."""
        with contextlib.suppress(Invalid):  # Whoever asks for a cluster will be told.
            spec = environments.resolve(self._settings, ClusterSpec(), {})
            account = accounts.own()
            self._zygotes.keep_warm(account, spec.environment, self._environment(account, "", Path(), spec))

    def account(self, owner: str) -> Account:
        """Return as whom the clusters of ``owner`` run, or raise ``Invalid``."""
        if self._settings.accounts == "owner":
            # The gateway does not start on a data folder that is not its account's.
            gateway = accounts.of_folder(self._data.resolve())
            return accounts.of(owner, self._settings.smallest_uid, gateway.uid)
        return accounts.own()

    def launch(self, folder: ClusterFolder, launch: Launch) -> None:
        """Start the keeper of this launch, unless it was started. A failure is written to the journal."""
        account = self.account(launch.owner)
        folder.give_to(account)
        folder.create({})
        with os.fdopen(folder.open_to_write(folder.lock_file, os.O_RDWR)) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A keeper lives, or one is being started right now. Who started it may not have lived to adopt it.
                if account.foreign:
                    self._adopt(folder, folder.read_launch())
                return
            if folder.launched or SCHEDULER in folder.statuses():
                return  # It was started and has ended: its traces say how.
            settings = self._describe(folder, account, launch)
            # Before it is noted, for what is noted is removed with the cluster, and before any secret is laid down.
            folder.make_scratch(Path(settings["scratch"]))
            folder.write_launch(settings)
            folder.create(launch.files)
            # The keeper inherits the lock, and with it the promise that there is no other.
            environment = self._environment(account, launch.cluster, folder.secrets, launch.spec)
            problem = self._run(folder, account, launch.spec.environment, environment, lock.fileno())
            if not problem and account.foreign:
                self._adopt(folder, settings)
            if problem:
                with account.acting():
                    Journal(str(folder.status_file)).exited(SCHEDULER, code="cannot-start", why=problem)

    def _adopt(self, folder: ClusterFolder, settings: Mapping[str, Any]) -> None:
        keeper = folder.keeper()
        if keeper is not None:
            self.groups.adopt(Group(settings.get("groups", ())), keeper)

    def _describe(self, folder: ClusterFolder, account: Account, launch: Launch) -> dict[str, Any]:
        scratch = self._settings.scratch
        return {
            "cluster": launch.cluster,
            "attempt": launch.attempt,
            "owner": launch.owner,
            "folder": str(folder.path),
            "home": account.home,
            "mark": self.mark,
            "users": [os.getuid()],
            "groups": self.groups.make(launch.cluster, account.uid, account.gid, _limits(launch.spec)).folders,
            "scheduler_memory": launch.spec.scheduler_memory,
            "variables": str(folder.secrets / commands.VARIABLES),
            "scratch": str(scratch / f"tidegate-{launch.cluster}" if scratch else folder.path / "scratch"),
            "preloads": [str(folder.secrets / commands.AGENT), str(folder.secrets / commands.WORKER_GUARD)],
            "scheduler_arguments": commands.scheduler_arguments(str(folder.secrets), HOST),
            "scheduler_environment": commands.scheduler_environment(str(folder.secrets)),
        }

    def _environment(self, account: Account, cluster: str, files: Path, spec: ClusterSpec) -> dict[str, str]:
        environment = commands.passed_environment(os.environ, self._settings.pass_environment)
        if account.foreign:
            environment.pop("TMPDIR", None)  # Ours may be closed to others.
            environment.update(account.environment())
        environment.update(commands.worker_environment(str(files), spec))
        # First on the path, so that programs which tasks start come from the same environment.
        own = os.path.dirname(spec.environment)
        environment["PATH"] = os.pathsep.join((own, environment.get("PATH", os.defpath)))
        environment["HOME"] = account.home
        environment[processes.MARK] = self.mark
        environment[processes.CLUSTER] = cluster
        return environment

    def _run(
        self, folder: ClusterFolder, account: Account, python: str, environment: Mapping[str, str], lock: int
    ) -> str:
        """Run the keeper until it has detached. Return what went wrong, a sentence; empty if nothing did."""
        with os.fdopen(folder.open_to_write(folder.logs / f"{SCHEDULER}.log", os.O_WRONLY | os.O_APPEND), "ab") as log:
            try:
                if self._zygotes.fork(account, python, environment, folder.launch_file, lock, log.fileno()):
                    return ""
                if folder.launched:
                    return ""  # It was forked, came on record, and ended before it could say so.
                process = subprocess.Popen(
                    [python, "-u", "-m", "tidegate_keeper", str(folder.launch_file), str(lock)],
                    cwd=self._code,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    **account.popen_arguments(),
                )
                status = wait_for_end(process, START_TIMEOUT)
            except Stuck as error:
                return str(error)
            except OSError as error:
                return f"cannot run {python}: {error.strerror}"
            except subprocess.TimeoutExpired:
                return f"{python} did not start within {START_TIMEOUT:g} s"
        if status == 0:
            return ""
        _, how = processes.describe_end(status)
        return f"{python} could not run: {how} (it must be a Python of version 3.9 or newer)"


def _limits(spec: ClusterSpec) -> Limits:
    """Return the limits of the scheduler, with the keeper, if it has any of its own."""
    limits: list[tuple[str, str]] = []
    if spec.scheduler_memory:
        limits += memory_limit(round(spec.scheduler_memory * MARGIN))
    if spec.scheduler_cores:
        limits += cores_limit(spec.scheduler_cores)
    return limits


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
        (new / "tidegate_keeper").mkdir(parents=True)
        for name, text in files.items():
            (new / "tidegate_keeper" / name).write_bytes(text)
        # Whoever it is to run as may read it.
        for path in (place, new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        new.rename(folder)
    return folder
