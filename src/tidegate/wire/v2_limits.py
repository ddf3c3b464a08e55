"""Limits, in our own protocol (see ``v2.py`` for its conventions). No limit is null; memory is in bytes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, WithJsonSchema

from tidegate.model.amounts import UNLIMITED, Resource
from tidegate.model.cluster import Cluster
from tidegate.model.limits import Limit, Rule, Scope
from tidegate.model.line import is_waiting
from tidegate.wire.request import Request

Amount = Annotated[
    Any, WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "examples": ["64 GiB"]}]})
]
"""Judged by ``model.amounts``."""


class NewLimit(Request):
    """A limit to set."""

    amount: Amount = Field(description=f"A number; of memory also text such as 64 GiB; or {UNLIMITED}.")


class LimitBody(BaseModel):
    """How much of a resource is in use, and how much may be."""

    scope: str = Field(examples=["user:alice"], description="Over which clusters is counted.")
    resource: Resource
    used: float
    amount: float | None = Field(description="The limit.")
    source: str | None = Field(examples=["each:students"], description="Whose limit it is.")
    words: str = Field(examples=["20 cores for each member of the group students, of which 12 are in use"])

    @classmethod
    def from_model(cls, scope: Scope, resource: Resource, used: float, limit: Limit | None) -> Self:
        """Return the JSON form."""
        words = f"{resource.tell(used)} in use, without a limit" if limit is None else limit.tell(used)
        return cls(
            scope=str(scope),
            resource=resource,
            used=used,
            amount=None if limit is None else limit.amount,
            source=None if limit is None else str(limit.source),
            words=words,
        )


class Limits(BaseModel):
    """The limits that hold for a user, or for administrators everybody's."""

    limits: list[LimitBody]


class RuleBody(BaseModel):
    """A rule from which limits follow."""

    subject: str = Field(examples=["each:students"], description="For whom it is.")
    resource: Resource
    amount: float | None
    configured: float | None = Field(description="Where it was set at run time, what the configuration says.")
    set_by: str | None = Field(description="Who set it at run time; null for the configuration's.")
    set_at: float | None
    words: str = Field(examples=["20 cores for each member of the group students"])

    @classmethod
    def from_model(cls, rule: Rule, configured: float | None = None) -> Self:
        """Return the JSON form."""
        return cls(
            subject=str(rule.subject),
            resource=rule.resource,
            amount=_finite(rule.amount),
            configured=None if configured is None else _finite(configured),
            set_by=rule.set_by or None,
            set_at=rule.set_at,
            words=rule.words,
        )


class Rules(BaseModel):
    """Every rule that holds."""

    rules: list[RuleBody]


class WaitingBody(BaseModel):
    """A place in the line of those for whom limits leave no room."""

    since: float
    place: int = Field(description="How many are before it, and itself; 0 where the line was not looked at yet.")
    reason: str

    @classmethod
    def from_model(cls, cluster: Cluster) -> Self | None:
        """Return the JSON form of a cluster's place, if it waits."""
        waiting = cluster.waiting
        if waiting is None or not is_waiting(cluster):
            return None
        return cls(since=waiting.since, place=waiting.place, reason=waiting.reason)


def _finite(amount: float) -> float | None:
    return None if amount == math.inf else amount
