"""Two accounts of this machine, made for the tests and removed with all that is theirs, and a Python that they can run.

Only root can make them. The Python that runs the tests is often in somebody's closed home folder, so there is one of
the system's, which takes its packages from where the tests have theirs.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import tidegate
from tidegate.backends.local.accounts import user_of
from tidegate.backends.local.keeper import processes

SYSTEM_PYTHON = Path(f"/usr/bin/python3.{sys.version_info.minor}")
"""Of the same minor version, so that compiled packages, and what tests send as bytecode, run there."""

PACKAGES = (Path(sysconfig.get_path("purelib")), Path(tidegate.__file__).parents[1])
"""Where the tests' packages are, and Tidegate itself."""


_MINT = """
import asyncio, sys, time
from pathlib import Path
from tidegate.authn.tokens import mint_token
from tidegate.model.principal import Principal
from tidegate.store.sql import SqlStore

async def mint():
    store = SqlStore(Path(sys.argv[1]))
    await store.start()
    print((await mint_token(store, Principal(sys.argv[2]), "test", now=time.time()))[1])
    await store.close()

asyncio.run(mint())
"""


@dataclass(frozen=True)
class Tenants:
    """Two people of this machine, the gateway's account, and what they share.

    Parameters
    ----------
    alice, bob : pwd.struct_passwd
    gateway : pwd.struct_passwd
        An account of the system, without a home: for the gateway itself.
    python : str
        A Python with Dask that they can run.
    place : Path
        A folder of root's that they can pass through.
    """

    alice: pwd.struct_passwd
    bob: pwd.struct_passwd
    gateway: pwd.struct_passwd
    python: str
    place: Path


def why_not() -> str:
    """Return why there can be no tenants here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can make accounts and start clusters under them"
    if shutil.which("useradd") is None:
        return "there is no useradd here"
    if not SYSTEM_PYTHON.exists():
        return f"there is no {SYSTEM_PYTHON}, which every account could run"
    if closed := [str(folder) for folder in PACKAGES if not _is_open(folder)]:
        return f"other accounts cannot read the packages in {' and '.join(closed)}"
    return ""


@contextmanager
def tenants() -> Iterator[Tenants]:
    """Make two accounts and a Python for them; afterwards nothing of theirs is left, nor runs."""
    if problem := why_not():
        pytest.skip(problem)
    place = Path(tempfile.mkdtemp(prefix="tidegate-tests-accounts-"))
    place.chmod(0o755)
    people = []
    try:
        python = _make_python(place / "python")
        for name in ("alice", "bob"):
            people.append(_make_account(f"tg{name}{secrets.token_hex(4)}", place))
        people.append(_add(f"tggate{secrets.token_hex(4)}", "--system", "--no-create-home"))
        yield Tenants(*people, python, place)
    finally:
        for person in people:
            # Zygotes that wait for the next gateway.
            for pid in processes_of(person):
                os.kill(pid, signal.SIGKILL)
            subprocess.run(["userdel", "--force", person.pw_name], check=True, capture_output=True)
        shutil.rmtree(place)


def _make_account(name: str, place: Path) -> pwd.struct_passwd:
    home = str(place / name)
    # Its own group, and a home that is closed to others, whatever the machine's defaults are.
    return _add(name, "--create-home", "--home-dir", home, "--user-group", "--key", "HOME_MODE=0700")


def _add(name: str, *options: str) -> pwd.struct_passwd:
    subprocess.run(["useradd", *options, name], check=True, capture_output=True)
    return pwd.getpwnam(name)


def _is_open(folder: Path) -> bool:
    """Whether everybody may read this folder."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.resolve().parents))


def _make_python(folder: Path) -> str:
    subprocess.run([str(SYSTEM_PYTHON), "-m", "venv", "--without-pip", str(folder)], check=True)
    site = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (site / "tests.pth").write_text("".join(f"{path}\n" for path in PACKAGES))
    return str(folder / "bin" / "python")


def mint(people: Tenants, data: Path, user: str) -> str:
    """Make a token for somebody, as the gateway's account, to which the database belongs."""
    command = [people.python, "-c", _MINT, str(data), user]
    uid, gid = people.gateway.pw_uid, people.gateway.pw_gid
    made = subprocess.run(command, user=uid, group=gid, extra_groups=[], cwd="/", stdout=subprocess.PIPE, check=True)
    return made.stdout.decode().strip()


def processes_of(person: pwd.struct_passwd) -> set[int]:
    """Return what runs under an account."""
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    return {pid for pid in pids if user_of(pid) == person.pw_uid and processes.start_time(pid) is not None}
