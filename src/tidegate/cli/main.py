"""The ``tidegate`` command: finds a command, runs it, and turns what goes wrong into one sentence.

Exit codes: 0 it worked, 1 it did not (the sentence says why), 2 the command line makes no sense, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click
import typer
from typer.core import TyperGroup

from tidegate.cli.plain import plain

COMMANDS = {
    "serve": ("tidegate.cli.serve", "serve"),
    "clusters": ("tidegate.cli.clusters", "app"),
    "options": ("tidegate.cli.options", "options"),
    "login": ("tidegate.cli.login", "login"),
    "tokens": ("tidegate.cli.tokens", "app"),
    "tour": ("tidegate.cli.tour", "tour"),
    "users": ("tidegate.cli.users", "app"),
    "limits": ("tidegate.cli.limits", "app"),
    "usage": ("tidegate.cli.usage", "usage"),
    "audit": ("tidegate.cli.audit", "audit"),
    "keys": ("tidegate.cli.keys", "app"),
    "config": ("tidegate.cli.config", "app"),
    "version": ("tidegate.cli.version", "version"),
}
"""Where each command is, in the order in which the help lists them."""


class Commands(TyperGroup):
    """Imports a command when it is asked for: a user's machine has no server, and a server needs no client."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(found)
        else:
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            single.command(cmd_name)(found)
            command = typer.main.get_command(single)
        command.name = cmd_name
        return command


app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def tidegate() -> None:
    """Dask clusters on demand, through one secure address."""


def run(arguments: Sequence[str]) -> int:
    """Run the command with these arguments and return its exit code."""
    try:
        app(list(arguments), prog_name="tidegate")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has enough of it (`| head`). Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not _is_sentence(error):
            raise
        typer.echo(plain(str(error)), err=True)
        return 1
    return 0


def _is_sentence(error: Exception) -> bool:
    """Whether ``error`` is one of the client's, whose text says what to do. Only asked when one came: it is no import
    that ``tidegate serve`` must wait for."""
    from tidegate.client.errors import GatewayError

    return isinstance(error, GatewayError)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def _run_for_dask(arguments: tuple[str, ...]) -> None:
    sys.exit(run(arguments))


# The command `dask` finds this by its entry point. It wants a command of click itself, which Typer's no longer are.
dask_command = click.Command(
    "tidegate",
    callback=_run_for_dask,
    params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
    help="Dask clusters on demand, through one secure address: the same as the command `tidegate`.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
