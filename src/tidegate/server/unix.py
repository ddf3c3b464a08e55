"""Listening on a Unix socket in the data folder."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def listen(folder: Path, name: str) -> socket.socket:
    """Listen on ``name`` in ``folder``, for our own user. What an earlier process left is replaced in one step."""
    # Through a descriptor, for an address holds 107 bytes and the folder may lie deep.
    directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.new", dir_fd=directory)
        listener.bind(f"/proc/self/fd/{directory}/{name}.new")
        listener.listen(1024)
        os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
        os.close(directory)
    return listener
