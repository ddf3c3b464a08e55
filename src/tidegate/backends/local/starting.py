"""Waiting for a process that was started here."""

from __future__ import annotations

import os
import select
import subprocess


def wait_for_end(process: subprocess.Popen[bytes], timeout: float) -> int:
    """Return how a process ended, as soon as it has; one that has not after ``timeout`` seconds is killed.

    ``Popen.wait`` looks again and again, at last every 50 ms, and somebody waits for their cluster; the kernel tells at
    once.

    Raises
    ------
    subprocess.TimeoutExpired
        It was killed.
    """
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout * 1000):
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(descriptor)
    return process.wait()
