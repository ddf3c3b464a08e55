"""The launcher: ``python -m tidegate.server.launcher CHANNEL``, the one part of the gateway that stays root.

It runs the backend, for control, which has no rights (``backends/remote.py``), and holds nothing that lasts: when it is
killed, clusters go on, and a new one finds them. It believes nothing that control says beyond what the protocol is for:
names are checked by their pattern, whom a cluster runs as is looked up here, and what a tenant could have touched is
touched with the tenant's rights only.

Over the socket CHANNEL it says to its parent, in a line of JSON, that it serves, or why it cannot; and when the other
end is closed, it ends. (The kernel's own signal at a parent's death is lost when a thread acts as somebody else.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path

from tidegate.backends.local.accounts import Account
from tidegate.backends.remote import BackendServer
from tidegate.config.load import Loaded
from tidegate.config.schema import Settings
from tidegate.model.errors import TidegateError
from tidegate.server.backend import LAUNCHER_SOCKET, make_backend
from tidegate.server.imports import check_imports
from tidegate.server.unix import listen
from tidegate.telemetry.logs import configure_logs


def main() -> None:
    """Run the launcher until it is told to end, or its parent is gone."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    # What others may read says so where it is made; who started the gateway need not have thought of it.
    os.umask(0o022)
    configure_logs("launcher")
    greeting = json.load(sys.stdin)
    loaded = Loaded(Settings.model_validate(greeting["settings"]), folder=Path(greeting["folder"]))
    user = Account("", greeting["uid"], greeting["gid"])
    try:
        asyncio.run(_run(loaded, user, channel))
    except TidegateError as error:
        _say(channel, {"failed": error.message})
        sys.exit(f"{error.message} ({error.detail or 'no detail'})")
    # No further: a thread may hang in a file system, and has nothing to finish.
    os._exit(0)


def _say(channel: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # Then it has gone, which is seen elsewhere.
        channel.sendall(json.dumps(message).encode() + b"\n")


async def _run(loaded: Loaded, user: Account, channel: socket.socket) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    # The parent says nothing there, so what there is to read is its end.
    loop.add_reader(channel, stop.set)
    backend = make_backend(loaded)
    # With the backend in it, which may come from anywhere.
    check_imports()
    await backend.start()
    try:
        # The folder is the gateway's user's, who could have put anything there.
        with user.acting():
            listener = listen(loaded.settings.data / "run", LAUNCHER_SOCKET)
        server = await BackendServer(backend, user.uid).serve(listener)
        _say(channel, {"ready": True})
        await stop.wait()
        server.close()
    finally:
        await backend.close()


if __name__ == "__main__":
    main()
