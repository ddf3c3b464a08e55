"""Use: how much was used, by whom, when, and what it cost."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import Query
from starlette.requests import Request

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.control.catalogue import Whose
from tidegate.control.usage import Asked
from tidegate.model.errors import Invalid
from tidegate.model.share import LONGEST_NAME
from tidegate.model.usage import Dimension
from tidegate.wire.v2_usage import UsageBody, to_day

Day = Annotated[date | None, Query()]
Name = Annotated[str | None, Query(max_length=LONGEST_NAME)]

_WORDS = {dimension.value: dimension for dimension in Dimension}


async def show_usage(
    request: Request,
    by: Annotated[
        str, Query(max_length=100, description="What to tell it apart by: day, user, group, cluster, comma-separated.")
    ] = "day",
    since: Annotated[Day, Query(description="The first day, in UTC. By default 30 days are told of.")] = None,
    until: Annotated[Day, Query(description="The last day. By default today.")] = None,
    of: Annotated[Whose, Query(description="mine, or all: for administrators everybody's.")] = Whose.MINE,
    user: Annotated[Name, Query(description="Only this user's; of others for administrators.")] = None,
    group: Annotated[Name, Query(description="Only of this group's members; for administrators.")] = None,
    cluster: Annotated[Name, Query(description="Only of this cluster.")] = None,
) -> UsageBody:
    """Read what was used, metered from what ran."""
    usage = services_of(request).usage
    asked = Asked(
        by=parse_by(by),
        since=None if since is None else to_day(since),
        until=None if until is None else to_day(until),
        everybody=of is Whose.ALL,
        user=user,
        group=group,
        cluster=cluster,
    )
    query, books = await usage.read(caller(request), asked)
    return UsageBody.from_model(query, books, usage.currency, await usage.budgets(caller(request), query))


def parse_by(text: str) -> list[Dimension]:
    """Return what use is told apart by; empty text for nothing.

    Raises
    ------
    Invalid
        There is no such word.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in _WORDS:
            rule = f"choose among {', '.join(_WORDS)}"
            raise Invalid(f"cannot tell use apart by {word[:40]!r}: {rule}", field="by")
    return [_WORDS[word] for word in words]
