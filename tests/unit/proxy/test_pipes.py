"""The pool of pipes: a few large ones, more small ones, none lost."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxy_rig import open_descriptors
from tidegate.proxy.holding import Holding
from tidegate.proxy.pipes import LARGE_BYTES, PipePool


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[Holding]:
    """Return where pipes are registered."""
    holding = Holding(tmp_path)
    yield holding
    holding.close()


def size_of(descriptor: int) -> int:
    """Return the capacity of a pipe."""
    return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)


def test_a_pipe_that_came_back_is_lent_again(holding: Holding):
    """Opening a pipe for every message would cost more than moving it."""
    pool = PipePool(holding)
    first = pool.lend(2)
    pool.give_back(first)

    assert pool.lend(2) is first
    pool.give_back(first)
    pool.close()


def test_only_the_first_pipes_are_large(holding: Holding):
    """The kernel limits the memory of all pipes of a user: a crowd must not use it up."""
    pool = PipePool(holding, large=2)
    pipes = [pool.lend(2) for _ in range(4)]
    sizes = [size_of(pipe.write) for pipe in pipes]

    assert sizes[:2] == [LARGE_BYTES] * 2
    assert max(sizes[2:]) < LARGE_BYTES
    for pipe in pipes:
        pool.discard(pipe)


def test_when_a_large_pipe_is_closed_another_may_be_large(holding: Holding):
    """The account of large pipes is kept."""
    pool = PipePool(holding, large=1)
    pool.discard(pool.lend(2))
    pipe = pool.lend(2)

    assert size_of(pipe.write) == LARGE_BYTES
    pool.discard(pipe)


def test_no_descriptor_is_left(holding: Holding):
    """Pipes beyond those kept, discarded ones and, at the end, all are closed."""
    before = open_descriptors()
    pool = PipePool(holding, idle=2)
    pipes = [pool.lend(2) for _ in range(6)]
    for pipe in pipes[:5]:
        pool.give_back(pipe)
    pool.discard(pipes[5])
    assert open_descriptors() == before + 2 * 2

    pool.close()

    assert open_descriptors() == before
    assert pool.lent == 0


def test_the_ledger_says_whose_bytes_are_in_a_pipe(holding: Holding):
    """It is written when a pipe is lent, each time, before anything is in it."""
    pool = PipePool(holding)
    pipe = pool.lend(14)
    assert holding.words[1 + pipe.number] == 14
    pool.give_back(pipe)

    assert pool.lend(23) is pipe
    assert holding.words[1 + pipe.number] == 23
    pool.discard(pipe)


def test_a_pipe_that_another_process_left_becomes_one_of_the_pool(holding: Holding):
    """With its bytes; a large one counts as large."""
    pool = PipePool(holding, large=1)
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, LARGE_BYTES)
    os.write(ends[1], b"on the way")

    pipe = pool.adopt(ends, 9)

    assert os.read(pipe.read, 100) == b"on the way"
    assert holding.words[1 + pipe.number] == 9
    other = pool.lend(11)
    assert size_of(other.write) < LARGE_BYTES
    for lent in (pipe, other):
        pool.discard(lent)
    assert pool.lent == 0
