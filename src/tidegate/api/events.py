"""Events as they happen: server-sent events (HTML standard, 9.2), resumable after a cut.

Each message bears the number of its event; whoever comes back with the last number that they saw (``Last-Event-ID``,
which browsers send by themselves, or ``?after=``) gets everything since. A comment every few seconds keeps proxies from
taking the quiet for death.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Annotated, TypeVar

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.control.catalogue import Whose
from tidegate.model.errors import NotVisible
from tidegate.model.event import RecordedEvent
from tidegate.wire import v2

T = TypeVar("T")

PING_SECONDS = 15.0
"""Seconds of quiet after which a comment is sent: common reverse proxies cut after 30 to 60."""

RETRY_MILLISECONDS = 1000
"""After how long a browser comes back after a cut."""

LARGEST_ID = 2**63 - 1

After = Annotated[int | None, Query(ge=0, le=LARGEST_ID, description="Only events with a larger number.")]
LastEventId = Annotated[int | None, Header(ge=0, le=LARGEST_ID, description="The same, as browsers send it.")]


async def follow_all(
    request: Request,
    after: After = None,
    last_event_id: LastEventId = None,
    of: Annotated[Whose, Query(description="Of which clusters, as in the list.")] = Whose.MINE,
) -> Response:
    """Follow what happens to your clusters, from now on or from where you were."""
    services = services_of(request)
    since = last_event_id if last_event_id is not None else after
    if since is None:
        # Now is when the answer begins: whoever has read its head and acts then will be told of it.
        since = await services.clusters.last_event_id()
    return stream(services.clusters.follow(caller(request), whose=of, after=since))


async def follow_cluster(
    request: Request, name: str, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Follow one cluster from its beginning or from where you were, to its end; 204 when nothing more will come."""
    clusters = services_of(request).clusters
    cluster = await clusters.get(caller(request), name)
    since = last_event_id if last_event_id is not None else after
    events = clusters.follow(caller(request), cluster=name, after=since or 0)
    if since is not None and cluster.state.ended:
        rest = [event async for event in events]
        # 204 tells a browser to stop asking (HTML standard, 9.2.3); it would come back for ever.
        return stream(_each(rest)) if rest else Response(status_code=204)
    return stream(events)


async def _each(events: list[RecordedEvent]) -> AsyncIterator[RecordedEvent]:
    for event in events:
        yield event


def event_stream(messages: AsyncIterator[str]) -> StreamingResponse:
    """Return the answer that sends ``messages``, which nothing on the way may hold back or keep."""
    # X-Accel-Buffering: nginx would hold messages back until its buffer is full.
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages, media_type="text/event-stream", headers=headers)


def stream(events: AsyncIterator[RecordedEvent]) -> StreamingResponse:
    """Return the answer that tells ``events`` as they come."""
    return event_stream(_messages(events))


async def _messages(events: AsyncIterator[RecordedEvent]) -> AsyncIterator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    # A share that is withdrawn between the answer and its first event: the stream ends, and whoever comes back is told.
    with suppress(NotVisible):
        async for event in with_pauses(events, PING_SECONDS):
            if event is None:
                yield ": still here\n\n"
            else:
                body = v2.EventBody.from_model(event)
                yield f"id: {body.id}\nevent: {body.kind}\ndata: {body.model_dump_json()}\n\n"


async def with_pauses(items: AsyncIterator[T], seconds: float) -> AsyncIterator[T | None]:
    """Yield ``items``, and None whenever none has come for so many seconds."""
    waiting: asyncio.Task[T] | None = None
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(items))
            done, _ = await asyncio.wait({waiting}, timeout=seconds)
            if not done:
                yield None
                continue
            finished, waiting = waiting, None
            try:
                item = finished.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        # The reader went away: let go of the subscription now, not when the garbage is collected.
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
