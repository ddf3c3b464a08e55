"""The pool of pipes: a few large ones, more small ones, none lost."""

from __future__ import annotations

import fcntl

from tests.proxy_rig import open_descriptors
from tidegate.proxy.pipes import LARGE_BYTES, PipePool


def size_of(descriptor: int) -> int:
    """Return the capacity of a pipe."""
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


def test_a_pipe_that_came_back_is_lent_again():
    """Opening a pipe for every message would cost more than moving it."""
    pool = PipePool()
    first = pool.lend()
    pool.give_back(first)

    assert pool.lend() is first
    pool.give_back(first)
    pool.close()


def test_only_the_first_pipes_are_large():
    """The kernel limits the memory of all pipes of a user: a crowd must not use it up."""
    pool = PipePool(large=2)
    pipes = [pool.lend() for _ in range(4)]
    sizes = [size_of(pipe.write) for pipe in pipes]

    assert sizes[:2] == [LARGE_BYTES] * 2
    assert max(sizes[2:]) < LARGE_BYTES
    for pipe in pipes:
        pool.discard(pipe)


def test_when_a_large_pipe_is_closed_another_may_be_large():
    """The account of large pipes is kept."""
    pool = PipePool(large=1)
    pool.discard(pool.lend())
    pipe = pool.lend()

    assert size_of(pipe.write) == LARGE_BYTES
    pool.discard(pipe)


def test_no_descriptor_is_left():
    """Pipes beyond those kept, discarded ones and, at the end, all are closed."""
    before = open_descriptors()
    pool = PipePool(idle=2)
    pipes = [pool.lend() for _ in range(6)]
    for pipe in pipes[:5]:
        pool.give_back(pipe)
    pool.discard(pipes[5])
    assert open_descriptors() == before + 2 * 2

    pool.close()

    assert open_descriptors() == before
    assert pool.lent == 0
