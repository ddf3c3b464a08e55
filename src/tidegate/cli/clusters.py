"""``tidegate clusters``: what one can do with clusters, without a notebook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tidegate.cli import shares
from tidegate.cli.gateway import Address, AsJson, Name, OnBehalfOf, add_row, new_table, open_gateway, print_table
from tidegate.cli.options import parse_options
from tidegate.cli.plain import plain
from tidegate.client.errors import GatewayValueError
from tidegate.client.report import ClusterReport, ClusterStatus
from tidegate.client.sizes import checked_count

app = typer.Typer(
    help="List, make, size, share and stop clusters.", no_args_is_help=True, pretty_exceptions_enable=False
)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The clusters' names.", show_default=False)]


class Whose(str, Enum):
    """Whose clusters are listed."""

    MINE = "mine"
    SHARED = "shared"
    ALL = "all"


_RIGHTS = {
    "connect": "connect to it",
    "dashboard": "see its dashboard",
    "logs": "read its logs",
    "scale": "resize it",
    "limit": "limit it",
    "share": "share it",
    "stop": "stop it",
}
"""What ``show`` says that one may do with somebody else's cluster."""

_NONE = {Whose.MINE: "of yours", Whose.SHARED: "shared with you", Whose.ALL: "that you may see"}


@app.command("list")
def list_clusters(
    of: Annotated[
        Whose, typer.Option(help="Whose: yours, those of others that are shared with you, or all that you may see.")
    ] = Whose.MINE,
    owner: Annotated[
        str | None, typer.Option(metavar="USER", help="Only this user's, of all that you may see.", show_default=False)
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only these: pending, running, stopping, stopped, failed. Default: pending and running."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
    as_json: AsJson = False,
) -> None:
    """List clusters, newest first."""
    with open_gateway(address, on_behalf_of) as gateway:
        statuses = list(ClusterStatus) if every else status or None
        reports = gateway.list_clusters(statuses, of=of.value, owner=owner)
        if as_json:
            typer.echo(json.dumps([_to_json(report) for report in reports], indent=2))
        elif not reports:
            whose = f"of {owner} that you may see" if owner else _NONE[of]
            typer.echo(f"There is no {'' if every or status else 'running '}cluster {whose} at {gateway.address}.")
        else:
            print_table(_table(reports, owners=owner is not None or of is not Whose.MINE))


@app.command()
def show(name: Name, address: Address = None, on_behalf_of: OnBehalfOf = None, as_json: AsJson = False) -> None:
    """Show one cluster: state, size, options, and why it ended."""
    with open_gateway(address, on_behalf_of) as gateway:
        report = gateway.get_cluster(name)
    if as_json:
        typer.echo(json.dumps(_to_json(report), indent=2))
        return
    table = new_table("", "", folded=("",))
    for title, value in _details(report):
        add_row(table, title, value)
    print_table(table)
    if report.reason and report.reason.get("log_tail"):
        typer.echo(f"\nThe end of its log:\n{plain(report.reason['log_tail'])}")


@app.command()
def create(
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", metavar="KEY=VALUE", help="An option, such as worker_cores=2.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What you call it: every command finds it by that.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("-l", "--label", metavar="KEY=VALUE", help="What you note of it.")
    ] = None,
    variables: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Environment variables, one NAME=text a line; - for the standard input. Secrets belong on no command "
            "line.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="How many workers to begin with.")] = None,
    wait: Annotated[bool, typer.Option(help="Return when it runs, or at once.")] = True,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
    as_json: AsJson = False,
) -> None:
    """Make a cluster, and leave it running until it is stopped."""
    if workers is not None:
        checked_count(workers)  # before there is a cluster that nobody was told the name of
        if not wait:
            raise GatewayValueError("cannot set --workers with --no-wait: a cluster is sized when it runs")
    with open_gateway(address, on_behalf_of) as gateway:
        chosen, labels = parse_options(gateway, option or [], variables), dict(map(_parse_label, label or [])) or None
        if wait:
            cluster = gateway.new_cluster(chosen, shutdown_on_close=False, name=name, labels=labels)
            made = cluster.name
            cluster.close()
        else:
            made = gateway.submit(chosen, name=name, labels=labels)
        if workers is not None:
            gateway.scale_cluster(made, workers)
        report = gateway.get_cluster(made)
    if as_json:
        typer.echo(json.dumps(_to_json(report), indent=2))
        return
    typer.echo(made)
    if report.dashboard_link:
        typer.echo(f"Dashboard: {report.dashboard_link}", err=True)
    called = name or made
    typer.echo(f"In Python: Gateway().connect({called!r})    To stop it: tidegate clusters stop {called}", err=True)


# -1 is a number that makes no sense, and is told so; not an option.
@app.command(context_settings={"ignore_unknown_options": True})
def scale(
    name: Name,
    workers: Annotated[int, typer.Argument(metavar="N", help="How many workers.", show_default=False)],
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Set the number of workers."""
    with open_gateway(address, on_behalf_of) as gateway:
        report = gateway.scale_cluster(name, workers)
    typer.echo(f"{name}: {report.workers} / {report.wanted} worker{'' if report.wanted == 1 else 's'}")


@app.command()
def adapt(
    name: Name,
    minimum: Annotated[int | None, typer.Option("--min", metavar="N", help="Never fewer workers.")] = None,
    maximum: Annotated[int | None, typer.Option("--max", metavar="N", help="Never more workers.")] = None,
    off: Annotated[bool, typer.Option("--off", help="Leave it at its present size.")] = False,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Let the load decide the number of workers."""
    with open_gateway(address, on_behalf_of) as gateway:
        report = gateway.adapt_cluster(name, minimum, maximum, active=not off)
    bounds = f"adaptive, {report.adaptive[0]} to {report.adaptive[1]} workers" if report.adaptive else "not adaptive"
    typer.echo(f"{name}: {bounds}")


@app.command(context_settings={"ignore_unknown_options": True})
def limit(
    name: Name,
    workers: Annotated[int, typer.Argument(metavar="N", help="How many workers at the most.", show_default=False)],
    address: Address = None,
) -> None:
    """Limit the size of somebody's cluster; for administrators. Workers that run go on."""
    with open_gateway(address) as gateway:
        report = gateway.limit_cluster(name, workers)
    most = f"{report.max_workers} worker{'' if report.max_workers == 1 else 's'}"
    typer.echo(f"{name} of {report.owner}: at most {most} ({report.max_workers_reason})")


@app.command()
def keep(
    name: Name,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Such as '8 hours'. Default: its usual time, counted anew."),
    ] = None,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
) -> None:
    """Keep a cluster although nothing runs on it."""
    with open_gateway(address, on_behalf_of) as gateway:
        report = gateway.keep_cluster(name, duration)
    typer.echo(f"{name}: ends {report.ending}" if report.ending else f"{name}: is kept")


@app.command()
def stop(names: Names, address: Address = None, on_behalf_of: OnBehalfOf = None) -> None:
    """Stop clusters. Those that have ended already are no error."""
    with open_gateway(address, on_behalf_of) as gateway:
        for name in names:
            gateway.stop_cluster(name)
            typer.echo(f"{name}: is being stopped")


@app.command()
def logs(
    name: Name,
    process: Annotated[str | None, typer.Option(help="Only this one: scheduler, or a worker's name.")] = None,
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="The last lines of each.")] = 200,
    address: Address = None,
    on_behalf_of: OnBehalfOf = None,
    as_json: AsJson = False,
) -> None:
    """Show the logs of a cluster, also after its end."""
    with open_gateway(address, on_behalf_of) as gateway:
        texts = gateway.get_logs(name, lines)
    if process is not None and process not in texts:
        raise GatewayValueError(f"cannot find a log of {process!r}: cluster {name} has {', '.join(texts) or 'none'}")
    chosen = texts if process is None else {process: texts[process]}
    if as_json:
        typer.echo(json.dumps(chosen, indent=2))
        return
    for one, text in chosen.items():
        if process is None:
            typer.secho(f"==> {one} <==", bold=True)
        typer.echo(plain(text).rstrip("\n"))


app.command("share")(shares.share)
app.command("unshare")(shares.unshare)
app.command("shares")(shares.list_shares)
app.command("link")(shares.link)
app.command("unlink")(shares.unlink)


def _parse_label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise GatewayValueError(f"cannot read the label {text!r}: write it as KEY=VALUE, such as project=ice")
    return key.strip(), value


def _table(reports: list[ClusterReport], *, owners: bool) -> Table:
    whose = ("OWNER",) if owners else ()
    called = ("CALLED",) if any(report.alias for report in reports) else ()
    table = new_table("NAME", *called, *whose, "STATE", "WORKERS", "AGE", "DASHBOARD", folded=("DASHBOARD",))
    for report in reports:
        owner, alias = (report.owner,) if owners else (), (report.alias,) if called else ()
        state, link = report.status.name.lower(), report.dashboard_link or ""
        add_row(table, report.name, *alias, *owner, state, _size(report), _age(report), link)
    return table


def _details(report: ClusterReport) -> Iterator[tuple[str, str]]:
    yield "Name", report.name
    if report.alias:
        yield "Called", report.alias
    if not report.mine:
        yield "Owner", report.owner
        yield "You may", ", ".join(words for right, words in _RIGHTS.items() if report.may(right))
    yield "State", report.status.name.lower()
    if report.reason:
        yield "Reason", report.reason["message"]
    because = f" ({report.max_workers_reason})" if report.max_workers_reason else ""
    yield "Workers", f"{_size(report)}, at most {report.max_workers}{because}"
    yield "Made", f"{report.start_time:%Y-%m-%d %H:%M:%S}"
    if report.stop_time:
        yield "Ended", f"{report.stop_time:%Y-%m-%d %H:%M:%S}"
    for key, value in report.options.items():
        yield key, str(value)
    if report.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in report.labels.items())
    if report.versions:
        yield "Versions", ", ".join(f"{name} {number}" for name, number in report.versions.items())
    if report.dashboard_link:
        yield "Dashboard", report.dashboard_link
    if report.shares:
        yield "Shared with", ", ".join(f"{share.kind} {share.name} ({share.right})" for share in report.shares)
    if report.ending:
        yield "Ends", str(report.ending)
    for note in report.notes:
        yield "Note", note


def _size(report: ClusterReport) -> str:
    text = f"{report.workers}" if report.workers == report.wanted else f"{report.workers} / {report.wanted}"
    return f"{text} (adaptive, {report.adaptive[0]} to {report.adaptive[1]})" if report.adaptive else text


def _age(report: ClusterReport) -> str:
    age = (report.stop_time or datetime.now()) - report.start_time
    return str(timedelta(seconds=max(0, int(age.total_seconds()))))


def _to_json(report: ClusterReport) -> dict[str, Any]:
    """Return the report for programs. What to connect with is not part of it."""
    return {
        "name": report.name,
        "alias": report.alias or None,
        "labels": dict(report.labels),
        "owner": report.owner,
        "status": report.status.name.lower(),
        "options": dict(report.options),
        "workers": report.workers,
        "wanted": report.wanted,
        "adaptive": None if report.adaptive is None else {"minimum": report.adaptive[0], "maximum": report.adaptive[1]},
        "max_workers": report.max_workers,
        "start_time": report.start_time.astimezone().isoformat(),
        "stop_time": None if report.stop_time is None else report.stop_time.astimezone().isoformat(),
        "scheduler_address": report.scheduler_address,
        "dashboard_link": report.dashboard_link,
        "versions": dict(report.versions),
        "reason": dict(report.reason) if report.reason else None,
        "notes": list(report.notes),
    }
