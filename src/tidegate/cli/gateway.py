"""What commands that talk to a gateway have in common: the same options, and how they speak."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.cli.plain import plain
from tidegate.client.errors import GatewayWarning
from tidegate.client.gateway import Gateway

Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="The gateway. Default: what the Dask configuration says.", show_default=False),
]
OnBehalfOf = Annotated[
    str | None,
    typer.Option(metavar="USER", help="Act for this user; for administrators, and put on record.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The cluster's name, yours or the gateway's.", show_default=False)
]

WIDE = 200
"""Columns of a table that is not shown in a terminal: nothing is cut off, so that `grep` finds whole names."""


@contextmanager
def open_gateway(address: str | None, on_behalf_of: str | None = None) -> Iterator[Gateway]:
    """Open the gateway; what it warns of is said as a sentence."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GatewayWarning)
        with Gateway(address, on_behalf_of=on_behalf_of) as gateway:
            yield gateway
    for warning in caught:
        if issubclass(warning.category, GatewayWarning):
            typer.echo(plain(str(warning.message)), err=True)


def new_table(*titles: str, folded: Collection[str] = ()) -> Table:
    """Return a table with these columns; those in ``folded`` may go on in the next line."""
    table = Table(box=None, pad_edge=False, show_header=any(titles))
    for title in titles:
        table.add_column(title, no_wrap=title not in folded, overflow="fold")
    return table


def add_row(table: Table, *cells: str) -> None:
    """Add a row of what users may have written: no markup, and nothing that moves a cursor."""
    table.add_row(*(Text(plain(cell)) for cell in cells))


def print_table(table: Table) -> None:
    """Print a table, in whole width where nobody watches."""
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)
