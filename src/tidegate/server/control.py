"""The control process: ``python -m tidegate.server.control CHANNEL PARENT``.

It serves the API and the console on a Unix socket in the data folder, runs the control loop, and dies with its
supervisor, however that ends. Everything in it is a task of one ``TaskGroup``; when one fails, the process ends with
it and is started again, which is always right, since nothing is only in its memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI

from tidegate.authn.codes import CODE_SECONDS
from tidegate.config.load import Loaded
from tidegate.config.schema import Address, Settings
from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.model.cluster import Cluster, Target
from tidegate.model.errors import TidegateError
from tidegate.model.principal import Principal
from tidegate.server import preflight
from tidegate.server.assemble import Gateway, assemble
from tidegate.server.channel import Channel, Message
from tidegate.server.client_config import current_user
from tidegate.server.credential import leave_credential
from tidegate.server.http import HttpProtocol
from tidegate.server.moved import note_address
from tidegate.server.parent import die_with
from tidegate.server.unix import listen
from tidegate.server.urls import local_url
from tidegate.telemetry import garbage
from tidegate.telemetry.logs import configure_logs

LOCK_SECONDS = 5.0
"""How long to wait for the lock of an earlier control process: it was killed with its supervisor a moment ago."""
GRACE_SECONDS = 1.0
"""How long open requests may take at the end. Long polls, which take longer, are cut."""
END_SECONDS = 60.0
"""How long to wait until clusters are gone that were told to end."""
LOOK_SECONDS = 0.1
"""How often to look whether they are."""


def main() -> None:
    """Run the control process until it is told to end, or its supervisor is gone."""
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    configure_logs("control")
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
    end = socket.socket(fileno=descriptor)
    end.set_inheritable(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(end))


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Keep out of the log what is cut at the end: a long poll that is cancelled is no error."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


async def _run(end: socket.socket) -> None:
    channel = await Channel.over(end)
    messages = channel.messages()
    greeting = await anext(messages)
    settings = Settings.model_validate(greeting["settings"])
    address = Address.parse(greeting["address"])
    try:
        # Held until the process ends: never closed.
        await _lock(settings.data / "control.lock")
        async with assemble(Loaded(settings, folder=Path(greeting["folder"])), address) as gateway:
            with listen(settings.data / "run", "api.sock") as listener:
                notes = await leave_credential(gateway.store, settings, address)
                notes += await note_address(gateway.store, settings.data, local_url(settings, address))
                notes += [note for backend in gateway.backends.values() for note in backend.notes()]
                await _Control(gateway, channel, listener).run(messages, notes)
    except TidegateError as error:
        await _say_failed(channel, error.message)
        sys.exit(f"{error.message} ({error.detail or 'no detail'})")
    except Exception as error:
        log = settings.data / "logs" / "control.log"
        await _say_failed(channel, f"cannot go on: {type(error).__name__}: {error}; {log} tells more")
        raise


async def _say_failed(channel: Channel, message: str) -> None:
    """Tell the supervisor why this process ends. At the first start it then ends too, instead of trying for ever."""
    channel.send({"event": "failed", "message": message})
    await channel.drain()


async def _lock(path: Path) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return preflight.lock(path, f"cannot start: another control process works on {path.parent}")
        except preflight.CannotServe:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(LOOK_SECONDS)


class _Server(uvicorn.Server):
    """Uvicorn, but for its signal handlers: the end of this process is decided here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def end(self) -> None:
        """Take no more requests, let short ones finish, and cut the others as a crash would.

        Cut, and not answered with an error: the proxies ask the next control what they may ask again.
        """
        self.should_exit = True
        deadline = time.monotonic() + GRACE_SECONDS
        while self.server_state.tasks and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        self.force_exit = True


class _Control:
    """What runs between the start and the end."""

    def __init__(self, gateway: Gateway, channel: Channel, listener: socket.socket) -> None:
        self._gateway = gateway
        self._channel = channel
        self._listener = listener
        self._stop = asyncio.Event()

    async def run(self, messages: AsyncIterator[Message], notes: list[str]) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        server = _Server(_uvicorn_settings(self._gateway.app))
        async with asyncio.TaskGroup() as tasks:
            jobs = [tasks.create_task(job, name=name) for name, job in self._gateway.jobs().items()]
            jobs.append(tasks.create_task(self._talk(messages), name="supervisor"))
            serving = tasks.create_task(server.serve(sockets=[self._listener]), name="api")
            self._channel.send(self._ready(notes))
            garbage.settle()
            await self._stop.wait()
            # In reverse: no new requests, then no work. Clusters go on.
            await server.end()
            await serving
            for job in jobs:
                job.cancel()

    def _ready(self, notes: list[str]) -> Message:
        me = Principal(current_user(), admin=True, method="code")
        login = f"/login?code={self._gateway.codes.mint(me)}"
        return {"event": "ready", "login": login, "login_minutes": CODE_SECONDS / 60, "notes": notes}

    async def _talk(self, messages: AsyncIterator[Message]) -> None:
        """Do what the supervisor asks; when it is gone, end."""
        async with asyncio.TaskGroup() as tasks:
            async for message in messages:
                tasks.create_task(self._answer(message))
            self._stop.set()

    async def _answer(self, message: Message) -> None:
        match message["op"]:
            case "clusters":
                answer: Message = {"clusters": await self._list_clusters()}
            case "end-clusters":
                answer = {"remaining": await self._end_clusters()}
            case op:
                answer = {"error": f"{op} is not an operation"}
        self._channel.send({"id": message["id"], **answer})

    async def _list_clusters(self) -> list[dict[str, Any]]:
        active = await self._gateway.store.active()
        return [{"name": c.name, "owner": c.owner, "workers": len(c.active_workers())} for c in active]

    async def _end_clusters(self) -> int:
        """Tell every cluster to stop, and wait until all are gone; return how many are not."""
        deadline = time.monotonic() + END_SECONDS
        while active := await self._gateway.store.active():
            for cluster in active:
                if cluster.target is not Target.STOPPED:
                    # One that cannot be changed this moment has its turn again.
                    with contextlib.suppress(TidegateError):
                        await self._end(cluster)
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return len(active)

    async def _end(self, cluster: Cluster) -> None:
        who = Principal(cluster.owner, method="supervisor")
        await self._gateway.clusters.stop(who, cluster.name)
        words = "with the gateway, by its operator"
        await self._gateway.audit.record(
            Entry(time.time(), Deed.CLUSTER_STOP, Outcome.DONE, method=who.method, cluster=cluster.name, detail=words)
        )


def _uvicorn_settings(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",  # the API has no WebSockets; those of dashboards end in the proxy
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # the application reads what the proxy says, where it needs it
        server_header=False,
    )


if __name__ == "__main__":
    main()
