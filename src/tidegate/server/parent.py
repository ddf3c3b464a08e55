"""Not outliving the parent: for processes that are of no use without it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send us signal ``number`` when ``parent`` dies, and notice when it has died already.

    A change of the user id undoes it (prctl(2)), so it comes after that.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot ask to die with the parent")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
