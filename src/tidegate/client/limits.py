"""How much one may hold, and how much one does, as the gateway counts it; for administrators, setting limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tidegate.model.amounts import Resource

if TYPE_CHECKING:
    from tidegate.client.gateway import Gateway

LIMITS = "/api/v2/limits"


@dataclass(frozen=True)
class Limit:
    """How much of a resource is in use, and how much may be.

    Parameters
    ----------
    scope : str
        Over which clusters is counted: ``user:alice``, ``group:students``, ``gateway``.
    resource : str
        ``clusters``, ``workers``, ``cores``, ``memory`` (in bytes) or ``gpus``.
    used : float
    amount : float or None
        The limit; None where there is none.
    source : str or None
        Whose limit it is: ``user``, ``each:students``, ...
    """

    scope: str
    resource: str
    used: float
    amount: float | None
    source: str | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Limit:
        """Read what the gateway tells."""
        return cls(body["scope"], body["resource"], body["used"], body["amount"], body["source"])

    @property
    def words(self) -> tuple[str, str]:
        """What is in use and what may be, with units."""
        resource = Resource(self.resource)
        return resource.number(self.used), "-" if self.amount is None else resource.number(self.amount)


@dataclass(frozen=True, repr=False)
class Limits(Sequence[Limit]):
    """The limits that hold, one after the other: printed as a table; ``pandas.DataFrame`` takes them as they are."""

    limits: tuple[Limit, ...]

    def __len__(self) -> int:
        return len(self.limits)

    def __getitem__(self, index: Any) -> Any:
        return self.limits[index]

    def __iter__(self) -> Iterator[Limit]:
        return iter(self.limits)

    def __repr__(self) -> str:
        rows = [("", "resource", "in use", "limit")]
        rows += [(limit.scope, limit.resource, *limit.words) for limit in self.limits]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


@dataclass(frozen=True)
class LimitRule:
    """A rule from which limits follow.

    Parameters
    ----------
    subject : str
        For whom it is: ``cluster``, ``user``, ``user:NAME``, ``each:GROUP``, ``group:GROUP`` or ``gateway``.
    resource : str
    amount : float or None
        None is no limit.
    set_by : str or None
        Who set it at run time; None for those of the configuration.
    set_at : datetime or None
    """

    subject: str
    resource: str
    amount: float | None
    set_by: str | None
    set_at: datetime | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> LimitRule:
        """Read what the gateway tells."""
        at = body["set_at"]
        moment = None if at is None else datetime.fromtimestamp(at)
        return cls(body["subject"], body["resource"], body["amount"], body["set_by"], moment)

    @property
    def words(self) -> str:
        """How much, with its unit."""
        return "unlimited" if self.amount is None else Resource(self.resource).number(self.amount)


async def read_limits(gateway: Gateway, *, user: str | None = None, of: str = "mine") -> Limits:
    """Return what ``Gateway.limits`` does."""
    query = {"of": of} | ({} if user is None else {"user": user})
    body = await gateway._http.request("GET", LIMITS, params=query)
    return Limits(tuple(map(Limit.from_json, body["limits"])))


def list_rules(gateway: Gateway) -> list[LimitRule]:
    """Return every rule, those of the run time in the place of the configuration's."""
    body = gateway.sync(gateway._http.request, "GET", f"{LIMITS}/rules")
    return list(map(LimitRule.from_json, body["rules"]))


def set_limit(gateway: Gateway, subject: str, resource: str, amount: float | str) -> LimitRule:
    """Set a limit from now on, and return it."""
    return LimitRule.from_json(
        gateway.sync(gateway._http.request, "PUT", _place(subject, resource), json={"amount": amount})
    )


def unset_limit(gateway: Gateway, subject: str, resource: str) -> None:
    """Take a limit away that was set at run time, if there is one."""
    gateway.sync(gateway._http.request, "DELETE", _place(subject, resource))


def _place(subject: str, resource: str) -> str:
    return f"{LIMITS}/{quote(resource, safe='')}/{quote(subject, safe='')}"
