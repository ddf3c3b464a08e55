"""What runs in a cluster writes into its journal: the cluster is stopped, and nobody else waits."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from tests.contract.backend_sites import LocalSite, see, state_of, until
from tidegate.backends.local.backend import LocalBackend
from tidegate.backends.local.statuses import HONEST_BYTES, OVERGROWN
from tidegate.model.observation import ProcessState


async def test_a_cluster_that_overgrows_its_journal_is_ended(site: LocalSite) -> None:
    """Its scheduler counts as ended, with the reason, although it runs; then a stop ends all of it."""
    await site.run(workers=1)
    os.truncate(site.cluster_folder / "status.jsonl", HONEST_BYTES + 1)
    seen = await see(site)
    assert state_of(seen) is ProcessState.EXITED
    assert seen.remains

    await site.backend.stop(site.launch.cluster)

    seen = await until(site, lambda seen: not seen.remains)
    assert seen.scheduler is not None
    assert seen.scheduler.why == OVERGROWN
    assert not site.marked()


async def test_a_stop_reads_beside_the_loop(site: LocalSite) -> None:
    """Whatever reading takes: all calls of all clusters are on that loop."""
    await site.run()
    assert isinstance(site.backend, LocalBackend)
    reading = site.backend._folder(site.launch.cluster)._statuses._reading
    reading.acquire()
    in_the_end = threading.Timer(5.0, reading.release)
    in_the_end.start()
    began = time.monotonic()
    stopping = asyncio.create_task(site.backend.stop(site.launch.cluster))
    for _ in range(3):
        await asyncio.sleep(0)
    assert time.monotonic() - began < 4.0
    assert not stopping.done()
    in_the_end.cancel()
    reading.release()
    await stopping
    await until(site, lambda seen: not seen.remains)
