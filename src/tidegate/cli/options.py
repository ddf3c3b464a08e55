"""``tidegate options``: what one may choose when a cluster is made; and how the command line says it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from tidegate.cli.gateway import Address, AsJson, OnBehalfOf, add_row, new_table, open_gateway, print_table
from tidegate.client.errors import GatewayValueError
from tidegate.client.gateway import Gateway
from tidegate.client.options import declarations, rows
from tidegate.model.errors import Invalid
from tidegate.model.mappings import from_lines

VARIABLES = "variables"


def options(address: Address = None, on_behalf_of: OnBehalfOf = None, as_json: AsJson = False) -> None:
    """Show what you may choose when you make a cluster: `tidegate clusters create -o NAME=VALUE`."""
    with open_gateway(address, on_behalf_of) as gateway:
        offered = gateway.cluster_options(use_local_defaults=False)
    if as_json:
        found = [{"name": name, "value": offered[name], "may_be": may_be} for name, _, may_be in rows(offered)]
        typer.echo(json.dumps(found, indent=2))
        return
    if not offered:
        typer.echo(f"There is nothing to choose at {gateway.address}: all clusters are alike.")
        return
    table = new_table("NAME", "UNLESS YOU CHOOSE", "MAY BE", "", folded=("UNLESS YOU CHOOSE", "MAY BE", ""))
    for option, row in zip(declarations(offered), rows(offered), strict=True):
        add_row(table, *row, option.help)
    print_table(table)


def parse_options(gateway: Gateway, given: Sequence[str], variables: Path | None = None) -> Any:
    """Return the gateway's options with what was given as KEY=VALUE: JSON where it is such, else text.

    ``variables`` is a file with those for the environment, one ``NAME=text`` a line; ``-`` is the standard input.
    """
    chosen = gateway.cluster_options()
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise GatewayValueError(f"cannot read the option {text!r}: write it as KEY=VALUE, such as worker_cores=2")
        try:
            chosen[key.strip()] = json.loads(value)
        except ValueError as error:
            if isinstance(error, GatewayValueError):
                raise
            chosen[key.strip()] = value
    if variables is not None:
        chosen[VARIABLES] = _read_variables(variables)
    return chosen


def _read_variables(file: Path) -> dict[str, str]:
    try:
        return from_lines(sys.stdin.read() if str(file) == "-" else file.read_text(), VARIABLES)
    except Invalid as error:
        raise GatewayValueError(error.message) from None
    except OSError as error:
        raise GatewayValueError(f"cannot read {file}: {error.strerror}") from None
