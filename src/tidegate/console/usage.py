"""The page of what was used: a plot by day, and who or what used it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.console.chart import bar_chart
from tidegate.console.render import page
from tidegate.control.usage import DEFAULT_DAYS, Asked
from tidegate.model.share import LONGEST_NAME
from tidegate.model.usage import HOUR_SECONDS, Dimension, Line, Query, Use
from tidegate.wire.csv_text import csv_text
from tidegate.wire.v2_usage import to_date

PERIODS = (7, 30, 90, 365)
"""How many days one can look back."""
SHOWN = 50
"""Lines of the table: those that used most."""

_TITLES = {Dimension.CLUSTER: "Clusters", Dimension.USER: "Users", Dimension.GROUP: "Groups"}


@dataclass(frozen=True, slots=True)
class UseView:
    """How much was used, in hours, as numbers for people."""

    core_hours: float
    gib_hours: float
    gpu_hours: float
    cost: float


@dataclass(frozen=True, slots=True)
class LineView:
    """A line of the table: a cluster, a user or a group."""

    name: str
    title: str
    user: str
    use: UseView


async def show_usage(request: Request) -> Response:
    """Show what was used."""
    usage, principal = services_of(request).usage, caller(request)
    asked = _asked(request)
    query, by_day = await usage.read(principal, _told_by(asked, Dimension.DAY))
    dimension = _dimension(request, everybody=query.user is None)
    _, found = await usage.read(principal, _told_by(asked, dimension))
    lines = sorted(found.lines, key=lambda line: (-line.use.cost, -line.use.core_seconds))
    chosen = {"of": "all" if asked.everybody else "mine", "days": str(query.until - query.since + 1)}
    chosen |= {"user": asked.user} if asked.user else {}
    return page(
        request,
        "usage.html",
        chart=bar_chart(_by_day(query, by_day.lines), "core-hours"),
        total=_view(by_day.total),
        budgets=await usage.budgets(principal, query),
        currency=usage.currency,
        since=to_date(query.since).isoformat(),
        until=to_date(query.until).isoformat(),
        periods=[(days, str(days) == chosen["days"], urlencode({**chosen, "days": days})) for days in PERIODS],
        whose=chosen["of"],
        user=asked.user or "",
        tabs=[(one.value, title, urlencode({**chosen, "by": one.value})) for one, title in _TITLES.items()]
        if query.user is None
        else [],
        by=dimension.value,
        title=_TITLES[dimension],
        lines=[
            LineView(_name(line), line.alias or _name(line), line.user or "", _view(line.use)) for line in lines[:SHOWN]
        ],
        more=max(0, len(lines) - SHOWN),
        download=urlencode({**chosen, "by": dimension.value}),
    )


async def download_usage(request: Request) -> Response:
    """Send what was used, day by day, as comma-separated values."""
    usage, asked = services_of(request).usage, _asked(request)
    dimension = _dimension(request, everybody=asked.everybody)
    query, books = await usage.read(caller(request), _told_by(asked, Dimension.DAY, dimension))
    columns = ("day", "user", "group", "cluster", "alias", "core_hours", "gib_hours", "gpu_hours", "cost")
    rows = (
        (
            None if line.day is None else to_date(line.day),
            line.user,
            line.group,
            line.cluster,
            line.alias,
            *_hours(line.use),
        )
        for line in books.lines
    )
    name = f"usage-{to_date(query.since)}-{to_date(query.until)}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(csv_text(columns, rows), media_type="text/csv", headers=headers)


def _asked(request: Request) -> Asked:
    """Return what the address asks for; what makes no sense in it is not asked."""
    words = request.query_params
    principal, today = caller(request), services_of(request).usage.today
    days = int(words["days"]) if words.get("days") in {str(days) for days in PERIODS} else DEFAULT_DAYS
    user = words.get("user", "").strip()[:LONGEST_NAME] if principal.admin else ""
    everybody = principal.admin and words.get("of") == "all"
    return Asked(since=today - days + 1, until=today, everybody=everybody, user=user or None)


def _told_by(asked: Asked, *by: Dimension) -> Asked:
    return Asked(by, asked.since, asked.until, asked.everybody, asked.user)


def _dimension(request: Request, *, everybody: bool) -> Dimension:
    """Return by what the table tells use apart: of one user always by cluster."""
    if not everybody:
        return Dimension.CLUSTER
    word = request.query_params.get("by")
    return next((one for one in _TITLES if one.value == word), Dimension.USER)


def _by_day(query: Query, lines: Sequence[Line]) -> list[tuple[str, float]]:
    used = {line.day: line.use.core_seconds / HOUR_SECONDS for line in lines}
    return [(to_date(day).isoformat(), used.get(day, 0.0)) for day in range(query.since, query.until + 1)]


def _name(line: Line) -> str:
    if line.cluster is not None:
        return line.cluster
    return (line.user if line.group is None else line.group) or "in no group"


def _hours(use: Use) -> tuple[float, float, float, float]:
    return use.core_seconds / HOUR_SECONDS, use.gib_seconds / HOUR_SECONDS, use.gpu_seconds / HOUR_SECONDS, use.cost


def _view(use: Use) -> UseView:
    return UseView(*_hours(use))
