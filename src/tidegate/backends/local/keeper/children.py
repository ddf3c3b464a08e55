"""What a child forked by the keeper sheds, and when forking is safe.

A fork copies everything, also what must not be shared or has died with the parent's other threads. So in each direct
child of the keeper, before anything else runs:

* it is to die with the keeper (the kernel sees to it, also when the keeper is SIGKILLed);
* the keeper's sockets and lock are replaced by ``/dev/null``, not closed: objects that were inherited still believe in
  their numbers, and would close whatever was opened under them later;
* signals do again what they do by default;
* distributed's offload executor, which believes that its thread came along, is a new one (else every message of more
  than 10 MB hangs for ever);
* NumPy's global random state is seeded anew, else all workers draw the same numbers. (Python's own ``random`` does it
  by itself.)

And a fork happens on the keeper's main thread only. Nannies fork from threads of their own, while the main thread may
be inside OpenSSL and hold one of its locks, which the child would then wait for, for ever. On the main thread nothing
is half done, and all other threads only wait.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.context
import os
import signal
import stat
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)
_keeper = 0
_lock_fd = -1
_call_on_main: Callable[[Callable[[], None]], object] | None = None


def become_keeper(lock_fd: int) -> None:
    """Adopt what is orphaned below this process, and have its children shed what is not theirs."""
    global _keeper, _lock_fd
    _keeper, _lock_fd = os.getpid(), lock_fd
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.register_at_fork(after_in_child=_shed)


def fork_on_main_thread(call_on_main: Callable[[Callable[[], None]], object]) -> None:
    """From now on, start processes of the context "fork" through ``call_on_main``, from whatever thread."""
    global _call_on_main
    _call_on_main = call_on_main
    multiprocessing.get_context("fork").Process = _MainThreadProcess  # type: ignore[assignment,misc,unused-ignore]


class _MainThreadProcess(multiprocessing.context.ForkProcess):
    """A process that the main thread forks, whoever starts it."""

    def start(self) -> None:
        if _call_on_main is None or threading.current_thread() is threading.main_thread():
            super().start()
            return
        done: Future[None] = Future()
        _call_on_main(lambda: self._start(done))
        done.result()

    def _start(self, done: Future[None]) -> None:
        try:
            super().start()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)


def _prctl(option: int, value: int) -> None:
    _libc.prctl(option, value, 0, 0, 0)


def _shed() -> None:
    global _keeper, _call_on_main
    keeper, _keeper = _keeper, 0
    if not keeper:
        return  # A child of a child: what it inherits is its parent's affair.
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        os._exit(1)  # The keeper died before we asked to die with it.
    if _call_on_main is not None:
        _call_on_main = None
        del multiprocessing.get_context("fork").Process
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    _blind_descriptors()
    renew_threads()
    random: Any = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def renew_threads() -> None:
    """In a forked process, replace what believes that the parent's threads came along."""
    # Looked up, not copied: to count references to a thousand modules would make their pages this process's own.
    utils: Any = sys.modules.get("distributed.utils")
    if utils is not None:
        utils._offload_executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="Dask-Offload")


def _blind_descriptors() -> None:
    """Point sockets, event polls and the launch lock at ``/dev/null``; pipes to the nanny stay."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        try:
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            # Event polls have no kind of their own, among others.
            foreign = fd == _lock_fd or kind == stat.S_IFSOCK or (not kind and "[event" in _target(fd))
        except OSError:
            continue  # The descriptor of the listing itself.
        if foreign:
            os.dup2(null, fd, inheritable=False)
    os.close(null)


def _target(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")
