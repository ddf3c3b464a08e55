"""How long the API is away when its process is killed, with one cluster running.

Tidegate's control process is started again by its supervisor. A killed supervisor, like the peer's server, has to be
started again by whoever looks after the machine; here a script does it at once, when what the killed one leaves behind
has ended.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection

import uvloop

from benchmarks import processes
from benchmarks.figures import Recorder
from benchmarks.load import create_running
from benchmarks.sides import DaskGateway, Side, Tidegate, make_folder, running

LIST = "/api/v1/clusters/"
DEADLINE = 60.0


def measure(rounds: int, recorder: Recorder) -> None:
    """Kill, wait, and kill again; then the other side."""
    recorder.note(
        "dask-gateway does not restart itself: the script starts it again at once, as soon as its proxy has freed the "
        "port; its database is a file here, so that it still knows its cluster."
    )
    with running(Tidegate(make_folder())) as ours:
        uvloop.run(create_running(ours, 1, 1))
        for _ in range(rounds):
            # In turn, for a supervisor waits longer each time before it starts again what ends soon after its start.
            recorder.add("control", ours.name, _kill(ours, _find(ours, "tidegate.server.control")))
            supervisor, control = ours.process.pid, _find(ours, "tidegate.server.control")
            recorder.add("server", ours.name, _kill_and_start(ours, [supervisor, *control], [supervisor, *control]))
    theirs = DaskGateway(make_folder())
    theirs.keep_database()
    with running(theirs):
        uvloop.run(create_running(theirs, 1, 1))
        for _ in range(rounds):
            server, proxy = theirs.process.pid, _find(theirs, "dask-gateway-proxy")
            recorder.add("server", theirs.name, _kill_and_start(theirs, [server], [server, *proxy]))


def _find(side: Side, words: str) -> list[int]:
    found = [pid for pid in side.processes() if words in processes.command(pid)]
    if not found:
        raise RuntimeError(f"{side.name} has no process {words}")
    return found


def _kill(side: Side, pids: Collection[int]) -> float:
    headers = side.plain_credential()
    began = time.perf_counter()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    processes.wait_for_end(pids, DEADLINE)
    return _answers_after(side, headers, began)


def _kill_and_start(side: Side, killed: Collection[int], ended: Collection[int]) -> float:
    headers = side.plain_credential()
    began = time.perf_counter()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    side.process.wait()
    processes.wait_for_end(ended, DEADLINE)
    side.launch()
    return _answers_after(side, headers, began)


def _answers_after(side: Side, headers: dict[str, str], began: float) -> float:
    while not side.answers(LIST, headers):
        if time.perf_counter() - began > DEADLINE:
            raise TimeoutError(f"{side.name} does not answer {DEADLINE:g} s after it was killed\n{side.last_words()}")
        time.sleep(0.005)
    return time.perf_counter() - began
