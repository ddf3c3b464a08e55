"""What is left of a dead proxy: its connections, with the bytes that were on their way."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from tests.proxy_rig import open_descriptors
from tidegate.holder.held import Connection, Held, Pipe, received
from tidegate.wire.holder import DOWNWARD, UPWARD, Ledger, make_memory, word_of


@pytest.fixture
def both() -> Iterator[tuple[Held, Ledger]]:
    """Return what the holder has of a proxy, and the proxy's own view of their ledger."""
    before = open_descriptors()
    memory = make_memory()
    held, ledger = Held(Ledger(memory)), Ledger(memory)
    os.close(memory)
    ledger.complete = True
    yield held, ledger
    held.close()
    ledger.close()
    assert open_descriptors() == before


@pytest.fixture
def held(both: tuple[Held, Ledger]) -> Held:
    """Return what the holder has of a proxy."""
    return both[0]


@pytest.fixture
def ledger(both: tuple[Held, Ledger]) -> Ledger:
    """Return the proxy's view of its ledger."""
    return both[1]


def make_connection() -> Connection:
    """Return a connection between two sockets."""
    client, server = socket.socketpair()
    return Connection("abc", client.detach(), server.detach())


def make_pipe(content: bytes = b"") -> Pipe:
    """Return a pipe with something in it."""
    pipe = Pipe(*os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    os.write(pipe.write, content)
    return pipe


def test_a_connection_is_left_with_the_bytes_that_were_on_their_way(held: Held, ledger: Ledger):
    """Those of each direction, to nobody but whom they belong to; empty pipes are not worth keeping."""
    for number in (1, 2):
        held.hold(number, make_connection())
    for index, (word, content) in enumerate([(0, b""), (word_of(2, UPWARD), b"up"), (word_of(2, DOWNWARD), b"down")]):
        held.keep_pipe(index, make_pipe(content))
        ledger.words[1 + index] = word
    held.keep_pipe(3, make_pipe())
    ledger.words[4] = word_of(1, UPWARD)  # was lent, and is empty again

    first, second = held.bequeath()

    assert first.carried == {}
    assert {way: os.read(pipe.read, 100) for way, pipe in second.carried.items()} == {UPWARD: b"up", DOWNWARD: b"down"}
    assert len(second.descriptors()) == 6
    first.close()
    second.close()


def test_a_connection_whose_pipe_is_missing_is_left_to_nobody(held: Held, ledger: Ledger):
    """Its bytes may be lost: it is better cut."""
    for number in (1, 2):
        held.hold(number, make_connection())
    ledger.words[1 + 7] = word_of(1, UPWARD)

    (left,) = held.bequeath()

    assert held._connections == {}
    assert left.cluster == "abc"
    left.close()


def test_nothing_is_left_of_a_process_that_had_not_told_everything(held: Held, ledger: Ledger):
    """What the holder knows may be old."""
    held.hold(1, make_connection())
    held.keep_pipe(0, make_pipe(b"bytes"))
    ledger.complete = False

    assert held.bequeath() == []


def test_what_has_ended_is_let_go_of(held: Held):
    """Repeated, or unknown: nothing happens."""
    held.hold(1, make_connection())
    held.hold(1, make_connection())
    held.keep_pipe(5, make_pipe())
    held.keep_pipe(5, make_pipe())
    for _ in range(2):
        held.drop(1)
        held.drop_pipe(5)
    assert len(held) == 0


def test_a_connection_that_was_taken_over_may_be_left_again(held: Held, ledger: Ledger):
    """With the pipe that came with it, if it is not empty yet."""
    connection = make_connection()
    connection.carried[DOWNWARD] = make_pipe(b"still")
    ledger.words[1 + 4] = word_of(9, DOWNWARD)
    held.accept(9, connection, [4])

    (left,) = held.bequeath()

    assert os.read(left.carried[DOWNWARD].read, 100) == b"still"
    left.close()


def test_half_a_connection_is_none():
    """When the process may open no more, descriptors get lost on their way."""
    before = open_descriptors()
    one, other = socket.socketpair()

    assert received("abc", (UPWARD,), [one.detach(), other.detach()]) is None
    assert open_descriptors() == before


def test_pipes_are_passed_on_in_their_order():
    """The ends of each, and which way it leads."""
    connection, pipe = make_connection(), make_pipe()
    both = [connection.client, connection.server, pipe.read, pipe.write]
    again = received("abc", (DOWNWARD,), both)

    assert again is not None
    assert again.carried == {DOWNWARD: pipe}
    assert again.descriptors() == both
    assert fcntl.fcntl(pipe.read, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    again.close()
