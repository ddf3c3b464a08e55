"""``tidegate tokens``: personal tokens, for notebooks and programs that act as you."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from tidegate.cli.gateway import Address, AsJson, add_row, new_table, print_table
from tidegate.client.gateway import Gateway
from tidegate.client.tokens import PersonalToken, create_token, list_tokens, revoke_token

app = typer.Typer(
    help="Make, list and revoke your personal tokens.", no_args_is_help=True, pretty_exceptions_enable=False
)

User = Annotated[str | None, typer.Option(metavar="NAME", help="Whose, for administrators. Default: your own.")]


@app.command()
def create(
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    days: Annotated[
        float | None, typer.Option(metavar="N", help="How long it is good; else as the gateway has it.")
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may see and read, and nothing else.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="For an administrator's monitoring alone.")] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print its secret, which nobody can read again."""
    if read_only and metrics:
        raise typer.BadParameter("a token is good for one of both: --read-only or --metrics")
    scope = "metrics" if metrics else "read-only" if read_only else "full"
    with Gateway(address) as gateway:
        token = create_token(gateway, label, days=days, scope=scope)
    if as_json:
        typer.echo(json.dumps({**_to_json(token), "secret": token.secret}, indent=2))
        return
    typer.echo(token.secret)
    typer.echo(f"Good {_until(token)}. To withdraw it: tidegate tokens revoke {token.id}", err=True)


@app.command("list")
def list_all(user: User = None, address: Address = None, as_json: AsJson = False) -> None:
    """List your tokens, newest first. Their secrets cannot be shown."""
    with Gateway(address) as gateway:
        tokens = list_tokens(gateway, user)
        if as_json:
            typer.echo(json.dumps([_to_json(token) for token in tokens], indent=2))
        elif not tokens:
            typer.echo(f"There is no token of {user or 'yours'} at {gateway.address}.")
        else:
            print_table(_table(tokens))


@app.command()
def revoke(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `tidegate tokens list` shows them.")],
    user: User = None,
    address: Address = None,
) -> None:
    """Revoke tokens. They are refused from then on."""
    with Gateway(address) as gateway:
        for token_id in ids:
            revoke_token(gateway, token_id, user)
            typer.echo(f"{token_id}: is revoked")


def _table(tokens: list[PersonalToken]) -> Table:
    table = new_table("ID", "LABEL", "SCOPE", "MADE", "USED", "EXPIRES", folded=("LABEL",))
    for token in tokens:
        ends = "never" if token.expires is None else "expired" if token.expired else _day(token.expires)
        used = "never" if token.used is None else f"{token.used:%Y-%m-%d}"
        add_row(table, token.id, token.label, token.scope, _day(token.created), used, ends)
    return table


def _until(token: PersonalToken) -> str:
    return "until it is revoked" if token.expires is None else f"until {_day(token.expires)}"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _to_json(token: PersonalToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "user": token.user,
        "label": token.label,
        "scope": token.scope,
        "created": token.created.astimezone().isoformat(),
        "used": None if token.used is None else token.used.astimezone().isoformat(),
        "expires": None if token.expires is None else token.expires.astimezone().isoformat(),
    }
