"""Making folders in a place where others may write too, such as /tmp."""

from __future__ import annotations

import os
import stat


class ScratchUnsafe(Exception):
    """Others could put something into a folder that is to be ours alone; says how."""


def make_private(path: str, uid: int | None = None) -> None:
    """Make a folder that nobody else may enter; one that is there must be just that.

    Workers load what lies in theirs, so whoever could write there would run code as us. ``uid`` says who we are, where
    a thread acts as another user.

    Raises
    ------
    ScratchUnsafe
        Something of this name is there that others may have prepared, or its parent lets them put another in its place.
    """
    parent = os.stat(os.path.dirname(path))
    if parent.st_mode & stat.S_IWOTH and not parent.st_mode & stat.S_ISVTX:
        raise ScratchUnsafe(f"everybody may rename what is in {os.path.dirname(path)}: set its sticky bit (chmod +t)")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        owner = os.geteuid() if uid is None else uid
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
            raise ScratchUnsafe(f"{path} was there before, and others may write to it") from None
