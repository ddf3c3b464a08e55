"""``tidegate limits``: how much you may hold and how much you do; for administrators, everybody's, and setting them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address, AsJson, add_row, new_table, open_gateway, print_table
from tidegate.client.limits import Limit, LimitRule, list_rules, set_limit, unset_limit

app = typer.Typer(
    help="Show how much you may hold. Administrators set limits.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)

Subject = Annotated[
    str,
    typer.Argument(
        metavar="WHOM",
        help="cluster, user, user:NAME, each:GROUP (each member), group:GROUP (all together) or gateway.",
        show_default=False,
    ),
]
ResourceName = Annotated[
    str, typer.Argument(metavar="WHAT", help="clusters, workers, cores, memory or gpus.", show_default=False)
]


@app.callback()
def limits(context: typer.Context) -> None:
    """Show how much you may hold, and how much you do."""
    if context.invoked_subcommand is None:
        show()


@app.command()
def show(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Whose, for administrators.")] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="Of everybody who has a cluster, for administrators.")
    ] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in use, and how much may be. This is also what `tidegate limits` does."""
    with open_gateway(address) as gateway:
        found = gateway.limits(user, of="all" if everybody else "mine")
        if as_json:
            typer.echo(json.dumps([asdict(limit) for limit in found], indent=2))
        elif not found:
            typer.echo(f"Nobody has a cluster at {gateway.address}.")
        else:
            _print_limits(found)


@app.command()
def rules(address: Address = None, as_json: AsJson = False) -> None:
    """Show every limit that is set, in the configuration or at run time; for administrators."""
    with open_gateway(address) as gateway:
        found = list_rules(gateway)
        if as_json:
            typer.echo(json.dumps([_rule_to_json(rule) for rule in found], indent=2))
        elif not found:
            typer.echo(f"No limits are set at {gateway.address}.")
        else:
            _print_rules(found)


@app.command("set")
def set_one(
    subject: Subject,
    resource: ResourceName,
    amount: Annotated[
        str,
        typer.Argument(metavar="AMOUNT", help="A number, for memory such as 64GiB, or unlimited.", show_default=False),
    ],
    address: Address = None,
) -> None:
    """Set a limit, from now on and in the place of the configuration's. What runs goes on."""
    with open_gateway(address) as gateway:
        rule = set_limit(gateway, subject, resource, _number(amount))
        typer.echo(f"{rule.subject}: {rule.resource} {rule.words}")


@app.command()
def unset(subject: Subject, resource: ResourceName, address: Address = None) -> None:
    """Take a limit away that was set so; what the configuration says holds again."""
    with open_gateway(address) as gateway:
        unset_limit(gateway, subject, resource)
        typer.echo(f"{subject}: {resource} as the configuration says")


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text  # JSON has no other numbers


def _print_limits(found: Iterable[Limit]) -> None:
    table = new_table("WHOSE", "WHAT", "IN USE", "LIMIT", "SET FOR")
    for limit in found:
        add_row(table, limit.scope, limit.resource, *limit.words, limit.source or "")
    print_table(table)


def _print_rules(found: Iterable[LimitRule]) -> None:
    table = new_table("WHOM", "WHAT", "LIMIT", "SET BY")
    for rule in found:
        by = f"{rule.set_by}, {rule.set_at:%Y-%m-%d %H:%M}" if rule.set_at else "the configuration"
        add_row(table, rule.subject, rule.resource, rule.words, by)
    print_table(table)


def _rule_to_json(rule: LimitRule) -> dict[str, Any]:
    return {**asdict(rule), "set_at": None if rule.set_at is None else rule.set_at.astimezone().isoformat()}
