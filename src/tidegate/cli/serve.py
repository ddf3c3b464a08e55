"""``tidegate serve``: the gateway in the foreground."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.config import ConfigFile, sentences


def serve(
    config: ConfigFile = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen. Default: 127.0.0.1:8000.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the database, logs and the clusters' files.")
    ] = None,
) -> None:
    """Start the gateway in the foreground. Ctrl-C stops it; clusters go on, unless it is pressed twice."""
    from tidegate.config.load import load
    from tidegate.server.run import serve as run

    with sentences():
        run(load(config, {"address": ("--address", address), "data": ("--data", data)}), _say)


def _say(text: str) -> None:
    # A terminal that was closed is no reason to stop in the middle of something.
    with suppress(OSError):
        typer.echo(text)
