"""One round: the life of one cluster, timed, through the client that the first argument names.

    python lifecycle.py tidegate|dask_gateway ADDRESS

Prints one line of JSON that maps each action to seconds. What a user would wait for is what is timed: until the
client is connected, until the workers have registered, until the last process has gone.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

DEADLINE = 120.0
"""Seconds after which a wait is given up: ten times the slowest median seen."""


def processes_of(cluster: str) -> set[int]:
    """Return the processes that bear the cluster's name in their environment (both gateways put it there)."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if cluster.encode() in (entry / "environ").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue  # it ended while we looked, or it is not ours
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll every 2 ms: finer than any figure that is quoted, and too little work to disturb the measured side."""
    end = time.perf_counter() + DEADLINE
    while not condition():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing happened within {DEADLINE:g} s")
        time.sleep(0.002)


def timed(action: Callable[[], object]) -> tuple[float, object]:
    """Run ``action`` and return the seconds it took, and what it returned."""
    begin = time.perf_counter()
    result = action()
    return time.perf_counter() - begin, result


def life_of_a_cluster(gateway) -> dict[str, float]:
    """Create, connect, grow to 1, 4 and 10 workers, and shut down; return the seconds of each."""
    figures: dict[str, float] = {}
    begin = time.perf_counter()
    cluster = gateway.new_cluster()
    figures["new_cluster"] = time.perf_counter() - begin
    client = cluster.get_client()
    figures["new_cluster, client connected"] = time.perf_counter() - begin

    for count in (1, 4, 10):

        def grow(count: int = count) -> None:
            cluster.scale(count)
            client.wait_for_workers(count, timeout=DEADLINE)

        figures[f"scale to {count} workers"], _ = timed(grow)
        cluster.scale(0)
        wait_until(lambda: not client.scheduler_info(n_workers=-1)["workers"])

    cluster.scale(10)
    client.wait_for_workers(10, timeout=DEADLINE)
    name = cluster.name
    client.close()

    def end() -> None:
        cluster.shutdown()
        wait_until(lambda: not processes_of(name))

    figures["shutdown of 10 workers, every process gone"], _ = timed(end)
    return figures


def main() -> None:
    """Run one round and print it."""
    module, address = sys.argv[1:3]
    gateway_class = importlib.import_module(module).Gateway
    with gateway_class(address) as gateway:
        print(json.dumps(life_of_a_cluster(gateway)))


if __name__ == "__main__":
    main()
