"""Pages that stay fresh: a stream of rendered fragments, by the name of their place on the page, after each change.

The page and the stream render the same fragment, so that there is one place where a cluster is drawn. Changes come in
bursts (ten workers that start within a blink), so a fragment is sent a moment after the first of a burst; and now and
then without a change, for the ages that it shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

from starlette.responses import StreamingResponse

from tidegate.api.events import RETRY_MILLISECONDS, STREAM_SECONDS, event_stream
from tidegate.model.errors import NotVisible
from tidegate.model.event import RecordedEvent

CALM_SECONDS = 0.15
"""How long changes are gathered: shorter than anyone notices, longer than a burst of workers."""

REFRESH_SECONDS = 15.0
"""How often a fragment is sent without a change; also keeps proxies from cutting a quiet stream."""

Draw = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the fragments of a page as they are now, by the name of their place."""


def stream(events: AsyncIterator[RecordedEvent], draw: Draw, seconds: float = STREAM_SECONDS) -> StreamingResponse:
    """Return the answer that sends what ``draw`` returns now, and again whenever ``events`` has something.

    When no more events will come, it says ``over`` and ends. After ``seconds`` it just ends: the browser comes back by
    itself, is asked again who it is, and gets the fragments as they are then.
    """
    return event_stream(_messages(events, draw, seconds))


async def _messages(
    events: AsyncIterator[RecordedEvent], draw: Draw, seconds: float = STREAM_SECONDS
) -> AsyncIterator[str]:
    changed = asyncio.Event()

    async def listen() -> None:
        try:
            async for _ in events:
                changed.set()
        finally:
            changed.set()

    listener = asyncio.create_task(listen())
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        while (left := end - loop.time()) > 0:
            changed.clear()
            over = listener.done()
            for place, html in (await draw()).items():
                yield _message(place, html)
            if over:
                # Raises what ended it, if that was not the end of the events: the browser then comes back. What is not
                # shared any more is over, too.
                with suppress(NotVisible):
                    listener.result()
                yield _message("over", "")
                return
            await _wait(changed, min(REFRESH_SECONDS, left))
        yield f"retry: {RETRY_MILLISECONDS}\n\n"
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
    await asyncio.sleep(CALM_SECONDS)


def _message(place: str, html: str) -> str:
    lines = "".join(f"data: {line}\n" for line in html.splitlines() or [""])
    return f"event: {place}\n{lines}\n"
