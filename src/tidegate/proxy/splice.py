"""A connection between two sockets whose bytes never enter this process.

``splice(2)`` hands pages from one socket to a pipe and from the pipe to the other socket: the kernel does the work and
Python only says when. All state of a connection is two sockets and what lies in a pipe.

Each direction is one of these at any time:

* *waiting*: the source is watched for reading; no pipe is held;
* *blocked*: the target takes no more; the pipe holds what it did not take, the target is watched for writing and the
  source is not watched, so its sender feels the pressure through TCP's own window;
* *ended*: the source has said that nothing more comes, all of it was passed on and so was the end (half-close). The
  other direction goes on.

When both directions have ended, or one of the sockets breaks, the connection is over and both sockets are shut down
and closed: to close them alone would not end it, for the holder has duplicates. Since all state is in the kernel,
another process that gets the sockets and a filled pipe can go on at any point: it empties the pipe, and an end that was
read is read again.

A source is read until it has nothing more, its end or its error: a peer that sends its last words and then a reset
leaves both here, and uvloop tells of a broken socket once and never again. Who stops before would never hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Sequence

from tidegate.proxy.pipes import LARGE_BYTES, Pipe, PipePool
from tidegate.wire.holder import DOWNWARD, UPWARD, filled, word_of

BURST_BYTES = 4 * 2**20
"""One direction moves no more than this before others get their turn: about 2 ms."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK

logger = logging.getLogger(__name__)


class Splice:
    """Passes bytes both ways between two connected, non-blocking sockets, and owns them from now on.

    Parameters
    ----------
    client, server : socket.socket
        The two ends.
    pipes : PipePool
        Where to lend pipes.
    number : int
        Of this connection, in the ledger.
    on_end : callable
        Called once, when it is over here.
    """

    def __init__(
        self, client: socket.socket, server: socket.socket, pipes: PipePool, number: int, on_end: Callable[[], None]
    ) -> None:
        self._sockets = (client, server)
        self._pipes = pipes
        self._directions = (
            _Direction(self, client, server, word_of(number, UPWARD)),
            _Direction(self, server, client, word_of(number, DOWNWARD)),
        )
        self._on_end = on_end
        self._begun = False
        self._over = False

    def start(self) -> None:
        """Begin to pass bytes on; nothing if it was cut before."""
        if self._over:
            return
        self._begun = True
        for direction in self._directions:
            direction.watch()

    def adopt(self, direction: int, ends: Sequence[int]) -> int:
        """Take a pipe with bytes on their way in this direction, before anything moves; return its number."""
        return self._directions[direction].adopt(self._pipes, ends)

    def cut(self) -> None:
        """End the connection now, whatever is in flight."""
        if self._over:
            return
        for direction in self._directions:
            direction.stop()
        for end in self._sockets:
            with contextlib.suppress(OSError):  # it is broken
                end.shutdown(socket.SHUT_RDWR)
        # Not before: if we are killed in between, another process may go on with what lacks the pipe's bytes.
        for direction in self._directions:
            direction.return_pipe()
        self._finish()

    def give_away(self, release: Callable[[list[tuple[int, int]]], bool]) -> bool:
        """Let another process go on with the connection.

        ``release`` is called with number and direction of each pipe with bytes in it, when nothing moves any more. If
        it says False, the connection goes on here. One that has not begun yet is still the holder's to give: to release
        it would be to have it given twice.
        """
        if self._over:
            return True
        if not self._begun:
            return False
        for direction in self._directions:
            direction.stop()
        lent = [(pipe, way) for way, item in enumerate(self._directions) if (pipe := item.pipe) is not None]
        if not release([(pipe.number, way) for pipe, way in lent]):
            for direction in self._directions:
                direction.watch()
            return False
        for pipe, _ in lent:
            self._pipes.leave(pipe)
        self._finish()
        return True

    def lend(self, word: int) -> Pipe:
        """Return a pipe for one of the directions."""
        return self._pipes.lend(word)

    def give_back(self, pipe: Pipe, pending: int) -> None:
        """Take a pipe back, with how many bytes are in it."""
        if pending:
            self._pipes.discard(pipe)
        else:
            self._pipes.give_back(pipe)

    def direction_ended(self) -> None:
        """Take note that one direction has passed on its end."""
        if all(direction.ended for direction in self._directions):
            self.cut()

    def _finish(self) -> None:
        self._over = True
        for end in self._sockets:
            end.close()
        self._on_end()


class _Direction:
    """One way of a connection."""

    __slots__ = (
        "_blocked",
        "_eof",
        "_loop",
        "_pending",
        "_source",
        "_splice",
        "_target",
        "_to",
        "_word",
        "ended",
        "pipe",
    )

    def __init__(self, owner: Splice, source: socket.socket, target: socket.socket, word: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._splice = owner
        self._source = source.fileno()
        self._target = target.fileno()
        self._to = target
        self._word = word
        self._pending = 0
        self._eof = False
        self._blocked = False
        self.pipe: Pipe | None = None
        self.ended = False

    def adopt(self, pool: PipePool, ends: Sequence[int]) -> int:
        """Begin with a pipe that has bytes in it; return its number."""
        self.pipe = pool.adopt(ends, self._word)
        self._pending = filled(self.pipe.read)
        self._blocked = True
        return self.pipe.number

    def watch(self) -> None:
        """Wait for something to read, or for room for what was read."""
        if self._blocked:
            self._loop.add_writer(self._target, self._resume)
        elif not self.ended:
            self._loop.add_reader(self._source, self._move)

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._blocked:
            self._loop.remove_writer(self._target)
        elif not self.ended:
            self._loop.remove_reader(self._source)

    def _move(self) -> None:
        """Pass on what the source has."""
        try:
            pipe = self.pipe = self._splice.lend(self._word)
            moved = 0
            while moved < BURST_BYTES:
                count = os.splice(self._source, pipe.write, LARGE_BYTES, flags=_FLAGS)
                if count == 0:
                    self._eof = True
                    break
                self._pending = count
                if not self._drain(pipe):
                    self._block()
                    return
                moved += count
            else:
                self.stop()  # and watch anew: there is more, and uvloop has told it for the last time if it is broken
                self.watch()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)
            return
        self.return_pipe()
        if self._eof:
            self._loop.remove_reader(self._source)
            self._end()

    def _drain(self, pipe: Pipe) -> bool:
        """Empty the pipe into the target; False when the target takes no more."""
        while self._pending:
            try:
                self._pending -= os.splice(pipe.read, self._target, self._pending, flags=_FLAGS)
            except BlockingIOError:
                return False
        return True

    def _block(self) -> None:
        self.stop()
        self._blocked = True
        self.watch()

    def _resume(self) -> None:
        """Go on: the target takes bytes again."""
        try:
            if self.pipe is not None and not self._drain(self.pipe):
                return
        except OSError as error:
            self._fail(error)
            return
        self.stop()
        self._blocked = False
        self.return_pipe()
        self.watch()

    def _end(self) -> None:
        """Tell the target that nothing more comes; the other direction goes on."""
        self.ended = True
        with contextlib.suppress(OSError):  # the target is gone: the other direction will find out
            self._to.shutdown(socket.SHUT_WR)
        self._splice.direction_ended()

    def _fail(self, error: OSError) -> None:
        # A peer that vanishes is everyday life; that we have run out of something is not.
        ours = error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
        logger.log(logging.WARNING if ours else logging.DEBUG, "cannot pass bytes on: %s", error)
        self._splice.cut()

    def return_pipe(self) -> None:
        """Hold no pipe any more; what is in it is lost."""
        if self.pipe is not None:
            self._splice.give_back(self.pipe, self._pending)
            self.pipe = None
            self._pending = 0
