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
leaves both here, and uvloop tells of a broken socket once and never again. Who stops before would never hear of it. For
a source that gave little, and so has no more, it is enough to ask whether it is broken: that costs a quarter of reading
in vain, and most of what passes is little.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable, Sequence
from enum import Enum

from tidegate.proxy.pipes import LARGE_BYTES, Pipe, PipePool
from tidegate.wire.holder import DOWNWARD, UPWARD, filled, word_of

BURST_BYTES = 4 * 2**20
"""One direction moves no more than this before others get their turn: about 2 ms."""

UNSENT_BYTES = 512 * 1024
"""A socket takes no more while it holds so much that it may not send yet (``TCP_NOTSENT_LOWAT``). What is on its way is
not limited, so a distant receiver gets all that its line carries. But megabytes that only wait fall out of the
processor's caches before anybody reads them: without the limit, the ends of eight connections need an eighth more time.
With less, the proxy is woken more often than that gains."""

LITTLE_BYTES = 16 * 1024
"""A source that gave less is taken to be empty: what it has besides is told at once. One full TLS record is more."""

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
        for end in self._sockets:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._pipes = pipes
        self._directions = (
            _Direction(self, client, server, pipes, word_of(number, UPWARD)),
            _Direction(self, server, client, pipes, word_of(number, DOWNWARD)),
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
        return self._directions[direction].adopt(ends)

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

    def direction_ended(self) -> None:
        """Take note that one direction has passed on its end."""
        if all(direction.ended for direction in self._directions):
            self.cut()

    def _finish(self) -> None:
        self._over = True
        for end in self._sockets:
            end.close()
        self._on_end()


class _Outcome(Enum):
    """How far one turn of a direction came."""

    EMPTY = "the source has no more"
    BLOCKED = "the target takes no more"
    ENDED = "the source has ended"
    MORE = "there is more, and others have their turn"


class _Direction:
    """One way of a connection."""

    __slots__ = (
        "_blocked",
        "_breakage",
        "_loop",
        "_pending",
        "_pipes",
        "_source",
        "_splice",
        "_target",
        "_to",
        "_word",
        "ended",
        "pipe",
    )

    def __init__(self, owner: Splice, source: socket.socket, target: socket.socket, pipes: PipePool, word: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._splice = owner
        self._source = source.fileno()
        self._breakage = select.poll()
        self._breakage.register(source, 0)  # its error or its hang-up alone
        self._target = target.fileno()
        self._to = target
        self._pipes = pipes
        self._word = word
        self._pending = 0
        self._blocked = False
        self.pipe: Pipe | None = None
        self.ended = False

    def adopt(self, ends: Sequence[int]) -> int:
        """Begin with a pipe that has bytes in it; return its number."""
        self.pipe = self._pipes.adopt(ends, self._word)
        self._pending = filled(self.pipe.read)
        self._blocked = True
        return self.pipe.number

    def watch(self) -> None:
        """Wait for something to read, or for room for what was read."""
        if self._blocked:
            self._loop.add_writer(self._target, self._move)
        elif not self.ended:
            self._loop.add_reader(self._source, self._move)

    def stop(self) -> None:
        """Watch nothing any more."""
        if self._blocked:
            self._loop.remove_writer(self._target)
        elif not self.ended:
            self._loop.remove_reader(self._source)

    def _move(self) -> None:
        """Pass on what the pipe has and then what the source has, and wait for what is needed next."""
        try:
            outcome = self._pass_on()
        except OSError as error:
            self._fail(error)
            return
        if outcome is _Outcome.BLOCKED:
            self._wait(blocked=True)
            return
        self.return_pipe()
        if outcome is _Outcome.ENDED:
            self.stop()
            self._blocked = False
            self._end()
        elif outcome is _Outcome.MORE:
            # Watched anew: there is more, and uvloop has told it for the last time if the source is broken.
            self.stop()
            self._blocked = False
            self.watch()
        else:
            self._wait(blocked=False)

    def _pass_on(self) -> _Outcome:
        pipe = self.pipe = self.pipe or self._pipes.lend(self._word)
        if not self._drain(pipe):
            return _Outcome.BLOCKED
        moved = 0
        while moved < BURST_BYTES:
            try:
                count = os.splice(self._source, pipe.write, LARGE_BYTES, flags=_FLAGS)
            except BlockingIOError:
                return _Outcome.EMPTY
            if count == 0:
                return _Outcome.ENDED
            self._pending = count
            if not self._drain(pipe):
                return _Outcome.BLOCKED
            moved += count
            if count < LITTLE_BYTES and not self._breakage.poll(0):
                return _Outcome.EMPTY
        return _Outcome.MORE

    def _drain(self, pipe: Pipe) -> bool:
        """Empty the pipe into the target; False when the target takes no more."""
        while self._pending:
            try:
                self._pending -= os.splice(pipe.read, self._target, self._pending, flags=_FLAGS)
            except BlockingIOError:
                return False
        return True

    def _wait(self, *, blocked: bool) -> None:
        """Wait for the target (when blocked) or for the source; mostly that is what was waited for before."""
        if self._blocked is not blocked:
            self.stop()
            self._blocked = blocked
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
        if self.pipe is None:
            return
        if self._pending:
            self._pipes.discard(self.pipe)
        else:
            self._pipes.give_back(self.pipe)
        self.pipe = None
        self._pending = 0
