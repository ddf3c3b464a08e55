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
    """Check a configuration as a start would: every mistake, with its line."""
    from tidegate.config.limits import describe as describe_limits
    from tidegate.config.offer import describe
    from tidegate.server.authenticators import make_authenticators
    from tidegate.server.backend import check_backend
    from tidegate.server.hook import load_hook

    loaded = read_config(config)
    with sentences():
        offer = check_backend(loaded)
        load_hook(loaded)
        make_authenticators(loaded)
    typer.echo(f"{config or 'The defaults'}: no mistakes found. Users may choose:")
    for line in describe(offer):
        typer.echo(f"  {line}")
    limits = list(describe_limits(loaded.settings.limits.rules()))
    typer.echo("At most may be held:" if limits else "No limits are set besides what the backend can carry.")
    for line in limits:
        typer.echo(f"  {line}")
    budgets = list(loaded.settings.budgets.budgets(loaded.settings.prices.currency))
    if budgets:
        typer.echo("At most may be used:")
    for budget in budgets:
        typer.echo(f"  {budget.words}")


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
