"""``tidegate clusters share`` and its siblings: who else may see or use a cluster, and links to its dashboard."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address, AsJson, Name, OnBehalfOf, add_row, new_table, open_gateway, print_table
from tidegate.client import shares
from tidegate.model.share import Right

User = Annotated[str | None, typer.Option(metavar="NAME", help="A user.", show_default=False)]
Group = Annotated[str | None, typer.Option(metavar="NAME", help="Or everybody in a group.", show_default=False)]


def share(
    name: Name,
    user: User = None,
    group: Group = None,
    right: Annotated[
        Right, typer.Option(help="view: see its dashboard and logs. use: connect to it, and run code in your name.")
    ] = Right.VIEW,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Let a user or a group see a cluster, or use it. Giving another right replaces the one before."""
    with open_gateway(address, on_behalf_of) as gateway:
        given = gateway.sync(shares.give_share, gateway, name, user, group, right.value)
    typer.echo(f"{name}: is shared with {given.kind} {given.name}, to {given.right}")


def unshare(
    name: Name, user: User = None, group: Group = None, address: Address = None, on_behalf_of: OnBehalfOf = None
) -> None:
    """Withdraw what a user or a group was given. What they have open ends at once."""
    with open_gateway(address, on_behalf_of) as gateway:
        gateway.sync(shares.withdraw_share, gateway, name, user, group)
    typer.echo(f"{name}: is not shared with {f'user {user}' if user else f'group {group}'} any more")


def list_shares(name: Name, address: Address = None, on_behalf_of: OnBehalfOf = None, as_json: AsJson = False) -> None:
    """List who may see or use a cluster, and the links to its dashboard. The links' addresses cannot be shown."""
    with open_gateway(address, on_behalf_of) as gateway:
        given = gateway.sync(shares.list_shares, gateway, name)
        links = gateway.sync(shares.list_links, gateway, name)
    if as_json:
        typer.echo(
            json.dumps({"shares": [_to_json(s) for s in given], "links": [_to_json(k) for k in links]}, indent=2)
        )
    elif not given and not links:
        typer.echo(f"{name}: is shared with nobody, and there is no link to its dashboard")
    else:
        _print_tables(given, links)


def link(
    name: Name,
    expires: Annotated[str, typer.Option(metavar="TIME", help="How long it is good: 30m, 1h, 7d.")] = "1h",
    label: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
    as_json: AsJson = False,
) -> None:
    """Make a link that opens a cluster's dashboard to whoever has it, and print it: it cannot be shown again."""
    with open_gateway(address, on_behalf_of) as gateway:
        made = gateway.sync(shares.make_link, gateway, name, expires, label)
    if as_json:
        typer.echo(json.dumps(_to_json(made), indent=2))
        return
    typer.echo(made.url)
    withdraw = f"tidegate clusters unlink {name} {made.id}"
    typer.echo(f"Whoever has it sees the dashboard until {_minute(made.expires)}. To withdraw it: {withdraw}", err=True)


def unlink(
    name: Name,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="As `tidegate clusters shares` shows them.")],
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Withdraw links to a cluster's dashboard. The pages that they opened end at once."""
    with open_gateway(address, on_behalf_of) as gateway:
        for link_id in ids:
            gateway.sync(shares.withdraw_link, gateway, name, link_id)
            typer.echo(f"{link_id}: is withdrawn")


def _print_tables(given: list[shares.ClusterShare], links: list[shares.DashboardLink]) -> None:
    if given:
        table = new_table("SHARED WITH", "RIGHT", "SINCE", "BY")
        for one in given:
            add_row(table, f"{one.kind} {one.name}", one.right, _minute(one.created), one.created_by)
        print_table(table)
    if given and links:
        typer.echo()
    if links:
        table = new_table("LINK", "LABEL", "EXPIRES", "MADE", "BY", folded=("LABEL",))
        for made in links:
            add_row(table, made.id, made.label, _minute(made.expires), _minute(made.created), made.created_by)
        print_table(table)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _to_json(one: shares.ClusterShare | shares.DashboardLink) -> dict[str, Any]:
    """Return it for programs; a link's address only in the moment of its making."""
    return {
        key: value.astimezone().isoformat() if isinstance(value, datetime) else value
        for key, value in asdict(one).items()
        if key != "url" or value is not None
    }
