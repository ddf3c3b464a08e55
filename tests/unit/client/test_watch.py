"""Watching a cluster: what happens is seen, also after the gateway was away."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import pytest
from aiohttp import web
from distributed.core import Status

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

    async def _close_clients(self) -> None:
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
    watched._refresh = watched._close_clients  # type: ignore[attr-defined]
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
