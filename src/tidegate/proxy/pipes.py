"""Pipes to splice through, lent only while bytes are in flight.

``splice`` moves bytes between a socket and a pipe inside the kernel, so a connection needs a pipe per direction, but
only for the moment in which something moves: usually the pipe is empty again before the call returns. A pool of a few
pipes therefore serves thousands of connections. Only where a receiver is slower than its sender does a pipe stay with
its connection, filled.

A large pipe moves bulk data in fewer calls, but the kernel counts the pages of all pipes of a user, and beyond its soft
limit (64 MiB) it refuses to enlarge any and gives an unprivileged user pipes of two pages. So only the first few are
enlarged.

The holder has a duplicate of each pipe. Which connection's bytes are in it is noted in the ledger when it is lent: if
this process is killed, they reach their receiver all the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.proxy.holding import Holding

LARGE_BYTES = 2**20
"""Of an enlarged pipe: the kernel's default maximum (``fs.pipe-max-size``)."""

LARGE_PIPES = 8
"""So many are enlarged, per process: 8 MiB of the user's 64 leave room for other processes of ours."""

IDLE_PIPES = 64
"""So many empty ones are kept for the next use."""


@dataclass(slots=True, eq=False)
class Pipe:
    """Two ends of one pipe, its number in the ledger, and whether it was enlarged."""

    read: int
    write: int
    number: int
    large: bool


class PipePool:
    """Lends pipes. A pipe that comes back must be empty; one that is not is to be discarded.

    Parameters
    ----------
    holding : Holding
        Where pipes are registered.
    large : int
        So many are enlarged.
    idle : int
        So many empty ones are kept.
    """

    def __init__(self, holding: Holding, *, large: int = LARGE_PIPES, idle: int = IDLE_PIPES) -> None:
        self._holding = holding
        self._words = holding.words
        self._spare: list[Pipe] = []
        self._large_left = large
        self._idle = idle
        self.lent = 0

    def lend(self, word: int) -> Pipe:
        """Return an empty pipe; ``word`` says in the ledger what will be in it.

        Raises
        ------
        OSError
            When the process may open no more files.
        """
        pipe = self._spare.pop() if self._spare else self._open()
        self._words[1 + pipe.number] = word
        self.lent += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Take back an empty pipe."""
        self.lent -= 1
        if len(self._spare) < self._idle:
            self._spare.append(pipe)
        else:
            self._close(pipe)

    def discard(self, pipe: Pipe) -> None:
        """Take back a pipe that still holds bytes of a connection that has ended."""
        self.lent -= 1
        self._close(pipe)

    def adopt(self, ends: Sequence[int], word: int) -> Pipe:
        """Lend a pipe that another process has left, with bytes in it."""
        read, write = ends
        large = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ) >= LARGE_BYTES
        self._large_left -= large
        pipe = Pipe(read, write, self._holding.add_pipe(read, write, tell=False), large)
        self._words[1 + pipe.number] = word
        self.lent += 1
        return pipe

    def leave(self, pipe: Pipe) -> None:
        """Take note that another process has this pipe now, with what is in it."""
        self.lent -= 1
        self._holding.remove_pipe(pipe.number, tell=False)
        self._close_ends(pipe)

    def close(self) -> None:
        """Close the pipes that are not lent."""
        while self._spare:
            self._close(self._spare.pop())

    def _open(self) -> Pipe:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        large = False
        if self._large_left > 0:
            with contextlib.suppress(OSError):  # the user's pages are used up: a small pipe works as well
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, LARGE_BYTES)
                large = True
                self._large_left -= 1
        try:
            return Pipe(read, write, self._holding.add_pipe(read, write), large)
        except OSError:
            os.close(read)
            os.close(write)
            raise

    def _close(self, pipe: Pipe) -> None:
        self._holding.remove_pipe(pipe.number)
        self._close_ends(pipe)

    def _close_ends(self, pipe: Pipe) -> None:
        if pipe.large:
            self._large_left += 1
        os.close(pipe.read)
        os.close(pipe.write)
