"""Threads for slow work that strangers can ask for, shared fairly among those who ask.

Whoever waits stands in a queue of their own, and the next turn is for the client whose last one was longest ago: a
flood delays itself, also one from many addresses, and whoever has not been there lately is next. Queues are bounded, so
what cannot be done soon is refused at once. The threads give way to everything else on the machine: a login may take
longer, a request that needs none of this does not notice.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tidegate.model.errors import Busy

NICENESS = 5
"""By which the threads give way (``nice``): on a busy machine they have a third of the share of the thread that answers
requests, and not so little that nobody could log in beside clusters that compute. On Linux each thread has its own."""

CLIENTS = 10_000
"""Of how many it is remembered when their last turn was."""

T = TypeVar("T")


class Turns:
    """Runs work on threads.

    Parameters
    ----------
    threads : int
        How many there are.
    name : str
        How they are called.
    per_client : int
        How many of one client may wait. A class room behind one address logs in together.
    waiting : int
        How many may wait in all.
    """

    def __init__(self, threads: int, name: str, *, per_client: int = 100, waiting: int = 1_000) -> None:
        self._pool = ThreadPoolExecutor(threads, name, initializer=_give_way)
        self._free = threads
        self._per_client = per_client
        self._most = waiting
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}
        self._waiting = 0
        # Whoever had a turn, the last one at the end.
        self._served: OrderedDict[str, int] = OrderedDict()
        self._turns = 0

    async def run(self, client: str, work: Callable[..., T], *arguments: object) -> T:
        """Return what ``work`` returns, run on a thread when it is the turn of ``client``.

        Raises
        ------
        Busy
            When too many wait already.
        """
        await self._wait(client)
        running = asyncio.get_running_loop().run_in_executor(self._pool, lambda: work(*arguments))
        # The thread is busy until it has done, also when nobody waits for it any more.
        running.add_done_callback(lambda done: self._pass_on(None if done.cancelled() else done.exception()))
        return await asyncio.shield(running)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _wait(self, client: str) -> None:
        if self._free:
            self._free -= 1
            self._remember(client)
            return
        if len(self._queues.get(client, ())) >= self._per_client or self._waiting >= self._most:
            raise Busy("cannot check a password now: too many others are being checked. Try again in a moment")
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(client, deque()).append(turn)
        self._waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(client, turn)
            else:
                self._pass_on()
            raise

    def _leave(self, client: str, turn: asyncio.Future[None]) -> None:
        """Take out of its queue who no longer waits, unless their turn has just come and gone."""
        queue = self._queues.get(client, deque())
        if turn in queue:
            queue.remove(turn)
            self._waiting -= 1
            if not queue:
                del self._queues[client]

    def _pass_on(self, _: object = None) -> None:
        """Let the next have the thread."""
        while self._queues:
            # Of those who were not there lately, who came first.
            client = min(self._queues, key=lambda client: self._served.get(client, 0))
            queue = self._queues[client]
            turn = queue.popleft()
            self._waiting -= 1
            if not queue:
                del self._queues[client]
            if not turn.done():
                self._remember(client)
                turn.set_result(None)
                return
        self._free += 1

    def _remember(self, client: str) -> None:
        self._turns += 1
        self._served[client] = self._turns
        self._served.move_to_end(client)
        if len(self._served) > CLIENTS:
            self._served.popitem(last=False)


def _give_way() -> None:
    os.nice(NICENESS)
