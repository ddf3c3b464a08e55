"""Budgets: how much a user or a group may use within a window of days, and what happens when that is spent.

A limit bounds what is held at a time, a budget what is used over time; both are said for the same subjects, and for a
user the same word is the nearest: their own, else their groups' for each member (the most generous), else everyone's.
Groups may be meant by patterns here too: what is said of ``project-*`` each such group has by itself.
The window rolls: it is so many days, today among them, and what was used before it no longer counts.

When a budget is spent, nothing new is given to those who count for it: no cluster, no worker. What runs is announced to
end, and ends after a grace time, unless enough has rolled out of the window by then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tidegate.model.limits import Scope, ScopeKind, Subject, SubjectKind
from tidegate.model.patterns import nearest
from tidegate.model.usage import HOUR_SECONDS, NOTHING, Use


class Measure(str, Enum):
    """What a budget is of."""

    CORE_HOURS = "core_hours"
    GIB_HOURS = "gib_hours"
    GPU_HOURS = "gpu_hours"
    COST = "cost"

    def of(self, use: Use) -> float:
        """Return how much of it was used."""
        match self:
            case Measure.CORE_HOURS:
                return use.core_seconds / HOUR_SECONDS
            case Measure.GIB_HOURS:
                return use.gib_seconds / HOUR_SECONDS
            case Measure.GPU_HOURS:
                return use.gpu_seconds / HOUR_SECONDS
            case Measure.COST:
                return use.cost


_UNITS = {Measure.CORE_HOURS: "core-hours", Measure.GIB_HOURS: "GiB-hours", Measure.GPU_HOURS: "GPU-hours"}


@dataclass(frozen=True, slots=True)
class Budget:
    """What an administrator said: for a subject so much of a measure, within a window of days."""

    subject: Subject
    measure: Measure
    amount: float
    days: int
    currency: str = ""

    @property
    def words(self) -> str:
        """It in words.

        >>> Budget(Subject(SubjectKind.GROUP, "ice"), Measure.CORE_HOURS, 500, 30).words
        '500 core-hours in 30 days for the group ice together'
        """
        unit = _UNITS.get(self.measure) or self.currency
        amount = f"{self.amount:,.10g} {unit}" if unit else f"a cost of {self.amount:,.10g}"
        window = f"{self.days} day{'' if self.days == 1 else 's'}"
        return f"{amount} in {window} {self.subject.words}"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a budget stands: what is used of it within a scope."""

    budget: Budget
    scope: Scope
    used: float

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of it."""
        return self.used >= self.budget.amount

    @property
    def words(self) -> str:
        """It in words, with what is used."""
        return f"{self.budget.words}, of which {self.used:,.1f} are used"

    def left_again(self, by_day: Mapping[int, Use], today: int) -> int | None:
        """Return the day on which some of a spent one is left again, if nothing more is used; None for never.

        ``by_day`` is what was used on the days before this one; what else there is was used today.
        """
        used, days = self.used, self.budget.days
        if self.budget.amount <= 0:
            return None
        for day in range(today - days + 1, today):
            used -= self.budget.measure.of(by_day.get(day, NOTHING))
            if used < self.budget.amount:
                return day + days
        return today + days


class Budgets:
    """All budgets of a gateway.

    Parameters
    ----------
    budgets : sequence of Budget
    days : int
        The window.
    grace : float
        Seconds between the moment when one is spent and the end of what runs.
    """

    def __init__(self, budgets: Sequence[Budget] = (), *, days: int = 30, grace: float = 3600.0) -> None:
        self._budgets = {(budget.subject, budget.measure): budget for budget in budgets}
        self._measures = [measure for measure in Measure if any(budget.measure is measure for budget in budgets)]
        self.days = days
        self.grace = grace

    def __bool__(self) -> bool:
        return bool(self._budgets)

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._budgets.values())

    def standings(self, owner: str, groups: Collection[str], used: Mapping[Scope, Use]) -> list[Standing]:
        """Return how the budgets stand for which the clusters of ``owner``, who is in these groups, count."""
        found = []
        for measure in self._measures:
            for scope, tiers in _tiers(owner, groups):
                budget = next(filter(None, (self._widest(tier, measure) for tier in tiers)), None)
                if budget is not None:
                    found.append(Standing(budget, scope, measure.of(used.get(scope, NOTHING))))
        return found

    def _widest(self, subjects: Collection[Subject], measure: Measure) -> Budget | None:
        said = [b for subject in subjects if (b := self._of(subject, measure)) is not None]
        return max(said, key=lambda budget: budget.amount, default=None)

    def _of(self, subject: Subject, measure: Measure) -> Budget | None:
        """Return what is said of a subject; of a group by its name, or by the first pattern that it is like."""
        said = {s.name: b for (s, m), b in self._budgets.items() if s.kind is subject.kind and m is measure}
        name = nearest(subject.name, said) if subject.kind is not SubjectKind.USER else subject.name
        budget = said.get(name) if name is not None else None
        return None if budget is None else replace(budget, subject=subject)

    def spent(self, owner: str, groups: Collection[str], used: Mapping[Scope, Use]) -> Standing | None:
        """Return the budget that is spent by the most, or None."""
        over = [one for one in self.standings(owner, groups, used) if one.is_spent]
        return max(over, key=lambda one: one.used - one.budget.amount, default=None)

    def may_be_spent(self, scope: Scope, use: Use) -> bool:
        """Whether some budget is spent with this use, for somebody whose clusters count there."""
        kinds = (SubjectKind.USER, SubjectKind.EACH) if scope.kind is ScopeKind.USER else (SubjectKind.GROUP,)
        return any(b.subject.kind in kinds and b.measure.of(use) >= b.amount for b in self._budgets.values())


def _tiers(owner: str, groups: Collection[str]) -> Iterator[tuple[Scope, list[list[Subject]]]]:
    """Yield the scopes in which a cluster counts, each with the subjects whose word holds there: the nearest first."""
    each = [Subject(SubjectKind.EACH, group) for group in sorted(groups)]
    yield Scope(ScopeKind.USER, owner), [[Subject(SubjectKind.USER, owner)], each, [Subject(SubjectKind.USER)]]
    for group in sorted(groups):
        yield Scope(ScopeKind.GROUP, group), [[Subject(SubjectKind.GROUP, group)]]
