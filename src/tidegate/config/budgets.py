"""The settings below ``budgets``: how much a user or a group may use within a window of days."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tidegate.config.limits import Name
from tidegate.model.budgets import Budget, Budgets, Measure
from tidegate.model.limits import Subject, SubjectKind
from tidegate.settings import Duration, Section, Unit

Hours = Annotated[float, Field(ge=0, allow_inf_nan=False), Unit("hours")]


class BudgetAmounts(Section):
    """How much may be used within the window. What is not said is not bounded."""

    core_hours: Hours | None = None
    """Cores times the hours in which they run."""
    gib_hours: Hours | None = None
    """GiB of memory times hours."""
    gpu_hours: Hours | None = None
    """GPUs times hours."""
    cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """What that costs, in the currency of ``prices``."""


class GroupBudgets(Section):
    """What the members of a group may use."""

    each: BudgetAmounts = BudgetAmounts()
    """Each member, in place of ``budgets.user`` for what is named here. Of several groups the most generous holds."""
    together: BudgetAmounts = BudgetAmounts()
    """All members together. A cluster counts for every group that its owner was in when they made it."""


class BudgetSettings(Section):
    """How much may be used within a window of days. When it is spent, those who count for it get no new cluster and no
    new worker, and what runs ends after a grace time."""

    days: Annotated[int, Field(ge=1, le=366), Unit("days")] = 30
    """The window, today among them: what was used before it no longer counts."""
    grace: Annotated[Duration, Field(ge=0, allow_inf_nan=False)] = 3600
    """How long what runs goes on when the budget is spent; that it ends then is announced at once."""
    user: BudgetAmounts = BudgetAmounts()
    """What each user may use."""
    users: dict[Name, BudgetAmounts] = Field(default_factory=dict)
    """The same for some users by name, in place of ``budgets.user`` and of what their groups allow each member."""
    groups: dict[Name, GroupBudgets] = Field(default_factory=dict)
    """What the members of some groups may use, by the group's name or a pattern such as ``project-*``, which stands
    for each group that is like it, each by itself."""

    def budgets(self, currency: str) -> Budgets:
        """Return these as budgets."""
        said = [(Subject(SubjectKind.USER), self.user)]
        said += [(Subject(SubjectKind.USER, name), amounts) for name, amounts in self.users.items()]
        said += [(Subject(SubjectKind.EACH, name), both.each) for name, both in self.groups.items()]
        said += [(Subject(SubjectKind.GROUP, name), both.together) for name, both in self.groups.items()]
        found = [
            Budget(subject, measure, amount, self.days, currency)
            for subject, amounts in said
            for measure in Measure
            if (amount := getattr(amounts, measure.value)) is not None
        ]
        return Budgets(found, days=self.days, grace=self.grace)
