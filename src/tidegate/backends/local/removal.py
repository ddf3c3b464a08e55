"""Removing folders of which others decide what lies in them.

Every step goes by the descriptor of the folder that it is in, and no link is followed, so it cannot be led elsewhere by
whoever exchanges folders for links meanwhile. Nothing is opened but folders, so nothing answers late.

Folders can be moved as well, also to where somebody else removes them. So whoever removes what another user could have
put there does it with that user's rights (``Account.acting``): what they could not remove themselves stays.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

DEEP = 100
"""Levels of folders within each other, below which they are first brought up: each takes a descriptor and a part of the
stack, and a user may have made millions."""

PASSES = 1000
"""How often folders are brought up: enough for 100,000 levels."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Remove whatever stands at ``path``. What cannot be removed stays, and so do other file systems below it."""
    empty_tree(path)
    with suppress(OSError):
        path.rmdir()


def empty_tree(path: Path) -> None:
    """Remove what is in the folder at ``path``; if there is something else, that."""
    with suppress(OSError):
        # Whose rights we have may pass through the folder above without reading it.
        above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _empty_at(above, path.name)
        finally:
            os.close(above)


def _empty_at(above: int, name: str) -> None:
    try:
        top = _open(name, above)
    except NotADirectoryError:  # A link is none either.
        os.unlink(name, dir_fd=above)
        return
    try:
        # What was deep is now on top: again, for as long as that is so and nobody keeps making more.
        for _ in range(PASSES):
            if not _empty(top, top, 0):
                break
    finally:
        os.close(top)


def _open(name: str, above: int) -> int:
    """Open a folder, also one that its owner has closed to themselves."""
    try:
        folder = os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        # What can be had of it without a right is enough to give oneself the right, if it is one's own.
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{handle}", stat.S_IRWXU)
        finally:
            os.close(handle)
        return os.open(name, _FOLDER, dir_fd=above)
    if os.fstat(folder).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with suppress(OSError):
            os.fchmod(folder, stat.S_IRWXU)
    return folder


def _empty(folder: int, top: int, depth: int) -> bool:
    """Remove what is in ``folder``; return whether anything was too deep and is now in ``top``."""
    again = False
    with os.scandir(folder) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in names:
        with suppress(OSError):
            if not is_folder:
                os.unlink(name, dir_fd=folder)
            elif depth == DEEP:
                os.rename(name, f".deep-{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
                again = True
            else:
                again |= _empty_below(folder, name, top, depth)
    return again


def _empty_below(folder: int, name: str, top: int, depth: int) -> bool:
    below = _open(name, folder)
    try:
        if os.fstat(below).st_dev != os.fstat(top).st_dev:
            return False
        again = _empty(below, top, depth + 1)
    finally:
        os.close(below)
    with suppress(OSError):
        os.rmdir(name, dir_fd=folder)
    return again
