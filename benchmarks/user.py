"""A user's program on one side, run in that side's environment with that side's own client.

    python -m benchmarks.user tidegate|dask_gateway ADDRESS life|adaptive

Prints one line of JSON that maps rows to seconds. What a user would wait for is what is timed: until the client is
connected, until the workers have registered, until the last process has gone. Nothing but the client's module differs
between the sides.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.processes import bearing, command, living, wait_for_end

DEADLINE = 120.0
"""Seconds after which a wait is given up: ten times the slowest median seen."""

POLL_SECONDS = 0.005
"""Finer than any figure that is quoted, and too little work to disturb what is measured."""


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when ``condition()`` is true."""
    end = time.perf_counter() + DEADLINE
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing happened within {DEADLINE:g} s")
        time.sleep(POLL_SECONDS)


def timed(action: Callable[[], object]) -> float:
    """Run ``action`` and return the seconds it took."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def workers(client: Any) -> int:
    """Return how many workers the scheduler has, by what it last told this client."""
    return len(client.scheduler_info(n_workers=-1)["workers"])


def life(gateway: Any) -> dict[str, float]:
    """Create, connect, grow to 1, 4 and 10 workers, and shut down."""
    figures: dict[str, float] = {}
    others = living()  # a server may have a file of the cluster open for a moment, and is none of its processes
    begin = time.perf_counter()
    cluster = gateway.new_cluster()
    figures["new_cluster"] = time.perf_counter() - begin
    client = cluster.get_client()
    figures["connected"] = time.perf_counter() - begin

    def grow(count: int) -> None:
        cluster.scale(count)
        client.wait_for_workers(count, timeout=DEADLINE)

    for count, row in ((1, "1 worker"), (4, "4 workers"), (10, "10 workers")):
        figures[row] = timed(partial(grow, count))
        cluster.scale(0)
        wait_until(lambda: not workers(client))

    grow(10)
    client.close()
    # Found before, so that while the time runs nobody searches: the kernel tells when the last of them ends.
    belonging = bearing(cluster.name) - others
    if len(belonging) < 11:
        raise RuntimeError(f"only {len(belonging)} processes of a cluster with ten workers were found")

    def end() -> None:
        cluster.shutdown()
        wait_for_end(belonging, DEADLINE)

    figures["shutdown"] = timed(end)
    if late := bearing(cluster.name) - others:
        words = "; ".join(f"{pid} {command(pid)}" for pid in late)
        raise RuntimeError(f"the cluster's processes have ended, but some are left that came later: {words}")
    return figures


def adaptive(gateway: Any) -> dict[str, float]:
    """Submit a task to a cluster that has no worker, and wait until it has none again."""
    with gateway.new_cluster() as cluster, cluster.get_client() as client:
        cluster.adapt(minimum=0, maximum=4)
        begin = time.perf_counter()
        future = client.submit(sum, [1, 2])
        client.wait_for_workers(1, timeout=DEADLINE)
        up = time.perf_counter() - begin
        future.result(timeout=DEADLINE)
        future.release()
        down = timed(lambda: wait_until(lambda: not workers(client)))
    return {"up": up, "down": down}


ACTIONS = {"life": life, "adaptive": adaptive}


def main() -> None:
    """Do one action and print its figures."""
    module, address, action = sys.argv[1:4]
    with importlib.import_module(module).Gateway(address) as gateway:
        figures = ACTIONS[action](gateway)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
