"""Use, in our own protocol (see ``v2.py`` for its conventions). Days are dates in UTC, such as ``2026-11-24``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Self

from pydantic import BaseModel, Field

from tidegate.model.budgets import Measure, Standing
from tidegate.model.usage import Books, Dimension, Line, Query, Use

EPOCH = date(1970, 1, 1)


def to_day(moment: date) -> int:
    """Return the number of a day, from 1970-01-01 on."""
    return (moment - EPOCH).days


def to_date(day: int) -> date:
    """Return the date of a day."""
    return EPOCH + timedelta(days=day)


class UseBody(BaseModel):
    """How much was used."""

    core_seconds: float
    gib_seconds: float = Field(description="GiB of memory times seconds.")
    gpu_seconds: float
    cost: float = Field(description="At the prices that held when each cluster was made.")

    @classmethod
    def from_model(cls, use: Use) -> Self:
        """Return the JSON form of ``use``."""
        return cls(
            core_seconds=use.core_seconds, gib_seconds=use.gib_seconds, gpu_seconds=use.gpu_seconds, cost=use.cost
        )


class UsageLine(UseBody):
    """What was used on a day, by a user, a group or a cluster; what it is not told apart by is null."""

    day: date | None
    user: str | None
    group: str | None = Field(description="Empty for those who are in none.")
    cluster: str | None
    alias: str | None = Field(description="What the owner called the cluster.")

    @classmethod
    def of_line(cls, line: Line) -> Self:
        """Return the JSON form of ``line``."""
        return cls(
            **UseBody.from_model(line.use).model_dump(),
            day=None if line.day is None else to_date(line.day),
            user=line.user,
            group=line.group,
            cluster=line.cluster,
            alias=line.alias or None,
        )


class BudgetBody(BaseModel):
    """How much may be used within a window of days, and how much of it is."""

    scope: str = Field(description="Whose clusters count: user:NAME or group:NAME.")
    measure: Measure
    amount: float
    days: int
    used: float
    words: str = Field(examples=["500 core-hours in 30 days for the group ice together, of which 312.4 are used"])

    @classmethod
    def from_model(cls, standing: Standing) -> Self:
        """Return the JSON form of ``standing``."""
        budget = standing.budget
        return cls(
            scope=str(standing.scope),
            measure=budget.measure,
            amount=budget.amount,
            days=budget.days,
            used=standing.used,
            words=standing.words,
        )


class UsageBody(BaseModel):
    """What was used, metered from what ran."""

    since: date
    until: date
    by: list[Dimension]
    user: str | None = Field(description="Of whom; null for more than one.")
    currency: str
    lines: list[UsageLine]
    total: UseBody = Field(description="Of all: lines by group may be more, since one cluster counts for several.")
    budgets: list[BudgetBody] = Field(description="Those that hold for the user, whatever days are asked for.")

    @classmethod
    def from_model(cls, query: Query, books: Books, currency: str, standings: Sequence[Standing]) -> Self:
        """Return the JSON form of ``books``, as the answer to ``query``."""
        return cls(
            since=to_date(query.since),
            until=to_date(query.until),
            by=[dimension for dimension in Dimension if dimension in query.by],
            user=query.user,
            currency=currency,
            lines=[UsageLine.of_line(line) for line in books.lines],
            total=UseBody.from_model(books.total),
            budgets=[BudgetBody.from_model(standing) for standing in standings],
        )
