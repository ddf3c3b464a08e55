"""The part of the agents in simulated schedulers, which do not report by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from benchmarks.load import ask
from benchmarks.sides import Tidegate
from tidegate.wire.names import AGENT_PATH

AT_ONCE = 16
"""Reports under way at a time."""


async def report_all(side: Tidegate, tokens: Mapping[str, str], workers: Sequence[str] = ()) -> None:
    """Let the agent of each of these clusters report once: where its scheduler listens, and its workers."""
    turn = asyncio.Semaphore(AT_ONCE)
    port = int(side.scheduler.rpartition(":")[2])

    async def one(name: str, token: str) -> None:
        async with turn:
            body = {"attempt": 1, "port": port, "workers": list(workers)}
            await _report(side, name, token, body)

    await asyncio.gather(*(one(name, token) for name, token in tokens.items()))


async def _report(side: Tidegate, name: str, token: str, body: dict[str, object]) -> None:
    headers = {"Authorization": f"token {token}"}
    # A report that comes before the launch is on record is that of an attempt which is not known yet: it says nothing.
    for _ in range(200):
        wanted = await ask(side, "POST", AGENT_PATH.format(name=name) + "/report", body, headers)
        if not wanted["exit"]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"the launch of cluster {name} is not on record within ten seconds")
