"""One long computation, while control is killed ten times and the whole server three times.

The user is a program of its own, as a notebook is, and prints its result. Nothing else may come out of it: no warning,
no traceback, no sign of a reconnection.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.victims import module, supervisor
from tests.chaos.world import World, kill
from tests.support import eventually_sync

PROGRAM = """
import sys, time
from tidegate import Gateway

def step(total, number):
    time.sleep(0.02)
    return total + number

seconds = float(sys.argv[1])
with Gateway().new_cluster(worker_cores=1, worker_memory=0.5) as cluster:
    cluster.scale(2)
    with cluster.get_client() as client:
        client.wait_for_workers(2)
        connection = client.scheduler_comm.comm
        print("begun", flush=True)
        until = time.monotonic() + seconds
        chains = [client.submit(int, 0, pure=False) for _ in range(4)]
        steps = 0
        while time.monotonic() < until:
            for _ in range(10):
                steps += 1
                chains = [client.submit(step, chain, steps, pure=False) for chain in chains]
            client.gather(chains)
        results = set(client.gather(chains))
        right = results == {steps * (steps + 1) // 2}
        same = client.scheduler_comm.comm is connection
        print("right" if right else f"wrong: {results}", "uncut" if same else "cut", flush=True)
"""

CONTROL_KILLS = 10
RESTARTS = 3


@dataclass
class Endurance:
    """What became of it."""

    seconds: float
    control_kills: int = 0
    restarts: int = 0
    failure: str = ""

    @property
    def words(self) -> str:
        """A sentence."""
        what = f"{self.seconds:.0f} s of computing, control killed {self.control_kills} times, the server restarted "
        return f"{what}{self.restarts} times: " + (self.failure or "its user saw nothing but the result")


def endure(folder: Path, seconds: float, control_kills: int = CONTROL_KILLS, restarts: int = RESTARTS) -> Endurance:
    """Compute for so long, with these deaths spread over it, and return what became of it."""
    endured = Endurance(seconds)
    world = World(folder).adopt()
    try:
        world.start()
        _endure(world, endured, control_kills, restarts)
        world.stop()
    except Exception as error:
        endured.failure = f"{type(error).__name__}: {error} (its folder is kept: {folder})"
    finally:
        world.kill_everything()
    return endured


def _endure(world: World, endured: Endurance, control_kills: int, restarts: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(endured.seconds)],
        env=world.gateway.environ,
        cwd=world.gateway.home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        world.waited_for.add(program.pid)
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            began = time.monotonic()
            deaths = _spread(control_kills, restarts)
            for number, what in enumerate(deaths):
                due = began + endured.seconds * (number + 0.5) / len(deaths)
                threading.Event().wait(max(0.0, due - time.monotonic()))
                _kill(world, endured, what)
            said = program.communicate(timeout=endured.seconds + 120)[0]
        finally:
            program.kill()
    assert said == "right uncut\n", f"its user saw: {said}"


def _kill(world: World, endured: Endurance, what: str) -> None:
    if what == "server":
        kill(supervisor(world, "")[0])
        world.restart()
        endured.restarts += 1
        return
    found: list[int] = []
    eventually_sync(lambda: found.extend(module("tidegate.server.control")(world, "")) or found, 30, "control is back")
    kill(found[0])
    endured.control_kills += 1


def _spread(control_kills: int, restarts: int) -> list[str]:
    """Return the deaths in their order: those of the server evenly among those of control."""
    deaths = ["control"] * control_kills
    for number in range(restarts):
        deaths.insert((number + 1) * (control_kills + restarts) // (restarts + 1), "server")
    return deaths
