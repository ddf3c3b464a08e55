"""``tidegate config check`` and ``tidegate config explain``: what the configuration says, before it is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tidegate.config.load import Loaded

app = typer.Typer(help="Check and explain the configuration of a gateway.", no_args_is_help=True)

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The YAML file with the settings. Default: none, all at defaults."),
]


@app.command()
def check(config: ConfigFile = None) -> None:
    """Check a configuration as a start would: every mistake, with its line. Without one, say what it comes to."""
    from tidegate.config.contradictions import doubts
    from tidegate.config.words import describe
    from tidegate.server.authenticators import make_authenticators
    from tidegate.server.backend import check_backend
    from tidegate.server.database import check_database
    from tidegate.server.hook import load_hook
    from tidegate.server.hub import check_hub

    loaded = read_config(config)
    with sentences():
        checked = check_backend(loaded)
        load_hook(loaded)
        make_authenticators(loaded)
        database = check_database(loaded)
        at_hub = list(check_hub(loaded))
    typer.echo(f"{config or 'The defaults'}: no mistakes found.")
    for line in describe(loaded, checked.offer, checked.understood):
        typer.echo(line)
    for line in at_hub:
        typer.echo(line)
    if database:
        typer.echo(f"Records are kept in {database}.")
    for number, doubt in enumerate(doubts(loaded)):
        typer.echo(doubt if number else f"Probably not meant:\n{doubt}")


@app.command()
def explain(config: ConfigFile = None) -> None:
    """Print every setting with its value, where that came from, unit, default and meaning, as a usable file."""
    from tidegate.config.explain import explain as text_of

    typer.echo(text_of(read_config(config)), nl=False)


def read_config(config: Path | None, data: Path | None = None) -> Loaded:
    """Read the configuration, with the data folder of the command line; on a mistake say it and end."""
    from tidegate.config.load import load

    with sentences():
        return load(config, {"data": ("--data", data)})


@contextmanager
def sentences() -> Iterator[None]:
    """Show what is wrong as it is written, without a traceback, and end."""
    from tidegate.model.errors import TidegateError

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tidegate"):
            raise
        typer.echo(f"cannot run a gateway: {error.name} is missing. Run: pip install 'tidegate[server]'", err=True)
        raise typer.Exit(1) from None
    except TidegateError as error:
        typer.echo(error.message, err=True)
        raise typer.Exit(1) from None
