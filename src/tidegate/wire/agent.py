"""What an agent and the gateway say to each other (``AGENT_PATH`` in ``wire/names.py``).

* ``POST .../report`` with a ``ReportBody``: answered at once with a ``WantedBody``.
* ``GET .../wanted?attempt=N&have=VERSION``: answered with a ``WantedBody`` as soon as its ``version`` differs from
  ``have``, or after ``HOLD_SECONDS``.

Both bear ``Authorization: token <agent token>``. The agent itself is one file that imports nothing of this.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tidegate.model.cluster import SchedulerFacts
from tidegate.model.report import Report, Wanted

HOLD_SECONDS = 50.0
"""How long a ``wanted`` request is held: shorter than the idle timeout of common reverse proxies (60 s)."""

Port = Annotated[int, Field(ge=1, le=65535)]
WorkerName = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class ReportBody(BaseModel):
    """The facts that an agent reports. Every field is bounded: the sender is hostile until proved otherwise."""

    model_config = ConfigDict(extra="ignore")

    attempt: Annotated[int, Field(ge=1)]
    port: Port
    dashboard_port: Port | None = None
    versions: dict[Annotated[str, Field(max_length=50)], Annotated[str, Field(max_length=200)]] = Field(
        default_factory=dict, max_length=50
    )
    workers: list[WorkerName] = Field(default_factory=list, max_length=100_000)
    retired: list[WorkerName] = Field(default_factory=list, max_length=100_000)
    demand: dict[WorkerName, Count] = Field(default_factory=dict, max_length=100)
    idle_seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    answer: Annotated[int, Field(ge=0, le=2**53)] = 0

    def to_model(self) -> Report:
        """Return the noun that this is the JSON of."""
        facts = SchedulerFacts(self.attempt, self.port, self.dashboard_port, dict(self.versions))
        workers, retired = frozenset(self.workers), frozenset(self.retired)
        return Report(facts, workers, retired, dict(self.demand), self.idle_seconds, self.answer)


class GroupBody(BaseModel):
    """The wanted size of one group; the bounds are null where the size is set by hand."""

    wanted: int
    minimum: int | None = None
    maximum: int | None = None


class WantedBody(BaseModel):
    """The whole wanted state. ``version`` names its content: the same content has the same version."""

    version: str
    exit: bool
    groups: dict[str, GroupBody]
    withdrawn: list[str] = []
    revocations: str = ""
    question: int = 0
    tell_idle_after: float | None = None
    idle_timeout: float | None = None
    kept_until: float | None = None

    @classmethod
    def from_model(cls, wanted: Wanted, revocations: str = "") -> WantedBody:
        """Return the JSON form of ``wanted``, with the lists (PEM) by which what is withdrawn is refused."""
        groups = {
            name: GroupBody(wanted=count, minimum=low, maximum=high)
            for name, (count, low, high) in wanted.groups.items()
        }
        rest = (wanted.question, wanted.tell_idle_after, wanted.idle_timeout, wanted.kept_until)
        content = json.dumps([wanted.exit, sorted(wanted.groups.items()), wanted.withdrawn, *rest])
        return cls(
            version=hashlib.sha256(content.encode()).hexdigest()[:16],
            exit=wanted.exit,
            groups=groups,
            withdrawn=list(wanted.withdrawn),
            revocations=revocations,
            question=wanted.question,
            tell_idle_after=wanted.tell_idle_after,
            idle_timeout=wanted.idle_timeout,
            kept_until=wanted.kept_until,
        )
