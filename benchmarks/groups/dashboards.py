"""A dashboard's page and its WebSocket, through either proxy. (Ours asks for a credential, the peer's for none.)"""

from __future__ import annotations

import time

import aiohttp
import uvloop

from benchmarks.bokeh_session import load_page, open_session
from benchmarks.figures import Recorder, percentile
from benchmarks.load import create_running
from benchmarks.sides import Side, both

MESSAGES = 200


def measure(rounds: int, recorder: Recorder) -> None:
    """Alternate between two real clusters; the first round is not counted."""
    with both() as sides:
        uvloop.run(_measure(rounds, recorder, sides))


async def _measure(rounds: int, recorder: Recorder, sides: tuple[Side, ...]) -> None:
    clusters = {side.name: (await create_running(side, 1, 1))[0] for side in sides}
    async with aiohttp.ClientSession() as http:
        for number in range(rounds + 1):
            for side in sides:
                began = time.perf_counter()
                await load_page(http, side, clusters[side.name])
                page = time.perf_counter() - began
                async with open_session(http, side, clusters[side.name]) as session:
                    seconds = [await session.ask() for _ in range(MESSAGES)]
                if number:
                    recorder.add("page", side.name, page)
                    recorder.add("message p50", side.name, percentile(seconds, 0.5))
                    recorder.add("message p99", side.name, percentile(seconds, 0.99))
