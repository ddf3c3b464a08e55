"""The control loop: it brings every cluster nearer to what is wanted, one pass at a time.

How to think about it
---------------------
A pass takes a *name* and no hint: load the record, look at what runs, ``plan()``, do the steps. What woke it (a change
of the record, a report, a backend that heard something, a deadline, the slow timer) makes no difference to what it
does, so a wake-up that is lost costs time and nothing else. Passes of one cluster never overlap; those of different
clusters run side by side, up to a bound.

Each pass looks for itself, after it has loaded the record, so it never acts on an old look. The slow timer is cheap
all the same: *one* look at all active clusters, the plan of each worked out from it, and a pass only for those whose
plan is not empty.

Nothing that happens to one cluster ends the loop: what a pass raises is logged, and the cluster's turn comes again
after a while that doubles.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from tidegate.backends.base import Backend
from tidegate.control.backoff import Backoff
from tidegate.control.bus import Bus
from tidegate.control.execute import Executor
from tidegate.control.handing import HandingOut
from tidegate.control.observe import Observer
from tidegate.control.records import Records
from tidegate.control.workqueue import WorkQueue
from tidegate.model.clocks import Jumps
from tidegate.model.cluster import Cluster, ClusterState, Target
from tidegate.model.errors import Busy, TidegateError
from tidegate.model.lifecycle import due, needs_look, plan, rewind
from tidegate.model.observation import Seen
from tidegate.model.steps import Mark, Step
from tidegate.model.workers import DEFAULT_TIMING, Timing
from tidegate.store.base import StaleRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the loop turns.

    ``passes`` is how many clusters are worked on at a time: enough to hide the latency of an engine's commands, few
    enough not to storm it. ``interval`` is the slow timer in seconds, the longest that a lost hint can cost.
    ``repeat`` and ``repeat_limit`` are how soon, in seconds, the same effect is asked for again while nothing comes of
    it; ``retry`` and ``retry_limit`` how soon a pass is tried again that raised.
    """

    passes: int = 16
    interval: float = 5.0
    repeat: float = 0.05
    repeat_limit: float = 5.0
    retry: float = 0.25
    retry_limit: float = 60.0


DEFAULT_PACE = Pace()


class Reconciler:
    """Runs the loop.

    Parameters
    ----------
    records : Records
    backends : mapping of str to Backend
        By the name that clusters carry.
    executor : Executor
    bus : Bus
    clock : callable
        Returns the time, in seconds since the epoch.
    steady : callable, optional
        Returns seconds that nobody sets; from it the loop knows that the clock was set. By default it is not.
    pace, timing
        The numbers of the loop and of the workers' lifecycle.
    """

    def __init__(
        self,
        records: Records,
        backends: Mapping[str, Backend],
        executor: Executor,
        bus: Bus,
        clock: Callable[[], float],
        *,
        steady: Callable[[], float] | None = None,
        pace: Pace = DEFAULT_PACE,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self._records = records
        self._backends = backends
        self._observers = {name: Observer(backend) for name, backend in backends.items()}
        self._executor = executor
        self._handing = HandingOut(records, clock)
        self._bus = bus
        self._clock = clock
        self._pace = pace
        self._timing = timing
        self._queue = WorkQueue()
        self._retries = Backoff(pace.retry, pace.retry_limit)
        self._repeats = _Repeats(pace, clock)
        self._jumps = Jumps(clock, steady)

    async def run(self) -> None:
        """Turn until cancelled."""
        try:
            with self._bus.subscribe(self._queue.add):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._look_around_for_ever(), name="reconciler-timer")
                    for name, backend in self._backends.items():
                        tasks.create_task(self._hear(name, backend), name=f"reconciler-hears-{name}")
                    for number in range(self._pace.passes):
                        tasks.create_task(self._work(), name=f"reconciler-{number}")
        finally:
            self._queue.close()
            for observer in self._observers.values():
                await observer.close()

    async def reconcile(self, name: str) -> float | None:
        """Make one pass of one cluster; return in how many seconds to come back even if nothing happens, or None.

        Raises
        ------
        StaleRecord, TidegateError
            The pass could not be finished; another will go on from where it stopped.
        """
        if (jump := self._jumps.take()) != 0:
            log.warning("the clock was set by %+.0f s: clusters that are starting get their full time again", jump)
            await self.resume()
        cluster = await self._records.load(name)
        if cluster is None or cluster.state.ended:
            self._repeats.forget(name)
            return None
        if rewind(cluster, self._clock()) is not cluster:
            log.warning("the clock was set back: the times of cluster %s are set back with it", name)
            await self._records.change(name, lambda c: (rewind(c, self._clock()), ()))
            return None
        seen = await self._look(cluster) if needs_look(cluster) else None
        now = self._clock()
        steps = plan(cluster, seen, now, self._timing)
        if not steps:
            self._repeats.forget(name)
            return due(cluster, now)
        wait = self._repeats.wait_for(name, steps)
        if wait > 0:
            return wait
        await self._executor.run(cluster, steps)
        # What was recorded has woken us through the bus. An effect alone has not: look soon whether it came to be.
        return self._repeats.done(name, steps)

    async def look_around(self) -> None:
        """Look at all active clusters at once, and wake those for which there is something to do."""
        active = sorted(await self._records.store.active(), key=lambda c: c.backend)
        for backend, group in groupby(active, key=lambda c: c.backend):
            clusters = list(group)
            seen = await self._look_at_all(backend, [c.name for c in clusters if needs_look(c)])
            now = self._clock()
            for cluster in clusters:
                if rewind(cluster, now) is not cluster or plan(cluster, seen.get(cluster.name), now, self._timing):
                    self._queue.add(cluster.name)
        await self._handing.hand_out(active)

    async def resume(self) -> None:
        """Take over the clusters of an earlier control process.

        The time in which nobody could receive a report does not count against a scheduler that is starting.
        """
        for cluster in await self._records.store.active():
            if cluster.state is ClusterState.STARTING and cluster.target is Target.RUNNING:
                await self._records.change(cluster.name, lambda c: (_restart_deadline(c, self._clock()), ()))

    async def _look(self, cluster: Cluster) -> Seen | None:
        observer = self._observers.get(cluster.backend)
        return await observer.look(cluster.name) if observer is not None else None

    async def _look_at_all(self, backend: str, names: Sequence[str]) -> Mapping[str, Seen]:
        observer = self._observers.get(backend)
        if observer is None:
            log.warning("cannot look at clusters of the backend %r: this gateway has it no more", backend)
            return {}
        try:
            return await observer.look_at_all(names)
        except TidegateError as error:
            log.warning("%s (%s)", error.message, error.detail or "no detail")
            return {}

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            again: float | None = None
            try:
                again = await self._attend(name)
            finally:
                self._queue.done(name)
            if again is not None:
                self._queue.add_later(name, again)

    async def _attend(self, name: str) -> float | None:
        """Make a pass that never raises; return in how many seconds to come back."""
        try:
            again = await self.reconcile(name)
        except StaleRecord:
            return 0.0
        except Busy as error:
            log.info("cluster %s has to wait: %s", name, error.message)
            return max(error.retry_after, self._retries.after_failure(name))
        except TidegateError as error:
            delay = self._retries.after_failure(name)
            log.warning("%s; next try in %g s (%s)", error.message, delay, error.detail or "no detail")
            return delay
        except Exception:
            delay = self._retries.after_failure(name)
            log.exception("cannot look after cluster %s; next try in %g s", name, delay)
            return delay
        self._retries.reset(name)
        return again

    async def _look_around_for_ever(self) -> None:
        resumed = False
        while True:
            try:
                if not resumed:
                    await self.resume()
                    resumed = True
                await self.look_around()
            except Exception:
                log.exception("cannot look around; next try in %g s", self._pace.interval)
            await asyncio.sleep(self._pace.interval)

    async def _hear(self, name: str, backend: Backend) -> None:
        """Pass on what a backend hears. One that hears nothing ends at once, and the slow timer does its work."""
        failures = Backoff(self._pace.retry, self._pace.retry_limit)
        while True:
            try:
                async for cluster in backend.changes():
                    failures.reset(name)
                    self._queue.add(cluster)
                return
            except Exception:
                delay = failures.after_failure(name)
                log.exception("cannot hear changes of the backend %s; next try in %g s", name, delay)
            await asyncio.sleep(delay)


def _restart_deadline(cluster: Cluster, now: float) -> Cluster:
    return replace(cluster, changed_at=now) if cluster.state is ClusterState.STARTING else cluster


class _Repeats:
    """Keeps the same effect from being asked for over and over while the engine is still at it."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._limit = pace.repeat_limit
        self._backoff = Backoff(pace.repeat, pace.repeat_limit)
        self._last: dict[str, tuple[list[Step], float]] = {}

    def wait_for(self, name: str, steps: list[Step]) -> float:
        """Return in how many seconds these steps may be done; 0 for now."""
        last = self._last.get(name)
        if last is None or last[0] != steps:
            return 0.0
        # Bounded, because the clock may have been set back.
        return min(last[1] - self._clock(), self._limit)

    def done(self, name: str, steps: list[Step]) -> float | None:
        """These steps were done; return when to look what came of them, None if the record says so by itself."""
        marks = [i for i, step in enumerate(steps) if isinstance(step, Mark)]
        effects = steps[marks[-1] + 1 :] if marks else steps
        last = self._last.get(name)
        if last is None or last[0] != effects:
            self._backoff.reset(name)
        if not effects:
            self.forget(name)
            return None
        delay = self._backoff.after_failure(name)
        self._last[name] = (effects, self._clock() + delay)
        return delay

    def forget(self, name: str) -> None:
        """Something else is to be done, or nothing."""
        self._last.pop(name, None)
        self._backoff.reset(name)
