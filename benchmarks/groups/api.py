"""Lists and reads through the public port, with few and with many clusters on record.

The clusters are simulated on both sides: running as far as the record tells, with nothing behind them. The caller has
one of them; the others belong to twenty other tenants. So what grows is what the gateway knows, not what the caller
is told: an answer about a thousand own clusters is long whatever the server does.
"""

from __future__ import annotations

import asyncio

import uvloop

from benchmarks import processes
from benchmarks.figures import OURS, Recorder, percentile
from benchmarks.load import WARM_UP_SECONDS, ask, create, measure_load, prepare, wait_until_running
from benchmarks.records import agent_tokens, mint_all
from benchmarks.sides import DaskGateway, Side, Tidegate, both, serving
from benchmarks.simulated import report_all

RECORDS = (10, 1000)
CONNECTIONS = (1, 16, 64)
SECONDS = 1.5
TENANTS = [f"tenant-{number}" for number in range(20)]
LIST = "/api/v1/clusters/"


def measure(rounds: int, recorder: Recorder) -> None:
    """Fill the records in steps, and load both sides in alternation at each."""
    recorder.note(
        "The caller of list and read has one cluster; the others on record belong to twenty other tenants. "
        "A read by dask-gateway's protocol carries the cluster's key, which Tidegate keeps sealed and opens for it; "
        "a list carries keys on dask-gateway only. "
        "The load generator is one process: raw keep-alive connections on uvloop."
    )
    with both(backend="simulated") as (ours, theirs):
        uvloop.run(_measure(rounds, recorder, ours, theirs))
    _measure_generator(rounds, recorder)


async def _measure(rounds: int, recorder: Recorder, ours: Tidegate, theirs: DaskGateway) -> None:
    sides: tuple[Side, ...] = (ours, theirs)
    own = {side.name: await _own_cluster(side) for side in sides}
    there = 1
    for records in RECORDS:
        for side in sides:
            await _fill(side, records - there)
        there = records
        for _ in range(rounds):
            if records == RECORDS[0]:
                await _load_own_protocol(recorder, ours, own[ours.name])
            for connections in CONNECTIONS:
                for kind in ("list", "read"):
                    for side in sides:
                        path = LIST if kind == "list" else LIST + own[side.name]
                        await _load(recorder, side, kind, path, records, connections)
    for side in sides:
        few, many = (recorder.samples[f"list {records} 16 p99"][side.name] for records in RECORDS)
        for before, after in zip(few, many, strict=True):
            recorder.add("list growth", side.name, after / before)


async def _load(recorder: Recorder, side: Side, kind: str, path: str, records: int, connections: int) -> None:
    request = prepare("GET", path, side.credential())
    pids = side.processes()
    before = processes.cpu_seconds(pids)
    rate, latencies = await measure_load(side.port, request, connections, SECONDS)
    used = processes.cpu_between(before, processes.cpu_seconds(pids))
    if (kind, records, connections) == ("list", RECORDS[0], 16):
        # The quarter of a second that warms up is in what was used, so it has to be in the number of requests.
        recorder.add("list cpu", side.name, used / (rate * (SECONDS + WARM_UP_SECONDS)))
    key = f"{kind} {records} {connections}"
    recorder.add(f"{key} rate", side.name, rate)
    recorder.add(f"{key} p50", side.name, percentile(latencies, 0.5))
    recorder.add(f"{key} p99", side.name, percentile(latencies, 0.99))


async def _load_own_protocol(recorder: Recorder, ours: Tidegate, name: str) -> None:
    request = prepare("GET", f"/api/v2/clusters/{name}", ours.credential())
    rate, _latencies = await measure_load(ours.port, request, 16, SECONDS)
    recorder.add("own read rate", ours.name, rate)


async def _own_cluster(side: Side) -> str:
    """Make the caller's cluster."""
    name = await create(side)
    if isinstance(side, Tidegate):
        await report_all(side, agent_tokens(side.data, [name]))
    await wait_until_running(side, name)
    return name


async def _fill(side: Side, count: int) -> None:
    """Make clusters of other tenants, and wait until all of them run."""
    if isinstance(side, Tidegate):
        tokens = mint_all(side.data, TENANTS)
        tenants = [{"Authorization": f"Bearer {token}"} for token in tokens.values()]
    else:
        tenants = [side.credential(user) for user in TENANTS]
    turn = asyncio.Semaphore(8)

    async def one(number: int) -> str:
        async with turn:
            return await create(side, tenants[number % len(tenants)])

    names = list(await asyncio.gather(*(one(number) for number in range(count))))
    if isinstance(side, Tidegate):
        await report_all(side, agent_tokens(side.data, names))
    for headers in tenants:
        for _ in range(600):
            found = (await ask(side, "GET", LIST, headers=headers)).values()
            if all(report["status"] == "RUNNING" for report in found):
                break
            await asyncio.sleep(0.1)
        else:
            raise TimeoutError(f"{side.name}: not all simulated clusters run within a minute")


def _measure_generator(rounds: int, recorder: Recorder) -> None:
    """Measure what the load generator can do at most."""
    with serving("benchmarks.load") as port:
        for _ in range(rounds):
            rate, _latencies = uvloop.run(measure_load(port, prepare("GET", "/", {}), 16, SECONDS))
            recorder.add("generator", OURS, rate)
