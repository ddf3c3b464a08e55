"""The supervisor: what ``tidegate serve`` runs. It holds nothing that lasts, so its death costs nobody anything.

It opens the listening socket (or gets it from the holder that an earlier supervisor started, so that a restart refuses
no connection), keeps holder, proxies and the control process running, and talks to the person at the terminal. Control
dies with it; holder, proxies and clusters go on, and the next supervisor on the same data folder finds them.

Ctrl-C says which clusters go on, and how to end them; a second one within ``AGAIN_SECONDS`` ends them too. SIGTERM and
a terminal that is closed stop the gateway quickly, and clusters go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from tidegate.config.load import Loaded
from tidegate.config.schema import Address
from tidegate.server import preflight
from tidegate.server.announce import announce, going_on
from tidegate.server.authenticators import make_authenticators
from tidegate.server.backend import check_backend
from tidegate.server.channel import Closed
from tidegate.server.children import Say
from tidegate.server.control_process import ControlProcess
from tidegate.server.holder import HolderProcess
from tidegate.server.listener import bound_address, find_living
from tidegate.server.probe import wait_until_served
from tidegate.server.proxies import Proxies, proxy_settings
from tidegate.server.rights import give_up_root

AGAIN_SECONDS = 5.0
"""How long after the first Ctrl-C a second one ends the clusters: time to read what the first one printed."""
ASK_SECONDS = 10.0
"""How long control may take to say which clusters run: one query, but on a machine that has a lot to do. Without an
answer the proxies have to stay."""
END_SECONDS = 60.0
"""How long to wait for clusters to be gone before they are left to the next start."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(loaded: Loaded, say: Say) -> None:
    """Run the gateway in the foreground until it is told to stop.

    Raises
    ------
    TidegateError
        When it cannot start; the message says what to do.
    """
    settings = loaded.settings
    preflight.check_address(settings)
    check_backend(loaded)
    give_up_root(loaded, say)
    preflight.check_certificate(settings)
    make_authenticators(loaded)
    preflight.prepare_data(settings.data)
    lock = preflight.lock(
        settings.data / "serve.lock",
        f"cannot start: a gateway is running on {settings.data} already. Stop it first, or start another one beside it "
        "with --data FOLDER and --address HOST:PORT",
    )
    try:
        if warning := preflight.raise_open_files():
            say(warning)
        asyncio.run(_Supervisor(loaded, say).run())
    finally:
        os.close(lock)


class _Supervisor:
    def __init__(self, loaded: Loaded, say: Say) -> None:
        self._settings = loaded.settings
        self._folder = loaded.folder
        self._say = say
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._served = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        settings, data = self._settings, self._settings.data
        living = await asyncio.to_thread(find_living, data / "run")
        self._holder = HolderProcess(data, self._say)
        listener = await self._holder.open_listener(Address.parse(settings.address), living)
        self._address = bound_address(listener, Address.parse(settings.address))
        mine = proxy_settings(settings)
        self._proxies = Proxies(mine, listener, settings.proxy.processes, living, data, self._say)
        greeting = {
            "settings": settings.model_dump(mode="json"),
            "address": str(self._address),
            "folder": str(self._folder),
        }
        self._control = ControlProcess(greeting, data, self._say)
        self._data_plane = [asyncio.create_task(self._holder.run()), asyncio.create_task(self._proxies.run())]
        jobs = [*self._data_plane, asyncio.create_task(self._control.run())]
        try:
            await self._work(jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
            if not self._served:
                await self._proxies.give_up()
                await self._holder.give_up()
            listener.close()

    async def _work(self, jobs: Sequence[asyncio.Task[None]]) -> None:
        """Say that it serves, then wait until told to stop; a job that ends by itself is a failure of ours."""
        start = asyncio.create_task(self._start())
        stop = asyncio.create_task(self._signals.get())
        try:
            await asyncio.wait([start, stop, *jobs], return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                await asyncio.wait([stop, *jobs], return_when=asyncio.FIRST_COMPLETED)
            for job in jobs:
                if job.done():
                    job.result()
            await self._stop(stop.result())
        finally:
            for task in (start, stop):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _start(self) -> None:
        ready = await self._control.ready()
        await wait_until_served(self._address, tls=self._settings.tls.enabled, prefix=self._settings.prefix)
        self._served = True
        await self._proxies.retire_others()
        announce(self._settings, self._address, ready, self._say)

    async def _stop(self, number: int) -> None:
        clusters = await self._active_clusters()
        if clusters is None:
            self._say("Stopped. The control process does not answer: clusters that run go on until the next start.")
        elif not clusters:
            await self._close_port()
            self._say("Stopped; no cluster is running.")
        elif number == signal.SIGINT:
            self._say(going_on(clusters, AGAIN_SECONDS))
            if await self._next_signal(AGAIN_SECONDS) == signal.SIGINT:
                await self._end_clusters(len(clusters))
        else:
            self._say(going_on(clusters))

    async def _active_clusters(self) -> list[dict[str, Any]] | None:
        try:
            answer = await self._control.ask("clusters", ASK_SECONDS)
        except (Closed, TimeoutError):
            return None
        return list(answer["clusters"])

    async def _next_signal(self, timeout: float) -> int | None:
        try:
            return await asyncio.wait_for(self._signals.get(), timeout)
        except TimeoutError:
            return None

    async def _end_clusters(self, count: int) -> None:
        self._say(
            f"Ending {_clusters(count)}, and waiting until nothing is left. (Ctrl-C: the next start does the rest.)"
        )
        end = asyncio.create_task(self._control.ask("end-clusters", END_SECONDS + ASK_SECONDS))
        again = asyncio.create_task(self._signals.get())
        await asyncio.wait([end, again], return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        remaining = count
        if end.done():
            with suppress(Closed, TimeoutError):
                remaining = int(end.result()["remaining"])
        end.cancel()
        if remaining:
            self._say(f"Stopped, with {_clusters(remaining)} not gone yet: the next start does the rest.")
        else:
            await self._close_port()
            self._say(f"Stopped; {_clusters(count)} ended, and nothing is left running.")

    async def _close_port(self) -> None:
        """Let the proxies end, for there is nothing to lead to; with clusters they stay, and hold the port."""
        for job in self._data_plane:
            job.cancel()
        await asyncio.wait(self._data_plane)
        await self._proxies.drain()
        await self._holder.end()


def _clusters(count: int) -> str:
    return "1 cluster" if count == 1 else f"{count} clusters"
