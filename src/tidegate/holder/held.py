"""What the holder keeps for one proxy process: duplicates of its connections and pipes, and its ledger.

When the process is dead, ``bequeath`` says what is left of it: every connection, together with the bytes that were on
their way through a pipe at that moment. Where it is not certain that all of a connection's bytes are there, the
connection is not left to anybody: it ends, as it would have without a holder. A byte that is missing or comes twice is
worse than a connection that was cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tidegate.wire.holder import Ledger, close_all, filled, word_of


@dataclass(frozen=True, slots=True)
class Pipe:
    """Duplicates of a pipe's two ends."""

    read: int
    write: int

    def close(self) -> None:
        """Close both ends."""
        close_all((self.read, self.write))


@dataclass(eq=False, slots=True)
class Connection:
    """Duplicates of a connection's two sockets.

    ``carried`` are pipes with bytes of it, by direction, while no proxy serves it.
    """

    cluster: str
    client: int
    server: int
    carried: dict[int, Pipe] = field(default_factory=dict)

    def descriptors(self) -> list[int]:
        """Return all of them, as they are passed on: client, server, and the ends of each pipe."""
        pipes = [end for pipe in self.carried.values() for end in (pipe.read, pipe.write)]
        return [self.client, self.server, *pipes]

    def close(self) -> None:
        """Let go of it. It ends now, unless a proxy holds it too."""
        close_all(self.descriptors())


def received(cluster: str, carries: Sequence[int], descriptors: Sequence[int]) -> Connection | None:
    """Return the connection that these descriptors are, None (and they are closed) when some did not arrive."""
    if len(descriptors) != 2 + 2 * len(carries):
        close_all(descriptors)
        return None
    pipes = [Pipe(descriptors[at], descriptors[at + 1]) for at in range(2, len(descriptors), 2)]
    return Connection(cluster, descriptors[0], descriptors[1], dict(zip(carries, pipes, strict=True)))


class Held:
    """What one proxy process has registered."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._connections: dict[int, Connection] = {}
        self._pipes: dict[int, Pipe] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def hold(self, number: int, connection: Connection) -> None:
        """Keep a connection."""
        self.drop(number)
        self._connections[number] = connection

    def drop(self, number: int) -> None:
        """Let go of a connection."""
        connection = self._connections.pop(number, None)
        if connection is not None:
            connection.close()

    def keep_pipe(self, number: int, pipe: Pipe) -> None:
        """Keep a pipe; one that had this number is closed by now."""
        self.drop_pipe(number)
        self._pipes[number] = pipe

    def drop_pipe(self, number: int) -> None:
        """Let go of a pipe."""
        pipe = self._pipes.pop(number, None)
        if pipe is not None:
            pipe.close()

    def accept(self, number: int, connection: Connection, pipes: Sequence[int]) -> None:
        """Keep a connection that the process has taken over, and the pipes that came with it."""
        for index, pipe in zip(pipes, connection.carried.values(), strict=True):
            self.keep_pipe(index, pipe)
        connection.carried = {}
        self.hold(number, connection)

    def bequeath(self) -> list[Connection]:
        """Return the connections that the dead process leaves, and let go of everything else."""
        if not self._ledger.complete:
            self.close()
            return []
        words = self._ledger.words.tolist()
        # Bytes may be in a pipe that is not here (there were no descriptors left for it): then they are lost.
        doubtful = {word >> 1 for index, word in enumerate(words[1:]) if word and index not in self._pipes}
        carriers = {words[1 + index]: index for index, pipe in self._pipes.items() if filled(pipe.read)}
        left = []
        for number, connection in list(self._connections.items()):
            if number in doubtful:
                continue
            for direction in (0, 1):
                index = carriers.get(word_of(number, direction))
                if index is not None:
                    connection.carried[direction] = self._pipes.pop(index)
            left.append(self._connections.pop(number))
        self.close()
        return left

    def close(self) -> None:
        """Let go of everything."""
        for number in list(self._connections):
            self.drop(number)
        for number in list(self._pipes):
            self.drop_pipe(number)
        self._ledger.close()
