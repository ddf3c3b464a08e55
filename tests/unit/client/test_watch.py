"""Watching a cluster: what happens is seen, also after the gateway was away."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest
from aiohttp import web
from distributed.core import Status

from tests.support import eventually
from tidegate.client.background import end_task
from tidegate.client.gateway import Gateway
from tidegate.client.watch import watch

from .conftest import CLUSTER, StubGateway, refuses, says
from .test_events import as_bytes


class Watched:
    """What watching brings up to date of a cluster object."""

    def __init__(self) -> None:
        self.status = Status.running
        self.scheduler_info: dict[str, Any] = {"workers": {"w": {}}}
        self._report: object = None
        self._changed = asyncio.Event()

    def _redraw(self) -> None:
        pass

    async def _close_clients(self) -> None:
        pass

    async def _refresh(self) -> None:
        pass


FAILED = CLUSTER | {"state": "failed", "reason": {"code": "x", "message": "The scheduler ended", "log_tail": ""}}


@pytest.mark.parametrize("failing", ["events", "cluster"])
async def test_watching_goes_on_when_the_gateway_is_back(stub: StubGateway, failing: str) -> None:
    """Whether it could not be followed, or not be read: the end of the cluster is noticed all the same."""
    broken, back = refuses(500, "internal-error", "cannot serve this"), asyncio.Event()
    failures = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal failures
        is_events = request.path.endswith("/events")
        if not back.is_set() and is_events == (failing == "events"):
            failures += 1
            if failures == 3:
                back.set()
            return await broken(request)
        if not is_events:
            return await says(FAILED if back.is_set() else CLUSTER)(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(as_bytes(1, "workers-changed"))
        await back.wait()
        await response.write(as_bytes(2, "cluster-failed"))
        return response

    stub.will(answer)
    watched = Watched()
    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        await asyncio.wait_for(watch(weakref.ref(watched), gateway, "c0ffee"), 20)  # type: ignore[arg-type]
    back.set()  # whatever was seen, the stub ends its stream

    assert failures == 3
    assert (watched.status, watched.scheduler_info["workers"]) == (Status.closed, {})


async def test_a_cluster_that_is_not_there_any_more_is_not_watched_for_ever(stub: StubGateway) -> None:
    """Its record was removed, or it was given to somebody else."""
    stub.will(refuses(404, "not-found", "cannot find this cluster"))
    watched = Watched()

    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        await asyncio.wait_for(watch(weakref.ref(watched), gateway, "c0ffee"), 10)  # type: ignore[arg-type]


async def test_who_waits_for_workers_is_woken_before_the_cluster_is_read(stub: StubGateway) -> None:
    """Reading it may take as long as it likes; that workers are on their way wakes nobody."""
    over, woken = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/events"):
            await over.wait()
            return await says(CLUSTER)(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(as_bytes(1, "workers-changed", running=0, starting=1))
        await woken.wait()
        await response.write(as_bytes(2, "workers-changed", running=1, starting=0))
        await over.wait()
        return response

    stub.will(answer)
    watched = Watched()
    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        watching = asyncio.ensure_future(watch(weakref.ref(watched), gateway, "c0ffee"))  # type: ignore[arg-type]
        try:
            await eventually(lambda: any(not r.path.endswith("/events") for r in stub.requests), 30)
            assert not watched._changed.is_set()
            woken.set()
            await asyncio.wait_for(watched._changed.wait(), 10)
            assert watched._report is None
        finally:
            woken.set()
            over.set()
            await end_task(watching)


class Late(Watched):
    """Its scheduler cannot be reached at first, and then shows for a while a worker that is being stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    async def _refresh(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise OSError("cut off just now")
        self.scheduler_info = {"workers": {"w": {}, "v": {}} if self.looks < 4 else {"w": {}}}


async def test_it_looks_until_the_scheduler_shows_what_the_gateway_says(stub: StubGateway) -> None:
    """A worker that is being stopped counts no more, and when it has gone there is no event."""
    over = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/events"):
            return await says(CLUSTER)(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(as_bytes(1, "workers-changed"))
        await over.wait()
        return response

    stub.will(answer)
    late = Late()
    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        watching = asyncio.ensure_future(watch(weakref.ref(late), gateway, "c0ffee"))  # type: ignore[arg-type]
        await eventually(lambda: late.looks == 4 and len(late.scheduler_info["workers"]) == 1, 30)
        await end_task(watching)
    over.set()


SHARED = CLUSTER | {"owner": "bob", "mine": False, "rights": ["connect", "dashboard", "logs", "see"]}


@pytest.mark.parametrize(
    ("left", "why"),
    [
        (says(SHARED | {"rights": ["dashboard", "logs", "see"]}), "bob shares it with you to view, not to use"),
        (refuses(404, "not-found", "Cluster c0ffee not found"), "bob no longer shares it with you"),
    ],
    ids=["some of it", "nothing"],
)
async def test_a_share_that_is_withdrawn_ends_the_object(
    stub: StubGateway, caplog: pytest.LogCaptureFixture, left: Any, why: str
) -> None:
    """Its clients are closed, and it is said why: once, and as what somebody reads in a notebook."""
    withdrawn = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.endswith("/events"):
            return await (left if withdrawn.is_set() else says(SHARED))(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(as_bytes(1, "workers-changed"))
        await withdrawn.wait()
        return response  # to whoever does not see the cluster any more, the gateway tells no more of it

    stub.will(answer)
    watched = Watched()
    async with Gateway(stub.address, proxy_address="127.0.0.1:1", asynchronous=True) as gateway:
        watching = asyncio.ensure_future(watch(weakref.ref(watched), gateway, "c0ffee"))  # type: ignore[arg-type]
        await eventually(lambda: watched._report is not None, 30)
        assert watched.status is Status.running
        withdrawn.set()
        await asyncio.wait_for(watching, 20)

    assert (watched.status, watched.scheduler_info["workers"]) == (Status.closed, {})
    assert [record.message for record in caplog.records] == [f"cannot use any longer cluster c0ffee: {why}"]
