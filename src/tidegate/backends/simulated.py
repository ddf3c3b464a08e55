"""A backend without processes: for tests of scale, of failures that are hard to come by, and of time.

The engine behind it is in ``simulation.py``; this is how the gateway talks to it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tidegate.backends.base import Launch, Log
from tidegate.backends.listeners import Listeners
from tidegate.backends.simulation import Script, Simulation
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import BackendFailed
from tidegate.model.known import BACKENDS
from tidegate.model.observation import Seen
from tidegate.model.options import Kind, Option
from tidegate.model.policy import Capacity


class SimulatedSettings(BaseModel):
    """For trying out and for tests of scale. No scheduler of this backend reports by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    queue_delay: float = Field(default=0.0, ge=0)
    """Seconds for which schedulers and workers wait in a queue."""
    start_delay: float = Field(default=0.0, ge=0)
    """Seconds that they then take to start."""
    stop_delay: float = Field(default=0.0, ge=0)
    """Seconds that a cluster takes to stop."""
    max_workers: int = Field(default=1000, ge=1)
    """How many workers a cluster may have."""


class SimulatedBackend:
    """Looks at a simulation, and lets time pass in it as it passes for the event loop.

    Parameters
    ----------
    data_dir : Path, optional
        Not used: nothing is kept.
    clock : callable
        Returns the time in seconds since the epoch.
    settings : mapping, optional
        What the configuration says beside ``name: simulated``.
    simulation : Simulation, optional
        The engine, when it is to outlive this backend or to be moved by a test; by default one of its own.
    """

    Settings = SimulatedSettings
    knows = frozenset(option.name for option in BACKENDS)

    def __init__(
        self,
        data_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
        settings: Mapping[str, Any] | None = None,
        *,
        simulation: Simulation | None = None,
    ) -> None:
        given = SimulatedSettings.model_validate(settings or {})
        self.simulation = simulation or Simulation(clock, Script(**given.model_dump()))
        self._clock = clock
        self._listeners = Listeners()
        self._wake = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to hear of changes."""
        self.simulation.on_change.append(self._hear)
        self._ticking = asyncio.create_task(self._tick())

    async def close(self) -> None:
        """Hear no more. The simulation goes on."""
        with suppress(ValueError):
            self.simulation.on_change.remove(self._hear)
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)

    def notes(self) -> Sequence[str]:
        """Return nothing: who simulates knows."""
        return []

    def options(self) -> Sequence[Option]:
        """Return cores and memory."""
        return (
            Option("worker_cores", Kind.INTEGER, 1, label="Worker cores", minimum=1, maximum=64),
            Option("worker_memory", Kind.FLOAT, 2.0, label="Worker memory", minimum=0.25, maximum=1024.0, unit="GiB"),
        )

    async def prepare(self, spec: ClusterSpec, owner: str, hints: Mapping[str, str]) -> ClusterSpec:
        """Return ``spec``: there is nothing to resolve."""
        return replace(spec, environment=spec.environment or "simulated")

    def capacity(self, spec: ClusterSpec) -> Capacity:
        """Return what the script says."""
        count = self.simulation.script.max_workers
        return Capacity(count, f"the simulated engine has room for {count} workers")

    async def launch(self, launch: Launch) -> None:
        """Start a simulated scheduler."""
        self._act()
        self.simulation.launch(launch.cluster, launch.attempt)

    async def start_workers(self, launch: Launch, scheduler: str, names: Sequence[str]) -> None:
        """Start simulated workers."""
        self._act()
        if names:
            self.simulation.start_workers(launch.cluster, names)

    async def stop_workers(self, cluster: str, names: Sequence[str]) -> None:
        """End simulated workers."""
        self._act()
        self.simulation.stop_workers(cluster, names)

    async def stop(self, cluster: str) -> None:
        """End a simulated cluster."""
        self._act()
        self.simulation.stop(cluster)

    async def observe(self, clusters: Collection[str]) -> Mapping[str, Seen]:
        """Return what is there."""
        at = self._clock()
        self.simulation.settle()
        return {name: self.simulation.look(name, at) for name in clusters}

    async def listens(self, cluster: str, ports: Collection[int]) -> bool:
        """Return what the script says."""
        self.simulation.settle()
        return self.simulation.listens(cluster, ports)

    async def list_clusters(self) -> set[str]:
        """Return the clusters of which something remains."""
        self.simulation.settle()
        return self.simulation.remaining()

    async def logs(self, cluster: str, *, lines: int = 200) -> list[Log]:
        """Return the last lines of each log."""
        logs = self.simulation.logs(cluster)
        return [Log(process, "\n".join(text[-lines:])) for process, text in logs.items()]

    async def forget(self, cluster: str) -> None:
        """Drop the traces of a cluster."""
        if cluster in self.simulation.remaining():
            raise BackendFailed(f"cannot forget the cluster {cluster}: it still runs")
        self.simulation.forget(cluster)

    def changes(self) -> AsyncIterator[str]:
        """Yield names as things happen."""
        return self._listeners.changes()

    def _act(self) -> None:
        self.simulation.settle()
        if self.simulation.script.refusal is not None:
            raise self.simulation.script.refusal

    def _hear(self, cluster: str) -> None:
        self._wake.set()
        if cluster:
            self._listeners.tell(cluster)

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            delay = self.simulation.settle()
            with suppress(TimeoutError):
                # Not wait_for: before Python 3.12 it may swallow the cancellation of one that has just been woken.
                async with asyncio.timeout(delay):
                    await self._wake.wait()
