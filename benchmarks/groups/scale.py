"""Five hundred clusters with ten workers each, simulated: what the control loop, the store and the API can take.

There is nothing behind the records, so the peer, which has no such backend of its own, is not compared. What the
agents in the schedulers would report, over the public port like everybody, is reported from here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from benchmarks.figures import OURS, Recorder
from benchmarks.load import ask, create
from benchmarks.records import agent_tokens
from benchmarks.sides import Tidegate, make_folder, running
from benchmarks.simulated import report_all

CLUSTERS = 500
WORKERS = 10
AT_ONCE = 16
DEADLINE = 300.0
NAMES = [f"default-{number}" for number in range(1, WORKERS + 1)]
"""What the gateway calls the first workers of a cluster."""


def measure(rounds: int, recorder: Recorder) -> None:
    """Create all, size all, stop all, with sixteen requests under way at a time."""
    for _ in range(rounds):
        with running(Tidegate(make_folder(), "simulated")) as side:
            uvloop.run(_measure(recorder, side))


async def _measure(recorder: Recorder, side: Tidegate) -> None:
    async with _timed(recorder, "create"):
        names = await _for_all(range(CLUSTERS), lambda _: create(side))
        tokens = agent_tokens(side.data, names)
        await report_all(side, tokens)
        await _until(side, lambda cluster: cluster["state"] == "running")
    async with _timed(recorder, "resize"):
        path = "/api/v1/clusters/{}/scale"
        await _for_all(names, lambda name: ask(side, "POST", path.format(name), {"count": WORKERS}))
        missing = names
        deadline = time.monotonic() + DEADLINE
        while missing:
            # A worker counts once it is on record as started; an agent tells again until it does.
            await report_all(side, {name: tokens[name] for name in missing}, NAMES)
            found = await _clusters(side)
            missing = [name for name in missing if found[name]["workers"]["running"] < WORKERS]
            _check(deadline, side)
    async with _timed(recorder, "stop"):
        await _for_all(names, lambda name: ask(side, "DELETE", f"/api/v1/clusters/{name}"))
        await _until(side, lambda cluster: cluster["state"] in ("stopped", "failed"))


class _timed:
    """Times a block."""

    def __init__(self, recorder: Recorder, row: str) -> None:
        self._recorder = recorder
        self._row = row

    async def __aenter__(self) -> None:
        self._began = time.perf_counter()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._recorder.add(self._row, OURS, time.perf_counter() - self._began)


async def _for_all(items: Any, work: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        async with turn:
            return await work(item)

    return list(await asyncio.gather(*(one(item) for item in items)))


async def _clusters(side: Tidegate) -> dict[str, Any]:
    found: dict[str, Any] = {}
    cursor: str | None = ""
    while cursor is not None:
        page = await ask(side, "GET", "/api/v2/clusters?limit=100" + (f"&cursor={cursor}" if cursor else ""))
        found |= {cluster["name"]: cluster for cluster in page["clusters"]}
        cursor = page["next_cursor"]
    return found


async def _until(side: Tidegate, true_of: Callable[[Any], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not all(true_of(cluster) for cluster in (await _clusters(side)).values()):
        _check(deadline, side)
        await asyncio.sleep(0.1)


def _check(deadline: float, side: Tidegate) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"500 simulated clusters are not there within {DEADLINE:g} s\n{side.last_words()}")
