"""``tidegate usage``: what was used, and what it cost."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import typer

from tidegate.cli.gateway import Address, AsJson, OnBehalfOf, add_row, new_table, open_gateway, print_table
from tidegate.cli.plain import plain
from tidegate.client.usage import UsageReport

_TITLES = {
    "day": "DAY",
    "user": "USER",
    "group": "GROUP",
    "cluster": "CLUSTER",
    "alias": "CALLED",
    "core_hours": "CORE-HOURS",
    "gib_hours": "GIB-HOURS",
    "gpu_hours": "GPU-HOURS",
    "cost": "COST",
}


def usage(
    by: Annotated[
        str, typer.Option(metavar="WORDS", help="Told apart by day, user, group, cluster, or several: day,user.")
    ] = "day",
    days: Annotated[
        int | None,
        typer.Option(min=1, max=3660, metavar="N", help="The last N days, today among them.", show_default=False),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="DATE", help="The first day, such as 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="The last day. Default: today.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's; for administrators.")] = False,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="This user's; for administrators.")] = None,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="That of this group's members; for administrators.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(metavar="NAME", help="Of this cluster alone.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values, for spreadsheets.")] = False,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
    as_json: AsJson = False,
) -> None:
    """Show what was used: cores, memory and GPUs times the hours in which they ran. Days are in UTC."""
    if days is not None and since is None:
        first = datetime.now(timezone.utc).date() - timedelta(days=days - 1)
        since = first.isoformat()
    with open_gateway(address, on_behalf_of) as gateway:
        of = "all" if everybody else "mine"
        report = gateway.usage(by, since, until, of=of, user=user, group=group, cluster=cluster)
        if as_csv:
            typer.echo(report.to_csv(), nl=False)
        elif as_json:
            typer.echo(json.dumps(_to_json(report), indent=2))
        elif not report:
            typer.echo(f"Nothing was used from {report.since} to {report.until} at {gateway.address}.")
        else:
            _print(report)
        if not as_csv and not as_json:
            for budget in report.budgets:
                typer.echo(f"Budget: {plain(budget.words)}")


def _print(report: UsageReport) -> None:
    measured = {"gpu_hours": report.total.gpu_hours, "cost": report.total.cost}
    columns = [name for name in report.columns() if measured.get(name, 1)]
    titles = [_TITLES[name] for name in columns]
    if "cost" in columns and report.currency:
        titles[-1] = f"COST ({report.currency})"
    table = new_table(*titles)
    for line in report:
        add_row(table, *(_cell(getattr(line, name)) for name in columns))
    if len(report) > 1:
        totals = [_cell(getattr(report.total, name)) for name in columns]
        add_row(table, "in all", *totals[1:])
    print_table(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "" if value is None else str(value)


def _to_json(report: UsageReport) -> dict[str, Any]:
    def told(line: Any) -> dict[str, Any]:
        return {key: value.isoformat() if key == "day" and value else value for key, value in asdict(line).items()}

    return {
        "since": report.since.isoformat(),
        "until": report.until.isoformat(),
        "currency": report.currency,
        "lines": [told(line) for line in report],
        "total": told(report.total),
        "budgets": [asdict(budget) for budget in report.budgets],
    }
