"""What runs as root must be root's alone: whoever can write to a module that root imports is root.

Where a part of the gateway stays root, it looks at where it comes from: the interpreter, every module that is loaded,
the folders that modules are looked for in, the configuration, and all folders above them. By then all of it has run, so
this stops nobody who has written there already. It keeps a gateway from being started that somebody could write to.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tidegate.server.preflight import CannotServe

ACCESS_LIST = "system.posix_acl_access"
"""The attribute in which Linux keeps what setfacl(1) adds. Where it only repeats the mode, it is not there."""


def check_imports(config: Path | None = None) -> None:
    """See that nobody but root can change what this process has imported, or would.

    Raises
    ------
    CannotServe
        With the path, and what to do.
    """
    found = find_writable(_sources() if config is None else [*_sources(), str(config)])
    if found is not None:
        path, who = found
        raise CannotServe(
            f"cannot stay root: {who} can change {path}, which the part of the gateway that stays root comes from, and "
            f"so could become root. Install Tidegate and its Python as root, in a folder of root's; or, if this one is "
            f"meant: chown root:root {path} && chmod go-w {path}"
        )


def find_writable(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return the first of these paths, and of the folders above them, that others than root can change, and who."""
    seen: set[str] = set()
    searched = {os.path.realpath(folder or os.getcwd()) for folder in sys.path}
    for path in paths:
        for part in _parts(path):
            if part not in seen:
                seen.add(part)
                if who := _who_writes(part, is_searched=part in searched):
                    return part, who
    return None


def _sources() -> Iterator[str]:
    """Yield the paths that this process comes from, as far as they are there."""
    yield sys.executable
    yield os.path.join(sys.prefix, "pyvenv.cfg")
    for folder in sys.path:
        yield folder or os.getcwd()
        if os.path.isdir(folder):
            # A line in one of these adds folders, or runs, at every start.
            yield from (entry.path for entry in os.scandir(folder) if entry.name.endswith(".pth"))
    for module in list(sys.modules.values()):
        for path in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
            if path:
                yield path


def _parts(path: str) -> Iterator[str]:
    """Yield a path and all folders above it, both as it is written and where its links lead."""
    for way in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        parts = Path(way)
        yield from (str(part) for part in (*reversed(parts.parents), parts))


def _who_writes(path: str, *, is_searched: bool) -> str:
    """Return who can change what is at a path, besides root; nobody if it is not there: then the folder tells.

    Where modules are searched for, it is enough to be able to add one.
    """
    try:
        status = os.lstat(path)
    except OSError:
        return ""
    if status.st_uid != 0:
        return f"user {_user(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode):
        return ""  # its mode means nothing, and where it leads is looked at too
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX and not is_searched:
        return ""  # as in /tmp: what is root's there, which is looked at too, nobody else can move
    if _has_access_list(path):
        return "whoever stands in its access control list (getfacl shows it, setfacl -b removes it)"
    if status.st_mode & stat.S_IWOTH:
        return "every user"
    if status.st_mode & stat.S_IWGRP and _has_members(status.st_gid):
        return f"group {_group(status.st_gid)}"
    return ""


def _has_access_list(path: str) -> bool:
    """Whether there are rights that neither owner nor mode show. Which ones is not looked at: root needs none."""
    try:
        os.getxattr(path, ACCESS_LIST, follow_symlinks=False)
    except OSError:
        return False  # the usual: there is none, or the file system knows of none
    return True


@cache
def _has_members(gid: int) -> bool:
    """Whether anybody but root is in a group. Debian's ``staff``, whose ``/usr/local`` may be, is empty at first.

    Root's own group is as any other: an administrator may have put somebody in, and some systems have accounts in it.
    """
    try:
        named = set(grp.getgrgid(gid).gr_mem) - {"root"}
    except KeyError:
        return True  # nobody knows
    return bool(named) or any(user.pw_gid == gid and user.pw_uid != 0 for user in pwd.getpwall())


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
