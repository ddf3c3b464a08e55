"""Waiting here for what runs in another thread's loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from tidegate.client.background import run_in_loop


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_result_and_the_error_come_back(loop: asyncio.AbstractEventLoop) -> None:
    """As if it had been called here."""

    async def fail() -> None:
        raise KeyError("x")

    assert run_in_loop(loop, lambda: asyncio.sleep(0, result=5)) == 5
    with pytest.raises(KeyError):
        run_in_loop(loop, fail)


def test_an_interruption_waits_for_the_cleaning_up(loop: asyncio.AbstractEventLoop) -> None:
    """When Ctrl-C is over, so is what it interrupted: a cluster that was asked for has been stopped."""
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_loop(loop, work, tick=interrupt)

    assert cleaned == [True]


def test_ticks_come_in_the_waiting_thread(loop: asyncio.AbstractEventLoop) -> None:
    """That is where terminals and notebooks want to be written to."""
    ticks = []

    async def work() -> None:
        deadline = time.monotonic() + 10
        while not ticks and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    run_in_loop(loop, work, tick=lambda: ticks.append(threading.current_thread()))

    assert set(ticks) == {threading.current_thread()}
