"""``python -m tidegate.holder RUN_DIR [LISTENER_FD]``: the holder process.

Whoever starts it makes it the leader of a session of its own: it is to live on when its parent is gone. It is started
once for a folder, by the supervisor, which has made sure that there is none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import socket
import sys

from tidegate.holder.server import Holder
from tidegate.telemetry.logs import configure_logs
from tidegate.wire.holder import SOCKET


def main(arguments: list[str]) -> int:
    """Run the holder; returns its exit status."""
    logging.raiseExceptions = False  # a full disk must not disturb what the process is for
    configure_logs("holder")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = None
    if arguments[1:]:
        listener = socket.socket(fileno=int(arguments[1]))
        listener.set_inheritable(False)
    try:
        with listen(arguments[0]) as server:
            Holder(server, listener).run()
    except OSError as error:
        logging.getLogger("tidegate.holder").error("the holder cannot run: %s", error)
        return 1
    return 0


def listen(run_dir: str) -> socket.socket:
    """Listen in this folder. What an earlier holder left there is replaced, when connections are accepted already."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    # Through a descriptor, for an address holds 107 bytes and the folder may lie deep.
    folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o177)
    passing = f".{SOCKET}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(passing, dir_fd=folder)
        server.bind(f"/proc/self/fd/{folder}/{passing}")
        server.listen(64)
        os.rename(passing, SOCKET, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        server.close()
        raise
    finally:
        os.umask(before)
        os.close(folder)
    return server


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
