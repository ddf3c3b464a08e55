"""What another user of the gateway feels while somebody creates ten clusters at once."""

from __future__ import annotations

import asyncio
import time

import uvloop

from benchmarks import processes
from benchmarks.figures import Recorder, percentile
from benchmarks.load import ClosedLoop, ask, create, prepare, wait_until_running
from benchmarks.sides import Side, both

CLUSTERS = 10
BEFORE_SECONDS = 3.0
PAUSE = 0.002
"""Seconds between two requests of the bystander: who asks without a pause is a load and no bystander."""

BYSTANDER = "bystander"


def measure(rounds: int, recorder: Recorder) -> None:
    """Alternate; the clusters of one side are gone before the other begins. The first round is not counted."""
    recorder.note("The bystander lists its own clusters (it has none) on one connection, every 2 ms after an answer.")
    with both() as sides:
        for number in range(rounds + 1):
            for side in sides:
                figures = uvloop.run(_measure(side))
                for row, value in figures.items():
                    if number:
                        recorder.add(row, side.name, value)


async def _measure(side: Side) -> dict[str, float]:
    request = prepare("GET", "/api/v1/clusters/", side.credential(BYSTANDER))
    async with ClosedLoop(side.port, request, 1, PAUSE) as bystander:
        await asyncio.sleep(0.5)
        bystander.latencies.clear()
        await asyncio.sleep(BEFORE_SECONDS)
        before = bystander.latencies[:]
        bystander.latencies.clear()
        others = processes.living()
        began = time.perf_counter()
        names = await asyncio.gather(*(create(side) for _ in range(CLUSTERS)))
        await asyncio.gather(*(wait_until_running(side, name) for name in names))
        elapsed = time.perf_counter() - began
        during = bystander.latencies[:]
    await _stop(side, names, others)
    return {
        "before p50": percentile(before, 0.5),
        "before p99": percentile(before, 0.99),
        "during p50": percentile(during, 0.5),
        "during p99": percentile(during, 0.99),
        "during max": max(during),
        "ten clusters": elapsed,
    }


async def _stop(side: Side, names: list[str], others: set[int]) -> None:
    """Stop these clusters and wait until their processes, ``others`` not among them, are gone."""
    belonging = processes.bearing(*names) - others
    await asyncio.gather(*(ask(side, "DELETE", f"/api/v1/clusters/{name}") for name in names))
    await asyncio.to_thread(processes.wait_for_end, belonging, 60.0)
