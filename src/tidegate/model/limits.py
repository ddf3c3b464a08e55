"""How much may be held: what a cluster holds, which limits hold for it, and how much room they leave.

How to think about it
---------------------
* A **rule** is what an administrator says, in the configuration or at run time: for a *subject* (every user, one user,
  each member of a group, ...) so much of a *resource*. Rules are not yet limits: several may speak of the same thing.
* A **limit** is what comes of the rules for one owner: within a *scope* (the user, a group, the gateway) all clusters
  together hold no more than so much. For a user the rule that names them stands before those for each member of
  their groups (of which the most generous holds), and those before the one for every user. A group may be meant by a
  pattern (``project-*``): what is said of it then holds for each group that is like it, and for each by itself.
* What a cluster **holds** is a pure function of its record, ``holding_of``: what it may have running without asking
  again. So it is the *wanted* size where that is larger than what runs, and what is being stopped still holds.
* The **ledger** is what the others hold within each scope. Whoever makes a cluster hold more does it in the transaction
  in which the ledger was read (``Store.admit``), so that the sum is right however many ask at once.

Lowering a limit takes nothing away: what is held stays held, and nothing more is given until it fits.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from tidegate.model.amounts import NOTHING, ROUNDING, Amounts, Resource
from tidegate.model.cluster import Cluster, ClusterSpec, Target, WorkerState
from tidegate.model.errors import Invalid
from tidegate.model.patterns import is_pattern, nearest
from tidegate.model.policy import Capacity
from tidegate.model.share import LONGEST_NAME


def worker_shape(spec: ClusterSpec) -> Amounts:
    """Return what one worker holds."""
    return Amounts(workers=1, cores=spec.worker_cores, memory=spec.worker_memory, gpus=spec.worker_gpus)


def cluster_base(spec: ClusterSpec) -> Amounts:
    """Return what a cluster without workers holds: itself, and its scheduler as far as that is given a size."""
    return Amounts(clusters=1, cores=spec.scheduler_cores, memory=spec.scheduler_memory)


def group_holdings(cluster: Cluster) -> dict[str, int]:
    """Return how many workers each group of a cluster holds: those that are wanted, or those that have not ended."""
    held: dict[str, int] = {}
    for worker in cluster.workers:
        if worker.state is not WorkerState.ENDED:
            held[worker.group] = held.get(worker.group, 0) + 1
    if cluster.target is Target.RUNNING:  # what is to stop starts nothing any more
        for group in cluster.groups:
            held[group.name] = max(group.wanted, held.get(group.name, 0))
    return held


def holding_of(cluster: Cluster) -> Amounts:
    """Return what a cluster holds; nothing before it was let in, and once it has ended."""
    if cluster.state.ended or cluster.queued:
        return NOTHING
    workers = sum(group_holdings(cluster).values())
    return cluster_base(cluster.spec) + worker_shape(cluster.spec) * workers


# -- rules -----------------------------------------------------------------------------------------------------------


class SubjectKind(str, Enum):
    """Whom a rule is for."""

    CLUSTER = "cluster"
    """Each cluster."""
    USER = "user"
    """One user, or with no name every user, for all their clusters together."""
    EACH = "each"
    """Each member of a group, for all their clusters together."""
    GROUP = "group"
    """All members of a group together."""
    GATEWAY = "gateway"
    """Everybody together."""


_NAMED = (SubjectKind.EACH, SubjectKind.GROUP)


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """Whom a rule is for: ``cluster``, ``user``, ``user:NAME``, ``each:GROUP``, ``group:GROUP`` or ``gateway``."""

    kind: SubjectKind
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read the written form.

        Raises
        ------
        Invalid
            It is not one.
        """
        word, colon, name = text.partition(":")
        kinds = {kind.value: kind for kind in SubjectKind}
        if word not in kinds:
            forms = "cluster, user, user:NAME, each:GROUP, group:GROUP or gateway"
            raise Invalid(f"cannot tell for whom this limit is: write {forms}", field="subject")
        kind = kinds[word]
        may_be_named = kind in _NAMED or kind is SubjectKind.USER
        if (colon and not may_be_named) or (not colon and kind in _NAMED):
            rule = f"{word}:NAME" if kind in _NAMED else word
            raise Invalid(f"cannot tell for whom this limit is: write {rule}", field="subject")
        if colon and (not name or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable()):
            rule = f"1 to {LONGEST_NAME} printable characters, without blanks at either end"
            raise Invalid(f"cannot limit this {word}: a name is {rule}", field="subject")
        return cls(kind, name)

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value

    @property
    def words(self) -> str:
        """Whom it is for, in words."""
        match self.kind:
            case SubjectKind.CLUSTER:
                return "for one cluster"
            case SubjectKind.USER:
                return f"for {self.name}" if self.name else "for each user"
            case SubjectKind.EACH:
                which = "a group like" if is_pattern(self.name) else "the group"
                return f"for each member of {which} {self.name}"
            case SubjectKind.GROUP:
                which = "each group like" if is_pattern(self.name) else "the group"
                return f"for {which} {self.name} together"
            case SubjectKind.GATEWAY:
                return "for the whole gateway"


@dataclass(frozen=True, slots=True)
class Rule:
    """What an administrator said: so much of a resource for a subject.

    ``set_by`` and ``set_at`` tell who said it at run time, and when; of the configuration they are empty.
    """

    subject: Subject
    resource: Resource
    amount: float
    set_by: str = ""
    set_at: float | None = None

    @property
    def words(self) -> str:
        """What it says, in words."""
        return f"{self.resource.tell(self.amount)} {self.subject.words}"


# -- limits ----------------------------------------------------------------------------------------------------------


class ScopeKind(str, Enum):
    """Over which clusters is counted."""

    CLUSTER = "cluster"
    USER = "user"
    GROUP = "group"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """The clusters of a user, of all who were in a group when they made them, or all there are."""

    kind: ScopeKind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.name}" if self.name else self.kind.value


GATEWAY = Scope(ScopeKind.GATEWAY)
ONE_CLUSTER = Scope(ScopeKind.CLUSTER)


@dataclass(frozen=True, slots=True)
class Limit:
    """Within ``scope`` no more than ``amount`` of ``resource`` is given; ``source`` is whose rule says so."""

    scope: Scope
    resource: Resource
    amount: float
    source: Subject

    @property
    def place(self) -> str:
        """What is limited where: ``cores group:students``."""
        return f"{self.resource.value} {self.scope}"

    def tell(self, used: float | None = None) -> str:
        """Return it in words, with what is in use."""
        words = f"{self.resource.tell(self.amount)} {self.source.words}"
        if used is None:
            return words
        return f"{words}, of which {self.resource.number(used)} {'is' if used == 1 else 'are'} in use"


def scopes_of(owner: str, groups: Collection[str]) -> tuple[Scope, ...]:
    """Return within which scopes a cluster of ``owner`` is counted."""
    together = (Scope(ScopeKind.GROUP, group) for group in sorted(groups))
    return (Scope(ScopeKind.USER, owner), *together, GATEWAY)


class Rules:
    """The rules of the configuration, with those of the run time laid over them.

    Parameters
    ----------
    rules : iterable of Rule
        A later one takes the place of an earlier one for the same subject and resource.
    waits : bool
        Whether those for whom there is no room wait in line, instead of being refused.
    weights : mapping of str to float
        Of groups whose members count less (below 1) or more than others in the line.
    """

    def __init__(
        self, rules: Iterable[Rule] = (), *, waits: bool = False, weights: Mapping[str, float] | None = None
    ) -> None:
        self._rules = {(rule.subject, rule.resource): rule for rule in rules}
        self._of_groups: dict[tuple[SubjectKind, Resource], dict[str, Rule]] = {}
        for (subject, resource), rule in self._rules.items():
            if subject.kind in _NAMED:
                self._of_groups.setdefault((subject.kind, resource), {})[subject.name] = rule
        self.waits = waits
        self.weights = dict(weights or {})

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules.values())

    def overlaid(self, said: Iterable[Rule]) -> Rules:
        """Return these with others laid over them."""
        return Rules((*self._rules.values(), *said), waits=self.waits, weights=self.weights)

    def of_clusters(self) -> tuple[Limit, ...]:
        """Return what holds for each cluster by itself."""
        return tuple(_finite(self._limit(ONE_CLUSTER, r, Subject(SubjectKind.CLUSTER)) for r in Resource))

    def limits_of(self, owner: str, groups: Collection[str]) -> tuple[Limit, ...]:
        """Return what holds for the clusters of ``owner``, who is in these groups."""
        limits: list[Limit | None] = []
        for resource in Resource:
            limits.append(self._of_user(Scope(ScopeKind.USER, owner), resource, groups))
            for group in sorted(groups):
                subject = Subject(SubjectKind.GROUP, group)
                limits.append(self._limit_of_group(Scope(ScopeKind.GROUP, group), resource, subject))
            limits.append(self._limit(GATEWAY, resource, Subject(SubjectKind.GATEWAY)))
        return tuple(_finite(limits))

    def _of_user(self, scope: Scope, resource: Resource, groups: Collection[str]) -> Limit | None:
        each = [self._limit_of_group(scope, resource, Subject(SubjectKind.EACH, group)) for group in sorted(groups)]
        most_generous = max((limit for limit in each if limit), key=lambda limit: limit.amount, default=None)
        return (
            self._limit(scope, resource, Subject(SubjectKind.USER, scope.name))
            or most_generous
            or self._limit(scope, resource, Subject(SubjectKind.USER))
        )

    def _limit(self, scope: Scope, resource: Resource, subject: Subject) -> Limit | None:
        rule = self._rules.get((subject, resource))
        return None if rule is None else Limit(scope, resource, rule.amount, subject)

    def _limit_of_group(self, scope: Scope, resource: Resource, subject: Subject) -> Limit | None:
        """Return what is said of a group, by its name or by the first pattern that it is like."""
        said = self._of_groups.get((subject.kind, resource), {})
        name = nearest(subject.name, said)
        return None if name is None else Limit(scope, resource, said[name].amount, subject)


def _finite(limits: Iterable[Limit | None]) -> Iterable[Limit]:
    return (limit for limit in limits if limit is not None and limit.amount < math.inf)


# -- room ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ledger:
    """What counts when a cluster is to hold more.

    Parameters
    ----------
    limits : tuple of Limit
        Those that hold for it.
    others : mapping of Scope to Amounts
        What is held within each scope *besides* it.
    blocked : frozenset of str
        The limits (``Limit.place``) at which others wait: nothing more is given there, or they would wait for ever.
    line : int or None
        How many clusters of its owner wait besides it; None where nobody waits, but is refused.
    at : float
        The time, in seconds since the epoch.
    spent : str or None
        The budget, in words, that is spent for which it counts: nothing more is given then.
    fair : mapping of str to Capacity
        For groups whose load asks for more than their fair share of what is scarce, by name: that share, and why no
        more (``model/pressure.py``).
    """

    limits: tuple[Limit, ...] = ()
    others: Mapping[Scope, Amounts] = field(default_factory=dict)
    blocked: frozenset[str] = frozenset()
    line: int | None = None
    at: float = 0.0
    spent: str | None = None
    fair: Mapping[str, Capacity] = field(default_factory=dict)

    def besides(self, limit: Limit) -> float:
        """Return how much of a limit others use."""
        return self.others.get(limit.scope, NOTHING).of(limit.resource)

    def alone(self) -> Ledger:
        """Return how it would be if there were no others."""
        return Ledger(self.limits)


@dataclass(frozen=True, slots=True)
class Room:
    """How many workers a group may have, ``math.inf`` for any number; ``limit`` is what allows no more."""

    workers: float
    limit: Limit | None = None


def exceeded(ledger: Ledger, held: Amounts) -> Limit | None:
    """Return the first limit at which there is no room for a new cluster with this holding, or None."""
    for limit in ledger.limits:
        more = held.of(limit.resource)
        if ledger.besides(limit) + more > limit.amount + ROUNDING or (more > 0 and limit.place in ledger.blocked):
            return limit
    return None


def room(ledger: Ledger, cluster: Cluster, group: str) -> Room:
    """Return how many workers the limits leave to a group of a cluster."""
    shape = worker_shape(cluster.spec)
    held = group_holdings(cluster).get(group, 0)
    widest = Room(math.inf)
    whole = holding_of(cluster)
    for limit in ledger.limits:
        each = shape.of(limit.resource)
        if each <= 0:
            continue
        rest = whole.of(limit.resource) - held * each
        free = limit.amount - ledger.besides(limit) - rest
        fits = max(0, math.floor((free + ROUNDING) / each))
        if limit.place in ledger.blocked:
            fits = min(fits, held)
        if fits < widest.workers:
            widest = Room(fits, limit)
    return widest
