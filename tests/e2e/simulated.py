"""A gateway over HTTP whose clusters are simulated and whose time a test moves, for what takes hours or many cores.

Everything of it is real but the engine and the clock: what ``tidegate serve`` is made of (``server/assemble.py``), with
a configuration file as it stands. No loop turns by itself. ``turn`` lets happen what would happen by now: passes of
the loop, and reports of agents, whose part this plays.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.in_process import listening
from tidegate.authn.tokens import mint_token
from tidegate.backends.base import Launch
from tidegate.backends.simulated import SimulatedBackend
from tidegate.backends.simulation import ManualClock, Simulation
from tidegate.config.load import Loaded, load
from tidegate.config.schema import Address
from tidegate.model.cluster import ClusterSpec, SchedulerFacts
from tidegate.model.principal import Principal
from tidegate.model.report import Report, Wanted
from tidegate.server.assemble import Gateway, assemble
from tidegate.server.preflight import prepare_data

Result = TypeVar("Result")

STEP = 1.0
"""Seconds that pass with each turn: whatever begins with a pass of the loop is over at the next."""
TURNS = 4
"""After so many nothing is on its way: launched, reported, published, and workers started."""


class Engine(SimulatedBackend):
    """A simulated backend that remembers what it was to launch."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock, simulation=Simulation(clock))
        self.specs: dict[str, ClusterSpec] = {}

    async def launch(self, launch: Launch) -> None:
        """Remember it, and launch."""
        self.specs[launch.cluster] = launch.spec
        await super().launch(launch)


class SimulatedGateway:
    """The gateway, for tests that have no event loop."""

    def __init__(self, loaded: Loaded) -> None:
        self.clock = ManualClock()
        self.engine = Engine(self.clock)
        self.url = ""
        self._loaded = loaded
        self._idle_since: dict[str, float] = {}
        self._answers: dict[str, int] = {}
        self._serving: Future[str] = Future()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._loop: asyncio.AbstractEventLoop
        self._gateway: Gateway

    def start(self) -> None:
        """Serve, in a thread."""
        prepare_data(self._loaded.settings.data)
        self._thread.start()
        self.url = self._serving.result(60)

    def close(self) -> None:
        """Serve no more."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(60)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            if self._serving.done():
                raise
            self._serving.set_exception(error)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        address = Address("127.0.0.1", 0)
        async with (
            assemble(self._loaded, address, backend=self.engine, clock=self.clock, steady=None) as self._gateway,
            listening(self._gateway) as url,
        ):
            self._serving.set_result(url)
            await self._end.wait()

    def _call(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def mint(self, user: str) -> str:
        """Make a token for a user."""
        return self._call(mint_token(self._gateway.store, Principal(user), "test", now=self.clock.now))[1]

    # -- time ----------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Let happen what would happen by now."""
        self._call(self._turn())

    def pass_time(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        self.clock.advance(seconds)
        self.turn()

    def rest(self, cluster: str) -> None:
        """Let nothing run on a cluster from now on."""
        self._idle_since[cluster] = self.clock.now

    async def _turn(self) -> None:
        for _ in range(TURNS):
            self.clock.advance(STEP)
            await self._gateway.budgets.look()
            for cluster in await self._gateway.store.active():
                await self._gateway.reconciler.reconcile(cluster.name)
                await self._report(cluster.name)

    async def _report(self, name: str) -> None:
        """Say what the agent of a cluster would say."""
        workers = self.engine.simulation.registered(name)
        if workers is None:
            return
        facts = SchedulerFacts(self.engine.simulation.attempt(name), 40001, 40002)
        since = self._idle_since.get(name)
        idle = None if since is None else self.clock.now - since
        report = Report(facts, workers, idle=idle, answer=self._answers.get(name, 0))
        wanted: Wanted = await self._gateway.app.state.services.agents.report(name, report)
        self._answers[name] = wanted.question


@contextmanager
def simulating(config: Path, folder: Path) -> Iterator[SimulatedGateway]:
    """Start such a gateway with a configuration file as it stands; only where clusters run is said besides."""
    arguments = {"data": ("test", folder / "data"), "backend": ("test", {"name": "simulated"})}
    gateway = SimulatedGateway(load(config, arguments))
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.close()
