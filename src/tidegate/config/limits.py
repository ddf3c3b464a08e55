"""The settings under ``limits``: how much a cluster, a user, a group and the whole gateway may hold.

What is not said is not limited; ``unlimited`` says so where something more general would limit it. At run time
administrators lay others over these (``tidegate limits set``), which last until they take them away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from tidegate.model.amounts import UNLIMITED, Resource, parse_amount
from tidegate.model.errors import Invalid
from tidegate.model.limits import Rule, Rules, Subject, SubjectKind
from tidegate.settings import Section, Unit


def _amount_of(resource: Resource) -> BeforeValidator:
    def parse(value: Any) -> Any:
        try:
            amount = parse_amount(resource, value)
            return UNLIMITED if amount == math.inf else amount
        except Invalid as error:
            raise ValueError(error.message.partition(": ")[2]) from None

    return BeforeValidator(parse)


Amount = float | Literal["unlimited"]
Workers = Annotated[Amount, _amount_of(Resource.WORKERS), Unit("workers, or unlimited")]
Cores = Annotated[Amount, _amount_of(Resource.CORES), Unit("cores, or unlimited")]
Memory = Annotated[Amount, _amount_of(Resource.MEMORY), Unit("bytes, or text such as 64 GiB, or unlimited")]
Gpus = Annotated[Amount, _amount_of(Resource.GPUS), Unit("GPUs, or unlimited")]
Count = Annotated[Amount, _amount_of(Resource.CLUSTERS), Unit("clusters, or unlimited")]


class ClusterLimits(Section):
    """What one cluster may have at most. A change counts for clusters that are made from then on."""

    workers: Workers | None = None
    """Workers of one cluster. By default what the backend says that it can carry: locally what the machine's memory
    and cores allow, elsewhere 1,000."""
    cores: Cores | None = None
    """Cores of its workers, and of its scheduler where that has a size."""
    memory: Memory | None = None
    """Memory of the same."""
    gpus: Gpus | None = None
    """GPUs of its workers."""


class SharedLimits(Section):
    """What several clusters may hold together."""

    clusters: Count | None = None
    """Clusters that have not ended."""
    workers: Workers | None = None
    """Their workers: as many as are wanted, or as have not ended yet."""
    cores: Cores | None = None
    """Cores of these workers, and of the schedulers where those have a size."""
    memory: Memory | None = None
    """Memory of the same."""
    gpus: Gpus | None = None
    """GPUs of these workers."""


class GroupLimits(Section):
    """What the members of a group may hold."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 1
    """How much its members may hold beside others before others come first, where requests wait (``when_full``). Of
    several groups the largest counts; who is in none has 1."""
    each: SharedLimits = SharedLimits()
    """Each member, in place of ``limits.user`` for what is named here. Of several groups the most generous holds."""
    together: SharedLimits = SharedLimits()
    """All members together. A cluster counts for every group that its owner was in when they made it."""


def _check_name(name: str) -> str:
    try:
        Subject.parse(f"{SubjectKind.GROUP.value}:{name}")
    except Invalid as error:
        raise ValueError(error.message.partition(": ")[2]) from None
    return name


Name = Annotated[str, AfterValidator(_check_name)]


class LimitSettings(Section):
    """How much may be held at most."""

    cluster: ClusterLimits = ClusterLimits()
    """What one cluster may have."""
    user: SharedLimits = SharedLimits()
    """What the clusters of each user may hold together."""
    users: dict[Name, SharedLimits] = Field(default_factory=dict)
    """The same for some users by name, in place of ``limits.user`` and of what their groups allow each member."""
    groups: dict[Name, GroupLimits] = Field(default_factory=dict)
    """What the members of some groups may hold, by the group's name or a pattern such as ``project-*``, which stands
    for each group that is like it, each by itself. A name goes before patterns, and of these the first counts."""
    gateway: SharedLimits = SharedLimits()
    """What all clusters together may hold."""
    when_full: Literal["refuse", "wait"] = "refuse"
    """What becomes of a request for which there is no room: ``refuse`` refuses new clusters, and gives of a size what
    fits; ``wait`` has them wait in line for the rest, in a fair order."""

    def rules(self) -> Rules:
        """Return these as the rules that admission goes by."""
        rules = [
            *_rules_of(Subject(SubjectKind.CLUSTER), self.cluster),
            *_rules_of(Subject(SubjectKind.USER), self.user),
        ]
        for user, limits in self.users.items():
            rules += _rules_of(Subject(SubjectKind.USER, user), limits)
        for group, both in self.groups.items():
            rules += _rules_of(Subject(SubjectKind.EACH, group), both.each)
            rules += _rules_of(Subject(SubjectKind.GROUP, group), both.together)
        rules += _rules_of(Subject(SubjectKind.GATEWAY), self.gateway)
        weights = {group: both.weight for group, both in self.groups.items()}
        return Rules(rules, waits=self.when_full == "wait", weights=weights)


def _rules_of(subject: Subject, section: ClusterLimits | SharedLimits) -> Iterator[Rule]:
    for resource in Resource:
        amount = getattr(section, resource.value, None)
        if amount is not None:
            yield Rule(subject, resource, math.inf if amount == UNLIMITED else amount)
