"""Bytes between a client and a scheduler: through either proxy, and direct.

Both gateways run whole, with one simulated cluster whose scheduler is the same end point: a TLS server in Python. TLS
goes from end to end through both proxies. On two cores client and end point use most of the machine, as Dask's would;
what a proxy adds to that is what is compared.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ssl import SSLSocket
from tempfile import TemporaryDirectory

import uvloop

from benchmarks import processes
from benchmarks.endpoint import connect, download, echo, make_certificate, upload
from benchmarks.figures import DIRECT, OURS, THEIRS, Recorder, percentile
from benchmarks.load import create, wait_until_running
from benchmarks.records import agent_tokens
from benchmarks.sides import Side, Tidegate, both, serving
from benchmarks.simulated import report_all

SIZE = 10**9
"""Bytes of a transfer: about a second."""

MESSAGES = 3000
CONNECTS = 40

Transfer = Callable[[SSLSocket, int], None]


def measure(rounds: int, recorder: Recorder) -> None:
    """Alternate between the three ways; a first, shorter round warms up and is not counted."""
    recorder.note(
        "MB and GB are powers of ten. Client and scheduler's end point are Python's ssl, on blocking sockets."
    )
    with endpoint() as port, both("simulated", f"127.0.0.1:{port}") as sides:
        ways = {DIRECT: Way(port, "x", None)}
        for side in sides:
            ways[side.name] = Way(side.port, uvloop.run(_route(side)), side)
        for way in ways.values():
            way.transfer(upload, SIZE // 10, 1)
            way.transfer(download, SIZE // 10, 8)
        for _ in range(rounds):
            for row, transfer, connections in (
                ("up 1", upload, 1),
                ("down 1", download, 1),
                ("up 8", upload, 8),
                ("down 8", download, 8),
            ):
                for name, way in ways.items():
                    seconds, cpu = way.transfer(transfer, SIZE, connections)
                    recorder.add(row, name, SIZE / seconds)
                    if way.side is not None and connections == 1:
                        recorder.add(f"cpu {row.split()[0]}", name, cpu / (SIZE / 1e9))
            _measure_delays(recorder, ways)


def _measure_delays(recorder: Recorder, ways: dict[str, Way]) -> None:
    medians = {}
    for name, way in ways.items():
        with connect(way.port, way.cluster) as sock:
            trips = echo(sock, 64, MESSAGES)[MESSAGES // 10 :]
        medians[name] = percentile(trips, 0.5)
        recorder.add("rtt p50", name, medians[name])
        recorder.add("rtt p99", name, percentile(trips, 0.99))
        recorder.add("connect p50", name, percentile([way.first_answer() for _ in range(CONNECTS)], 0.5))
    for name in (OURS, THEIRS):
        recorder.add("added p50", name, medians[name] - medians[DIRECT])


class Way:
    """A way to the end point: direct, or through a side's proxy.

    Parameters
    ----------
    port : int
    cluster : str
    side : Side or None
        Whose proxy stands there.
    """

    def __init__(self, port: int, cluster: str, side: Side | None) -> None:
        self.port = port
        self.cluster = cluster
        self.side = side
        self._pids = side.processes() if side else set()

    def transfer(self, transfer: Transfer, size: int, connections: int) -> tuple[float, float]:
        """Move ``size`` bytes over so many connections; return the seconds, and the CPU that the side used."""
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(connections) as threads:
            socks = [stack.enter_context(connect(self.port, self.cluster)) for _ in range(connections)]
            before = processes.cpu_seconds(self._pids)
            began = time.perf_counter()
            list(threads.map(lambda sock: transfer(sock, size // connections), socks))
            elapsed = time.perf_counter() - began
            return elapsed, processes.cpu_between(before, processes.cpu_seconds(self._pids))

    def first_answer(self) -> float:
        """Return the seconds from connecting to the first answer."""
        began = time.perf_counter()
        with connect(self.port, self.cluster) as sock:
            echo(sock, 64, 1)
            return time.perf_counter() - began


@contextlib.contextmanager
def endpoint() -> Iterator[int]:
    """Run the end point; yield its port."""
    with TemporaryDirectory() as folder:
        certificate, key = make_certificate(Path(folder))
        with serving("benchmarks.endpoint", str(certificate), str(key)) as port:
            yield port


async def _route(side: Side) -> str:
    """Make a cluster whose scheduler is the end point; return its name."""
    name = await create(side)
    if isinstance(side, Tidegate):
        await report_all(side, agent_tokens(side.data, [name]))
    await wait_until_running(side, name)
    return name
