"""The supervisor and the holder: one socket that goes from supervisor to supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import eventually
from tidegate.config.schema import Address
from tidegate.server.holder import HolderProcess
from tidegate.server.preflight import CannotServe, prepare_data
from tidegate.wire.holder import connect

ANY = Address("127.0.0.1", 0)


class Supervisor:
    """What a supervisor does about the holder."""

    def __init__(self, data: Path) -> None:
        self.said: list[str] = []
        self._run_dir = data / "run"
        self.holder = HolderProcess(data, self.said.append)
        self.listener: socket.socket | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self, address: Address = ANY) -> int:
        """Open the listener, look after the holder; return the port."""
        self.listener = await self.holder.open_listener(address, [])
        self._running = asyncio.create_task(self.holder.run())
        await eventually(self.pid, what="the holder answers")
        return int(self.listener.getsockname()[1])

    def pid(self) -> int:
        """Return the holder's process, 0 when none answers."""
        try:
            with connect(self._run_dir) as link:
                return int.from_bytes(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")
        except OSError:
            return 0

    async def die(self) -> None:
        """Leave the holder alone."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self.listener is not None:
            self.listener.close()


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Path]:
    """Return a data folder whose holder is ended in the end."""
    prepare_data(tmp_path / "data")
    yield tmp_path / "data"
    last = Supervisor(tmp_path / "data")
    await last.holder.end()
    await eventually(lambda: not last.pid(), what="the holder has ended")


async def test_the_next_supervisor_gets_the_same_socket(data: Path):
    """From the same holder; what waits in its queue is accepted then."""
    first, second = Supervisor(data), Supervisor(data)
    port = await first.start()
    pid = first.pid()
    await first.die()
    with socket.create_connection(("127.0.0.1", port)) as early:
        assert await second.start() == port
        assert second.pid() == pid
        assert second.listener is not None
        accepted, address = second.listener.accept()
        assert address == early.getsockname()
        accepted.close()
    await second.die()


async def test_another_address_is_bound_anew(data: Path):
    """And it is what the holder has from then on."""
    first, second, third = Supervisor(data), Supervisor(data), Supervisor(data)
    port = await first.start()
    await first.die()
    with socket.create_server(("127.0.0.1", 0)) as free:
        other = free.getsockname()[1]

    assert await second.start(Address("127.0.0.1", other)) == other != port
    await second.die()
    assert await third.start() == other
    await third.die()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))


async def test_a_killed_holder_is_started_again_with_the_socket(data: Path):
    """Its own child or one that was found; it is said aloud."""
    first, second, third = Supervisor(data), Supervisor(data), Supervisor(data)
    port = await first.start()
    await first.die()
    for supervisor in (second, third):
        assert await supervisor.start() == port
        pid = supervisor.pid()
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda gone=pid, by=supervisor: by.pid() not in (0, gone), what="there is another one")
        assert "The holder process ended" in supervisor.said[0]
        await supervisor.die()


async def test_a_port_that_somebody_else_has_is_explained(data: Path):
    """Nothing is started then."""
    supervisor = Supervisor(data)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(CannotServe, match="another program has that port"),
    ):
        await supervisor.start(Address("127.0.0.1", taken.getsockname()[1]))
    assert not supervisor.pid()


async def test_one_that_is_only_just_starting_is_not_left_behind(data: Path):
    """It cannot be told to end yet, and nobody would tell it later."""
    supervisor = Supervisor(data)
    supervisor.listener = await supervisor.holder.open_listener(ANY, [])

    await supervisor.holder.end()

    process = supervisor.holder._process
    assert process is not None
    await eventually(lambda: process.poll() is not None, 30, "the holder has ended")
    await supervisor.die()
