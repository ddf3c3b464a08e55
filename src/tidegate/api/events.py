"""Events as they happen: server-sent events (HTML standard, 9.2), resumable after a cut.

Each message bears the number of its event; whoever comes back with the last number that they saw (``Last-Event-ID``,
which browsers send by themselves, or ``?after=``) gets everything since. A comment every few seconds keeps proxies from
taking the quiet for death.

Who may read is asked when a stream begins. So that it does not outlast a login by much, each ends after a minute, or
with the token if that expires before; whoever follows comes back and is asked again. For that every stream begins with
the number after which it tells: who has seen no event yet misses none either.
"""

from __future__ import annotations

import asyncio
import math
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
"""After how long a browser comes back after a cut, or after the end of a stream that had lasted long enough."""

STREAM_SECONDS = 60.0
"""How long a stream lasts at the most: so long it is still read after a logout, or by a token that was revoked. To come
back costs the gateway as much as a request; a thousand streams are 17 of them a second."""

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
    return stream(services.clusters.follow(caller(request), whose=of, after=since), since, seconds_for(request))


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
        return stream(_each(rest), since) if rest else Response(status_code=204)
    return stream(events, since or 0, seconds_for(request))


def seconds_for(request: Request) -> float:
    """Return how long a stream lasts that the caller begins now: not longer than what they proved who they are by."""
    until = caller(request).until
    return STREAM_SECONDS if until is None else min(STREAM_SECONDS, until - services_of(request).clock())


async def _each(events: list[RecordedEvent]) -> AsyncIterator[RecordedEvent]:
    for event in events:
        yield event


def event_stream(messages: AsyncIterator[str]) -> StreamingResponse:
    """Return the answer that sends ``messages``, which nothing on the way may hold back or keep."""
    # X-Accel-Buffering: nginx would hold messages back until its buffer is full.
    headers = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    return StreamingResponse(messages, media_type="text/event-stream", headers=headers)


def stream(events: AsyncIterator[RecordedEvent], after: int, seconds: float = STREAM_SECONDS) -> StreamingResponse:
    """Return the answer that tells ``events``, all later than the one numbered ``after``, as they come."""
    return event_stream(_messages(events, after, seconds))


async def _messages(events: AsyncIterator[RecordedEvent], after: int, seconds: float) -> AsyncIterator[str]:
    # A number without data is no event, but it is what a browser comes back with (HTML standard, 9.2.6).
    yield f"retry: {RETRY_MILLISECONDS}\nid: {after}\n\n"
    # A share that is withdrawn between the answer and its first event: the stream ends, and whoever comes back is told.
    with suppress(NotVisible):
        async for event in with_pauses(events, PING_SECONDS, seconds):
            if event is None:
                yield ": still here\n\n"
            else:
                body = v2.EventBody.from_model(event)
                yield f"id: {body.id}\nevent: {body.kind}\ndata: {body.model_dump_json()}\n\n"


async def with_pauses(items: AsyncIterator[T], pause: float, longest: float = math.inf) -> AsyncIterator[T | None]:
    """Yield ``items``, and None whenever none has come for ``pause`` seconds; end after ``longest`` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + longest
    waiting: asyncio.Task[T] | None = None
    try:
        while (left := end - loop.time()) > 0:
            waiting = waiting or asyncio.create_task(_next(items))
            done, _ = await asyncio.wait({waiting}, timeout=min(pause, left))
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
        # The reader went away, or is to come back: let go of the subscription now, not when the garbage is collected.
        if waiting is not None:
            waiting.cancel()
            await asyncio.wait({waiting})
        if isinstance(items, AsyncGenerator):
            await items.aclose()


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)
