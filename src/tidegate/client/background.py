"""Running a coroutine in the loop of another thread, and waiting for it here.

A notebook is synchronous, the network is not: the loop runs in a thread of its own. Whoever waits can be interrupted
(Ctrl-C). Then the coroutine is cancelled *and given time to clean up*, so that an interrupted ``new_cluster()`` leaves
no cluster behind.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tidegate.client.warn import at_the_caller

T = TypeVar("T")

CLEANUP_SECONDS = 10.0
"""For a cancelled coroutine to clean up: two requests to the gateway. A second Ctrl-C cuts this short."""

AGAIN_SECONDS = 1.0
"""Until a task that did not end is cancelled once more."""

TICK_SECONDS = 0.2
"""Between two calls of ``tick``: what shows seconds need not be called more often."""


def run_in_loop(
    loop: asyncio.AbstractEventLoop, start: Callable[[], Coroutine[Any, Any, T]], tick: Callable[[], None] | None = None
) -> T:
    """Run the coroutine that ``start`` returns in ``loop``, which runs in another thread, and return its result.

    Parameters
    ----------
    loop : asyncio loop
    start : callable
        Returns the coroutine.
    tick : callable, optional
        Called in *this* thread now and then while waiting; what a person sees is drawn by it.
    """
    over = threading.Event()

    async def run() -> T:
        try:
            return await start()
        finally:
            over.set()

    with at_the_caller():
        future = asyncio.run_coroutine_threadsafe(run(), loop)
        try:
            while True:
                done, _ = concurrent.futures.wait([future], timeout=TICK_SECONDS if tick else None)
                if done:
                    return future.result()
                if tick:
                    tick()
        except BaseException:
            if not over.is_set() and future.cancel():
                over.wait(CLEANUP_SECONDS)
            raise


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel ``task`` and return when it has ended.

    Again and again: before Python 3.12 ``asyncio.wait_for``, which libraries use, can swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=AGAIN_SECONDS)
