"""What was used, as the gateway has metered it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING, Any

from tidegate.client.errors import GatewayValueError
from tidegate.wire.csv_text import csv_text

if TYPE_CHECKING:
    from tidegate.client.gateway import Gateway

USAGE = "/api/v2/usage"
HOUR = 3600.0


@dataclass(frozen=True)
class UsageLine:
    """What was used on a day, by a user, a group or a cluster; what it is not told apart by is None.

    Parameters
    ----------
    day : date or None
        In UTC.
    user, group, cluster : str or None
        ``group`` is empty for those who are in none.
    alias : str or None
        What the owner called the cluster.
    core_hours, gib_hours, gpu_hours : float
        Cores, GiB of memory and GPUs, each times the hours in which they ran.
    cost : float
        In the gateway's currency, at the prices that held when each cluster was made.
    """

    day: date | None
    user: str | None
    group: str | None
    cluster: str | None
    alias: str | None
    core_hours: float
    gib_hours: float
    gpu_hours: float
    cost: float

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> UsageLine:
        """Read a line, or the total, which is told apart by nothing."""
        day = body.get("day")
        return cls(
            day=None if day is None else date.fromisoformat(day),
            user=body.get("user"),
            group=body.get("group"),
            cluster=body.get("cluster"),
            alias=body.get("alias"),
            core_hours=body["core_seconds"] / HOUR,
            gib_hours=body["gib_seconds"] / HOUR,
            gpu_hours=body["gpu_seconds"] / HOUR,
            cost=body["cost"],
        )


@dataclass(frozen=True)
class Budget:
    """How much may be used within a window of days, and how much of it is.

    Parameters
    ----------
    scope : str
        Whose clusters count: ``user:NAME`` or ``group:NAME``.
    measure : str
        ``core_hours``, ``gib_hours``, ``gpu_hours`` or ``cost``.
    amount, used : float
    days : int
        The window, today among them.
    words : str
        All that in words.
    """

    scope: str
    measure: str
    amount: float
    used: float
    days: int
    words: str

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Budget:
        """Read what the gateway answered."""
        return cls(**{field.name: body[field.name] for field in fields(cls)})


@dataclass(frozen=True, repr=False)
class UsageReport(Sequence[UsageLine]):
    """What was used, metered from what ran: a sequence of lines, which a ``pandas.DataFrame`` takes as it is.

    Parameters
    ----------
    since, until : date
        The first and the last day, in UTC.
    by : tuple of str
        What the lines are told apart by.
    currency : str
        What the cost is in.
    lines : tuple of UsageLine
    total : UsageLine
        Of all. Lines by group may be more: one cluster counts for each group of its owner.
    budgets : tuple of Budget
        Those that hold for the user, whatever days were asked for.
    """

    since: date
    until: date
    by: tuple[str, ...]
    currency: str
    lines: tuple[UsageLine, ...]
    total: UsageLine
    budgets: tuple[Budget, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> UsageReport:
        """Read what the gateway answered."""
        return cls(
            since=date.fromisoformat(body["since"]),
            until=date.fromisoformat(body["until"]),
            by=tuple(body["by"]),
            currency=body["currency"],
            lines=tuple(map(UsageLine.from_json, body["lines"])),
            total=UsageLine.from_json(body["total"]),
            budgets=tuple(map(Budget.from_json, body.get("budgets") or ())),
        )

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:
        return self.lines[index]

    def __iter__(self) -> Iterator[UsageLine]:
        return iter(self.lines)

    def __repr__(self) -> str:
        cost = f", {self.total.cost:.2f} {self.currency}".rstrip() if self.total.cost else ""
        return f"UsageReport<{self.since} to {self.until}, {self.total.core_hours:.2f} core-hours{cost}>"

    def columns(self) -> list[str]:
        """Return the names of what the lines tell, in order: what they are told apart by, then how much."""
        told = set(self.by) | ({"user", "alias"} if "cluster" in self.by else set())
        named = [name for name in ("day", "user", "group", "cluster", "alias") if name in told]
        return [*named, "core_hours", "gib_hours", "gpu_hours", "cost"]

    def to_csv(self) -> str:
        """Return the lines as comma-separated values, with the names of the columns above them."""
        columns = self.columns()
        return csv_text(columns, ([getattr(line, name) for name in columns] for line in self.lines))


async def read_usage(
    gateway: Gateway,
    by: str | Sequence[str],
    since: date | str | None,
    until: date | str | None,
    **chosen: str | None,
) -> UsageReport:
    """Return what ``Gateway.usage`` does."""
    query = {"by": by if isinstance(by, str) else ",".join(by)}
    query |= {key: _day(value) for key, value in (("since", since), ("until", until)) if value is not None}
    query |= {key: value for key, value in chosen.items() if value is not None}
    return UsageReport.from_json(await gateway._http.request("GET", USAGE, params=query))


def _day(value: date | str) -> str:
    text = value.isoformat()[:10] if isinstance(value, date) else value
    try:
        return date.fromisoformat(text).isoformat()
    except (ValueError, TypeError):
        raise GatewayValueError(f"cannot understand the day {value!r}: write it as 2026-11-24") from None
