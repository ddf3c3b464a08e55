"""A process that changes one cluster for ever and says what is recorded, to be killed by a test.

Usage: ``python store_writer.py FOLDER URL NAME``; URL is empty for the SQLite database in FOLDER.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from tidegate.model.event import Event
from tidegate.store.sql import SqlStore


async def write(folder: Path, url: str | None, name: str) -> None:
    """Save again and again: the record, its worker and two events always belong to the same change."""
    store = SqlStore(folder, url=url)
    await store.start()
    cluster = await store.load(name)
    while True:
        change = cluster.revision + 1
        worker = replace(cluster.workers[0], changed_at=float(change))
        happened = [Event("changed", f"first of {change}"), Event("changed", f"second of {change}")]
        cluster = await store.save(replace(cluster.with_workers(worker), changed_at=float(change)), happened)
        print(cluster.revision, flush=True)


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2] or None, sys.argv[3]))
