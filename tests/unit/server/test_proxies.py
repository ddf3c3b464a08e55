"""Which proxies of an earlier supervisor are left alone, and that none is forgotten."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support import eventually
from tidegate.config.schema import Settings
from tidegate.server.children import end
from tidegate.server.listener import LivingProxy, find_living
from tidegate.server.preflight import prepare_data
from tidegate.server.proxies import Proxies, proxy_settings


class Supervisor:
    """What a supervisor does about one proxy."""

    def __init__(self, data: Path, listener: socket.socket, prefix: str = "") -> None:
        settings = proxy_settings(Settings(data=data, prefix=prefix))
        self.proxies = Proxies(settings, listener, 1, find_living(data / "run"), data, print)
        self._running = asyncio.create_task(self.proxies.run())

    async def started(self) -> int:
        """Return the process that it has started, which takes some tenths of a second to come up."""
        await eventually(lambda: self.proxies._started)
        return self.proxies._started[0].pid

    async def die(self) -> None:
        """Leave the proxy alone."""
        self._running.cancel()
        await asyncio.wait([self._running])

    def ended(self) -> bool:
        """Whether what it has started is gone."""
        return all(process.poll() is not None for process in self.proxies._started)


Make = Callable[..., Supervisor]


@pytest.fixture
async def supervise(tmp_path: Path) -> AsyncIterator[Make]:
    """Return what makes supervisors on one data folder and one listening socket."""
    prepare_data(tmp_path / "data")
    made: list[Supervisor] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def make(prefix: str = "") -> Supervisor:
            made.append(Supervisor(tmp_path / "data", listener, prefix))
            return made[-1]

        yield make
        for one in made:
            await one.die()
            for process in one.proxies._started:
                await end(process)


def living(supervisor: Supervisor) -> set[int]:
    """Return the proxies that answer."""
    return {proxy.pid for proxy in find_living(supervisor.proxies._run)}


def test_only_a_proxy_that_goes_on_serving_takes_the_place_of_a_new_one(tmp_path: Path):
    """One that drains, accepts nothing, or has other settings does not, and another one is started."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        good = {"address": f"127.0.0.1:{listener.getsockname()[1]}", "mark": "m", "accepting": True, "draining": False}
        changes = [{"draining": True}, {"accepting": False}, {"mark": "other"}, {"address": "127.0.0.1:1"}, {}]
        found = [LivingProxy(tmp_path, number, good | change) for number, change in enumerate(changes)]
        proxies = Proxies({"mark": "m"}, listener, len(found), found, tmp_path, print)

    assert proxies._adopted == found[-1:]


async def test_one_that_is_only_just_starting_is_not_left_behind(supervise: Make):
    """It cannot be told to end yet; without clusters and without control nobody would tell it later."""
    supervisor = supervise()
    await supervisor.started()

    await supervisor.die()
    await supervisor.proxies.drain()

    await eventually(supervisor.ended, 30)


async def test_one_that_the_supervisor_before_had_only_just_started_is_retired(supervise: Make):
    """When we came it could not be seen; what it serves with is out of date."""
    before = supervise()
    old = await before.started()
    await before.die()
    after = supervise("/new")
    new = await after.started()
    await eventually(lambda: living(after) == {old, new}, 60)

    await after.proxies.retire_others()

    await eventually(before.ended, 60)
    assert living(after) == {new}
