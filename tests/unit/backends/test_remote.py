"""A backend in another process: what happens when that is away, and who may ask it. (The rest is in the contract.)"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.backends.base import Launch
from tidegate.backends.remote import BackendServer, RemoteBackend
from tidegate.backends.simulated import SimulatedBackend
from tidegate.backends.simulation import ManualClock, Script, Simulation
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import BackendFailed, Invalid
from tidegate.server.unix import listen

LAUNCH = Launch("0123456789abcdef", "alice", 1, ClusterSpec(), {"scheduler.key": b"\0\xff"})

Serve = Callable[..., Awaitable[asyncio.AbstractServer]]


@pytest.fixture
def near() -> SimulatedBackend:
    """Give the backend that is served."""
    clock = ManualClock()
    return SimulatedBackend(None, clock, simulation=Simulation(clock, Script()))


@pytest.fixture
async def serve(near: SimulatedBackend, tmp_path: Path) -> AsyncIterator[Serve]:
    """Return a function that begins to serve it."""
    servers: list[asyncio.AbstractServer] = []

    async def serve(uid: int = os.getuid()) -> asyncio.AbstractServer:
        servers.append(await BackendServer(near, uid).serve(listen(tmp_path, "launcher.sock")))
        return servers[-1]

    await near.start()
    yield serve
    for server in servers:
        server.close()
    await near.close()


async def test_a_call_waits_for_a_new_process(near: SimulatedBackend, serve: Serve, tmp_path: Path) -> None:
    """What is asked while the other process is away is done by the next one."""
    remote = RemoteBackend(near, tmp_path, "launcher.sock")
    asked = asyncio.create_task(remote.launch(LAUNCH))
    await asyncio.sleep(0)
    await serve()
    await asked
    assert await remote.list_clusters() == {LAUNCH.cluster}


async def test_a_call_that_was_cut_is_made_again(near: SimulatedBackend, serve: Serve, tmp_path: Path) -> None:
    """A process that dies in the middle of a call takes nothing with it."""
    calls = 0

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        writer.close()

    dying = await asyncio.start_unix_server(hang_up, sock=listen(tmp_path, "launcher.sock"))
    asked = asyncio.create_task(RemoteBackend(near, tmp_path, "launcher.sock").launch(LAUNCH))
    async with asyncio.timeout(20):
        while calls < 2:
            await asyncio.sleep(0.01)
    dying.close()
    await serve()
    await asked
    assert await near.list_clusters() == {LAUNCH.cluster}


async def test_one_that_stays_away_is_a_failure_in_words(near: SimulatedBackend, tmp_path: Path) -> None:
    """After some seconds the caller is told what does not run."""
    with pytest.raises(BackendFailed, match="cannot reach the process that starts clusters") as failure:
        await RemoteBackend(near, tmp_path, "launcher.sock", away=0.0).stop(LAUNCH.cluster)
    assert not failure.value.permanent


@pytest.mark.parametrize(
    "error",
    [
        Invalid("cannot do it: the name is wrong", field="environment", detail="for the operator"),
        BackendFailed("cannot do it: no room", detail="for the operator", permanent=True),
    ],
)
async def test_errors_arrive_as_they_were(
    near: SimulatedBackend, serve: Serve, tmp_path: Path, error: Invalid | BackendFailed
) -> None:
    """Who is to blame, what to say, and whether to try again, crosses the socket."""
    near.simulation.script.refusal = error
    await serve()
    with pytest.raises(type(error)) as raised:
        await RemoteBackend(near, tmp_path, "launcher.sock").launch(LAUNCH)
    assert vars(raised.value) == vars(error)


async def test_others_are_not_answered(near: SimulatedBackend, serve: Serve, tmp_path: Path) -> None:
    """Only one account's processes may ask."""
    await serve(os.getuid() + 1)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "launcher.sock")
    writer.write(b"list_clusters []\n")
    answer = b""
    with contextlib.suppress(ConnectionResetError):  # It does not even read what it is asked.
        answer = await reader.read()
    assert answer == b""
    writer.close()


@pytest.mark.parametrize("call", [b"", b"fly []", b"stop", b"stop [1]", b'launch ["x"]', b"stop [\xff]", b"observe {}"])
async def test_nonsense_is_refused(near: SimulatedBackend, serve: Serve, tmp_path: Path, call: bytes) -> None:
    """A call that is none is answered as such, and the next one is served."""
    await serve()
    reader, writer = await asyncio.open_unix_connection(tmp_path / "launcher.sock")
    writer.write(call + b"\n")
    assert (await reader.readline()).startswith(b"failed ")
    writer.close()
    assert await RemoteBackend(near, tmp_path, "launcher.sock").list_clusters() == set()


async def test_what_is_handed_over_arrives_whole(near: SimulatedBackend, serve: Serve, tmp_path: Path) -> None:
    """Secrets are bytes, and a specification keeps all of its fields."""
    seen: list[Launch] = []

    class Recorder(SimulatedBackend):
        async def launch(self, launch: Launch) -> None:
            seen.append(launch)

    recorder = Recorder(None, near._clock, simulation=near.simulation)
    server = await BackendServer(recorder, os.getuid()).serve(listen(tmp_path, "launcher.sock"))
    launch = replace(LAUNCH, spec=replace(LAUNCH.spec, worker_cores=0.5, extra={"queue": ["long", 1, None]}))
    await RemoteBackend(near, tmp_path, "launcher.sock").launch(launch)
    server.close()
    assert seen == [launch]
