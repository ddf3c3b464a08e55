"""``tidegate keys``: what the gateway's secrets are sealed with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.config import ConfigFile, read_config, sentences

app = typer.Typer(help="The key that the gateway's secrets are sealed with.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="The gateway's data folder.")]


@app.callback()
def keys() -> None:
    """The key that the gateway's secrets are sealed with."""


@app.command()
def rotate(config: ConfigFile = None, data: Data = None) -> None:
    """Seal all secrets with a new key, and end all browser sessions. The gateway may go on meanwhile.

    If it was interrupted, run it again: it goes on where it was.
    """
    loaded = read_config(config, data)
    with sentences():
        from tidegate.server.database import database_url
        from tidegate.store.rotation import rotate_keys

        count = rotate_keys(loaded.settings.data, database_url(loaded.settings))
    typer.echo(
        f"{count} secrets are sealed with a new key, and the old one is gone. Whoever was logged in by a browser logs "
        "in again; tokens, clusters and connections go on. Copies of the database from before need the old key: back "
        "up both anew."
    )
