"""``tidegate audit``: who did what to which cluster, from where, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

import typer
from dask.utils import parse_timedelta
from rich.table import Table

from tidegate.cli.gateway import Address, AsJson, add_row, new_table, open_gateway, print_table
from tidegate.client.audit import AuditEntry, follow_audit, list_audit
from tidegate.client.errors import GatewayValueError


def audit(
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Who did it, or for whom it was done.")] = None,
    cluster: Annotated[str | None, typer.Option(metavar="NAME", help="To which cluster.")] = None,
    action: Annotated[str | None, typer.Option(metavar="WORD", help="What, such as cluster.create.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only done, refused or failed.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Not older: 30m, 12h, 7d, or a date such as 2026-11-23.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="The newest ones.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show the audit log, for administrators: who did what to which cluster, from where, with which outcome."""
    wanted = {"user": user, "cluster": cluster, "action": action, "outcome": outcome, "since": _moment(since)}
    with open_gateway(address) as gateway:
        entries = list_audit(gateway, limit, **wanted)
        if follow:
            _print_lines(entries, as_json=as_json)
            # Without a single entry that fits, what follows is all of the log that does.
            last = entries[-1].id if entries else 0
            _print_lines(follow_audit(gateway, last, **wanted), as_json=as_json)
        elif as_json:
            typer.echo(json.dumps([_to_json(entry) for entry in entries], indent=2))
        elif not entries:
            typer.echo(f"There is nothing on record at {gateway.address} that fits.")
        else:
            print_table(_table(entries))


def _moment(text: str | None) -> float | None:
    """Return a time in seconds since the epoch: a date, or so long ago."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        ago: float = parse_timedelta(text)
    except (ValueError, KeyError):
        rule = "write 30m, 12h, 7d, or a date such as 2026-11-23"
        raise GatewayValueError(f"cannot understand the time {text!r}: {rule}") from None
    return datetime.now().timestamp() - ago


def _print_lines(entries: Iterable[AuditEntry], *, as_json: bool) -> None:
    """Print entries as they come: a line each, without the columns that only a whole table can have."""
    for entry in entries:
        typer.echo(json.dumps(_to_json(entry)) if as_json else "  ".join(filter(None, _row(entry))))


def _table(entries: list[AuditEntry]) -> Table:
    titles = ("TIME", "WHO", "ACTION", "CLUSTER", "OUTCOME", "FROM", "WHAT")
    table = new_table(*titles, folded=("WHO", "WHAT"))
    for entry in entries:
        add_row(table, *_row(entry))
    return table


def _row(entry: AuditEntry) -> tuple[str, ...]:
    who = f"{entry.actor}, on behalf of {entry.user}" if entry.actor else entry.user or "-"
    proved = "" if entry.method or not entry.user else " (not proved)"
    times = f" x{entry.times}" if entry.times > 1 else ""
    outcome = f"{entry.outcome}: {entry.code}" if entry.code else entry.outcome
    when = f"{entry.at:%Y-%m-%d %H:%M:%S}"
    return when, who + proved, entry.action + times, entry.cluster, outcome, entry.address, entry.detail


def _to_json(entry: AuditEntry) -> dict[str, Any]:
    return {**asdict(entry), "at": entry.at.astimezone().isoformat()}
