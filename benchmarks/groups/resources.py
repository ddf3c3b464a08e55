"""Memory and CPU of thirty clusters that do nothing, with no client connected.

Memory is the proportional set size: a page that several processes share counts once in all. What a cluster costs is
the difference that thirty make to everything, so it includes what the server holds for it.
"""

from __future__ import annotations

import asyncio
import time

import aiohttp
import uvloop

from benchmarks import processes
from benchmarks.bokeh_session import open_session
from benchmarks.figures import Recorder
from benchmarks.load import create_running
from benchmarks.sides import DaskGateway, Side, Tidegate, make_folder, running

FEW, MANY = 10, 30
AT_ONCE = 4
SETTLE_SECONDS = 5.0
"""After the last cluster runs: imports and first heartbeats are over by then."""
IDLE_SECONDS = 60.0
"""Four of the peer's heartbeats, sixty of distributed's slowest frequent timer."""


def measure(rounds: int, recorder: Recorder) -> None:
    """Measure one side after the other: both at once would not fit a small machine."""
    for _ in range(rounds):
        for kind in (Tidegate, DaskGateway):
            with running(kind(make_folder())) as side:
                uvloop.run(_measure(recorder, side))


async def _measure(recorder: Recorder, side: Side) -> None:
    await asyncio.sleep(SETTLE_SECONDS)
    first = side.processes()
    none = processes.memory(first)
    recorder.add("server memory 0", side.name, none)
    names: list[str] = []
    for count in (FEW, MANY):
        names += await create_running(side, count - len(names), AT_ONCE)
        await asyncio.sleep(SETTLE_SECONDS)
        recorder.add(f"server memory {count}", side.name, processes.memory(first | _server(side, names)))
    recorder.add("cluster memory", side.name, (processes.memory(side.processes()) - none) / MANY)
    await _measure_cpu(recorder, side, first | _server(side, names))
    await _open_dashboards(side, names)
    recorder.add("cluster memory opened", side.name, (processes.memory(side.processes()) - none) / MANY)


async def _measure_cpu(recorder: Recorder, side: Side, server: set[int]) -> None:
    everything = side.processes()
    before, began = processes.cpu_seconds(everything), time.perf_counter()
    await asyncio.sleep(IDLE_SECONDS)
    after, elapsed = processes.cpu_seconds(everything), time.perf_counter() - began
    recorder.add("cluster cpu", side.name, processes.cpu_between(before, after) / elapsed / MANY)
    of_server = processes.cpu_between(before, {pid: used for pid, used in after.items() if pid in server})
    recorder.add("server cpu", side.name, of_server / elapsed)


async def _open_dashboards(side: Side, names: list[str]) -> None:
    async with aiohttp.ClientSession() as http:
        for name in names:
            async with open_session(http, side, name) as session:
                await session.ask()
    await asyncio.sleep(SETTLE_SECONDS)


def _server(side: Side, clusters: list[str]) -> set[int]:
    """Return the processes that belong to no cluster."""
    return side.processes() - processes.bearing(*clusters)
