"""As whom a cluster runs: the account of this machine whose user id its processes have.

How to think about it
---------------------
A gateway of one person, or of a trusted team, runs all clusters as itself. One that root started can run each cluster
as its owner's own account: then the kernel keeps users apart, as it does when they log in.

Whatever a tenant can write to is hostile to a reader that is root: a link in the place of a log leads to
``/etc/shadow``, and in the place of a folder to be removed it leads anywhere. Looking before acting does not help, for
the tenant is quicker. So we do not look; we act with the tenant's rights (``Account.acting``), and the kernel refuses
what the tenant could not have done. What is left to beware of is what does not need rights: files that never end, pipes
that never answer, process ids of others. ``folder.py`` and ``remains.py`` do.
"""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.model.errors import BackendFailed, Invalid

NOBODY = 65534
"""The user id that stands for none: of ``nobody``, and of everyone from beyond a user namespace."""

LOGIN_PATH = "/usr/local/bin:/usr/bin:/bin"
"""The search path that login(1) gives to those who are not root."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine.

    Parameters
    ----------
    name : str
    uid, gid : int
    groups : tuple of int
        Its supplementary groups, as a login would set them.
    home, shell : str
    """

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"
    shell: str = "/bin/sh"

    @property
    def foreign(self) -> bool:
        """Whether it is not the one that this process runs as."""
        return self.uid != os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Return what makes ``subprocess.Popen`` start a program as this account; nothing if we are it.

        The groups are set first, then the group, then the user, which gives up the right to set any; then the program
        is executed, which makes the process readable for its own user (``/proc/self/environ``), and for no other.
        """
        if not self.foreign:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups, "umask": 0o077}

    def environment(self) -> dict[str, str]:
        """Return the variables that say who and where one is, as a login sets them."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell, "PATH": LOGIN_PATH}

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Within this block, what this *thread* does to files is done with the rights of the account, and no others.

        There must be no ``await`` inside. What was opened before stays as it is. Our own supplementary groups stay in
        force, so a process that acts as others has to have none (``drop_groups``).
        """
        if not self.foreign:
            yield
            return
        uid, gid = os.geteuid(), os.getegid()
        # The group first: it takes a right that is lost with the user. Back in reverse.
        _set(_libc.setfsgid, self.gid)
        _set(_libc.setfsuid, self.uid)
        try:
            yield
        finally:
            _set(_libc.setfsuid, uid)
            _set(_libc.setfsgid, gid)


def own() -> Account:
    """Return the account that this process runs as. It need not be one that the machine has a name for."""
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    home = os.environ.get("HOME") or os.path.expanduser("~")
    return Account(name, uid, os.getgid(), tuple(os.getgroups()), home, os.environ.get("SHELL", "/bin/sh"))


def named(name: str) -> Account | None:
    """Return the account of that very name; None if this machine has none."""
    try:
        found = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: there is a NUL in it.
        return None
    # Some directories do not tell upper from lower case, or add a domain; the gateway does, so these are others.
    if found.pw_name != name:
        return None
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return Account(name, found.pw_uid, found.pw_gid, groups, found.pw_dir or "/", found.pw_shell or "/bin/sh")


def of(owner: str, smallest_uid: int, gateway_uid: int = 0) -> Account:
    """Return the account of a cluster's owner: the one of that very name.

    The gateway's own (``gateway_uid``) is refused like root's: what runs as it can read every secret of the gateway.

    Raises
    ------
    Invalid
        There is none, or it is one under which no user's code may run.
    """
    found = named(owner)
    if found is None:
        raise Invalid(
            f"cannot run clusters for {owner}: this machine has no account of that name, and clusters run here under "
            "their owners' accounts; ask the administrator of this gateway for one"
        )
    if found.uid < smallest_uid or found.uid in (0, NOBODY, gateway_uid):
        raise Invalid(
            f"cannot run clusters for {owner}: that is a system account of this machine, and clusters run here under "
            "the accounts of people; log in to the gateway under your own name",
            detail=f"its user id is {found.uid}, backend.smallest_uid is {smallest_uid}, the gateway's {gateway_uid}",
        )
    return found


def of_folder(path: Path) -> Account:
    """Return to whom a folder belongs, by number alone; ourselves if there is none.

    What is asked is a folder that we made, in a place where nobody but us writes: then its owner is whom we gave it to.
    """
    try:
        found = path.lstat()
    except OSError:
        return Account("", os.geteuid(), os.getegid())
    return Account("", found.st_uid, found.st_gid)


def user_of(pid: int) -> int | None:
    """Return the real user id of a process, also where it has made itself unreadable; None if it has ended.

    The real one stays the user's in programs that run as another (``sudo``, ``ping``), until those change it.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"Uid:")), None)
    except OSError:
        return None


def drop_groups() -> None:
    """Give up this process's supplementary groups, so that ``acting`` leaves no rights but the account's."""
    os.setgroups([])


_libc = ctypes.CDLL(None, use_errno=True)


def _set(function: Any, value: int) -> None:
    # These calls return what was before, and never fail aloud: only asking tells (setfsuid(2)).
    function(value)
    if function(ctypes.c_uint(-1)) != value:
        raise BackendFailed(
            "cannot act for the owner of a cluster: the kernel does not let the gateway take the rights of other users",
            detail=f"{function.__name__}({value}) had no effect: does the launcher have CAP_SETUID and CAP_SETGID?",
        )
