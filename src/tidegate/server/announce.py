"""What the person at the terminal reads: where the gateway is, what to paste, and what goes on when it stops."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tidegate.config.schema import Address, Settings
from tidegate.server.children import Say
from tidegate.server.client_config import current_user
from tidegate.server.urls import public_url

SNIPPET = """\
    from tidegate import Gateway          # or: from dask_gateway import Gateway
    cluster = Gateway().new_cluster()
    cluster.scale(2)
    client = cluster.get_client()"""


def announce(settings: Settings, address: Address, ready: dict[str, Any], say: Say) -> None:
    """Say that the gateway serves. ``ready`` is what control said: ``login`` (a path) and ``notes``."""
    url = public_url(settings, address)
    user = current_user()
    say(f"Tidegate {version('tidegate')} serves at {url}")
    say("")
    say(f"  Console     {url}{ready['login']}")
    say(f"              (logs a browser in as {user}, once, within {ready['login_minutes']:g} minutes)")
    say(f"  Data, logs  {_short(settings.data)}")
    if settings.backend.name == "local":
        say(f"  Isolation   {_isolation(user, settings.backend.settings.get('accounts'))}")
    for note in ready["notes"]:
        say(f"  Note        {note}")
    say("")
    say("  In a notebook:")
    say("")
    say(SNIPPET)
    say("")
    say("  Ctrl-C stops the gateway; clusters go on, unless it is pressed twice.")


def going_on(clusters: Sequence[dict[str, Any]], seconds: float | None = None) -> str:
    """Return which clusters go on without the gateway, and how to end them."""
    names = "\n".join(f"    {c['name']}  of {c['owner']}, {_workers(c['workers'])}" for c in clusters)
    head = "1 cluster goes on" if len(clusters) == 1 else f"{len(clusters)} clusters go on"
    again = "" if seconds is None else f"press Ctrl-C again within {seconds:g} s, or "
    later = "after the next start, `tidegate clusters stop NAME`"
    return f"\nStopping. {head}, and so does what computes there:\n{names}\n  To end what runs: {again}{later}."


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _isolation(user: str, accounts: str | None) -> str:
    if accounts == "owner":
        return f"clusters run under their owners' accounts of this machine, and the gateway as the OS user {user}"
    if os.getuid() == 0:
        return "the gateway runs as root, and so does the code of every user: do not give tokens to others here"
    return f"clusters run as the OS user {user}, so they can read each other's files: for one person, or a trusted team"


def _short(path: Path) -> str:
    with_home = os.path.expanduser("~")
    return f"~{str(path)[len(with_home) :]}" if path.is_relative_to(with_home) else str(path)
