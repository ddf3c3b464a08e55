"""Cleaning up behind everyone: what runs without a record is stopped, what ended long ago is forgotten.

The loop leaves no orphans by itself. But a launch may be on its way to the engine when its control process is killed,
arrive after the cluster was stopped, and then belong to nobody: the sweep ends it.

It asks the backends *first* and reads the records *afterwards*. A record exists before its first launch, so what runs
and has no active record at the later moment cannot be a cluster that is just being made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tidegate.backends.base import Backend
from tidegate.control.engines import ask
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import TidegateError
from tidegate.model.usage import DAY_SECONDS
from tidegate.store.base import Store

log = logging.getLogger(__name__)

_PAGE = 200
_ENDED = tuple(state for state in ClusterState if state.ended)


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """How often, and how long history stays.

    ``interval`` in seconds: an orphan costs money, a listing costs the engine one call. ``prune_interval`` in seconds.
    ``keep`` is how many seconds a cluster that has ended stays on record, with its events and logs; ``keep_usage`` how
    long what it used does.
    """

    interval: float = 60.0
    prune_interval: float = 3600.0
    keep: float = 30 * 86400.0
    keep_usage: float = 400 * 86400.0


DEFAULT_SWEEP = SweepSettings()


class Sweep:
    """Stops what nobody has on record, and prunes history.

    Parameters
    ----------
    store : Store
    backends : mapping of str to Backend
    clock : callable
        Returns the time, in seconds since the epoch.
    settings : SweepSettings
    """

    def __init__(
        self,
        store: Store,
        backends: Mapping[str, Backend],
        clock: Callable[[], float],
        settings: SweepSettings = DEFAULT_SWEEP,
    ) -> None:
        self._store = store
        self._backends = backends
        self._clock = clock
        self._settings = settings

    async def run(self) -> None:
        """Sweep until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._for_ever(self.stop_orphans, self._settings.interval), name="sweep")
            tasks.create_task(self._for_ever(self.prune, self._settings.prune_interval), name="prune")
            prune_usage = self._for_ever(self.prune_usage, self._settings.prune_interval)
            tasks.create_task(prune_usage, name="prune-usage")

    async def stop_orphans(self) -> set[str]:
        """Stop every cluster that a backend knows and no active record does; return their names."""
        orphans: set[str] = set()
        for name, backend in self._backends.items():
            try:
                present = await ask(f"list the clusters of the backend {name}", backend.list_clusters())
                if not present:
                    continue
                active = {cluster.name for cluster in await self._store.active()}
            except TidegateError as error:
                log.warning("%s (%s)", error.message, error.detail or "no detail")
                continue
            for orphan in sorted(present - active):
                if await self._stop_orphan(name, backend, orphan):
                    orphans.add(orphan)
        return orphans

    async def _stop_orphan(self, name: str, backend: Backend, orphan: str) -> bool:
        """Stop one; False when that failed, which must not keep the others running."""
        log.warning("stopping cluster %s: it runs on the backend %s, but no active record has it", orphan, name)
        try:
            await ask(f"stop the orphan {orphan}", backend.stop(orphan))
        except TidegateError as error:
            log.warning("%s (%s)", error.message, error.detail or "no detail")
            return False
        return True

    async def prune(self) -> list[str]:
        """Forget clusters that ended too long ago: their traces first, so that dying in between loses none of them."""
        before = self._clock() - self._settings.keep
        try:
            for cluster in await self._ended_before(before):
                backend = self._backends.get(cluster.backend)
                if backend is not None:
                    await ask(f"forget cluster {cluster.name}", backend.forget(cluster.name))
        except TidegateError as error:
            log.warning("%s: history is pruned later (%s)", error.message, error.detail or "no detail")
            return []
        names = await self._store.prune(before)
        if names:
            log.info("pruned %d clusters that ended more than %g days ago", len(names), self._settings.keep / 86400)
        return names

    async def prune_usage(self) -> int:
        """Forget what was used too long ago; return how many rows that were."""
        return await self._store.prune_usage(int((self._clock() - self._settings.keep_usage) // DAY_SECONDS))

    async def _ended_before(self, before: float) -> list[Cluster]:
        found: list[Cluster] = []
        # What ended before that time was made before it: history is read from there on backwards.
        position: tuple[float, str] | None = (before, "")
        while position is not None:
            page = await self._store.find(states=_ENDED, before=position, limit=_PAGE)
            found += [c for c in page if c.stopped_at is not None and c.stopped_at < before]
            position = (page[-1].created_at, page[-1].name) if len(page) == _PAGE else None
        return found

    async def _for_ever(self, action: Callable[[], Awaitable[object]], interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            try:
                await action()
            except Exception:
                log.exception("cannot sweep; next try in %g s", interval)
