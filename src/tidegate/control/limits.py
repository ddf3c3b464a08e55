"""What can be asked about limits: what holds for oneself and how much of it is in use; for administrators everything.

An administrator sets limits at run time; they lie over those of the configuration, count from the moment in which they
are on record, and last until they are taken away. Setting one takes nothing away from anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from tidegate.control.records import Records
from tidegate.model.amounts import Amounts, Resource, parse_amount
from tidegate.model.budgets import Measure
from tidegate.model.errors import Invalid, NotAllowed
from tidegate.model.limits import GATEWAY, Limit, Rule, Rules, Scope, ScopeKind, Subject, SubjectKind
from tidegate.model.principal import Principal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """How much of a resource is in use within a scope, and the limit of it, if there is one."""

    scope: Scope
    resource: Resource
    used: float
    limit: Limit | None


@dataclass(frozen=True, slots=True)
class Holding:
    """A rule that holds, and what the configuration says where that is something else.

    ``configured`` is None where the configuration says nothing, or where the rule is its own.
    """

    rule: Rule
    configured: float | None = None

    @property
    def at_run_time(self) -> bool:
        """Whether it was set at run time."""
        return self.rule.set_at is not None


class Limits:
    """The limits, as users and administrators see them.

    Parameters
    ----------
    records : Records
        With the rules of the configuration, and the store.
    clock : callable
        Returns the time, in seconds since the epoch.
    groups_of : callable
        Returns the groups that the configuration gives a user.
    """

    def __init__(
        self,
        records: Records,
        clock: Callable[[], float],
        groups_of: Callable[[str], Collection[str]] = lambda user: (),
    ) -> None:
        self._store = records.store
        self._declared = records.rules
        self._clock = clock
        self._groups_of = groups_of

    async def of_user(self, principal: Principal, user: str | None = None) -> list[Standing]:
        """Return what holds for a user, by default for ``principal``, and how much of it is in use.

        Of another user those groups count that the configuration gives them, or that their clusters count for: nobody
        else knows their groups until they come.

        Raises
        ------
        NotAllowed
            It is somebody else, and ``principal`` does not administer this gateway.
        """
        if user is None or user == principal.name:
            return await self._standings(await self._rules(), {principal.name: principal.groups})
        _check(principal, f"read the limits of {user}")
        groups = {*self._groups_of(user), *(await self._store.groups_of_owners()).get(user, ())}
        return await self._standings(await self._rules(), {user: groups})

    async def of_everybody(self, principal: Principal) -> list[Standing]:
        """Return what holds for everybody who has a cluster, and how much of it is in use.

        Raises
        ------
        NotAllowed
            ``principal`` does not administer this gateway.
        """
        _check(principal, "read the limits of others")
        groups = await self._store.groups_of_owners()
        return await self._standings(await self._rules(), {user: groups[user] for user in sorted(groups)})

    async def _standings(self, rules: Rules, users: dict[str, Collection[str]]) -> list[Standing]:
        found = (limit for user, groups in users.items() for limit in rules.limits_of(user, groups))
        limits = {(limit.scope, limit.resource): limit for limit in found}
        mine = [Scope(ScopeKind.USER, user) for user in users]
        shared = sorted({scope for scope, _ in limits if scope.kind is ScopeKind.GROUP})
        held = await self._store.held([*mine, *shared, GATEWAY])
        standings = [standing for scope in mine for standing in _of_scope(scope, held[scope], limits, every=True)]
        for scope in (*shared, GATEWAY):
            standings += _of_scope(scope, held[scope], limits, every=False)
        return standings

    async def rules(self, principal: Principal) -> list[Holding]:
        """Return every rule that holds: those of the configuration, and those of the run time in their place.

        Raises
        ------
        NotAllowed
            ``principal`` does not administer this gateway.
        """
        _check(principal, "read the limits of others")
        configured = {(rule.subject, rule.resource): rule.amount for rule in self._declared}
        found = []
        for rule in await self._rules():
            told = configured.get((rule.subject, rule.resource)) if rule.set_at is not None else None
            found.append(Holding(rule, told))
        order = {kind: place for place, kind in enumerate(SubjectKind)}
        return sorted(found, key=lambda h: (order[h.rule.subject.kind], h.rule.subject.name))

    async def set(self, principal: Principal, subject: str, resource: str, amount: Any) -> Rule:
        """Set a limit from now on, in the place of what the configuration says.

        Raises
        ------
        NotAllowed
            ``principal`` does not administer this gateway.
        Invalid
            There is no such subject or resource, or that is no amount.
        """
        _check(principal, "set a limit")
        whom, what = Subject.parse(subject), parse_resource(resource)
        if whom.kind is SubjectKind.CLUSTER and what is Resource.CLUSTERS:
            raise Invalid("cannot limit the clusters of one cluster: it is one", field="resource")
        rule = Rule(whom, what, parse_amount(what, amount), principal.who, self._clock())
        await self._store.set_rule(rule)
        log.info("%s set a limit: %s %s", principal.who, what.tell(rule.amount), whom.words)
        return rule

    async def unset(self, principal: Principal, subject: str, resource: str) -> None:
        """Take a limit away that was set at run time, if there is one; what the configuration says holds again.

        Raises
        ------
        NotAllowed
            ``principal`` does not administer this gateway.
        """
        _check(principal, "take a limit away")
        whom, what = Subject.parse(subject), parse_resource(resource)
        if await self._store.unset_rule(whom, what):
            log.info("%s took a limit away: %s %s", principal.who, what.value, whom.words)

    async def _rules(self) -> Rules:
        return self._declared.overlaid(await self._store.rules())


def _of_scope(
    scope: Scope, held: Amounts, limits: dict[tuple[Scope, Resource], Limit], *, every: bool
) -> Iterable[Standing]:
    """Return what is held within a scope of each resource, or of those that are limited."""
    for resource in Resource:
        limit = limits.get((scope, resource))
        if limit is not None or every:
            yield Standing(scope, resource, held.of(resource), limit)


def parse_resource(text: str) -> Resource:
    """Return the resource of that name.

    Raises
    ------
    Invalid
        There is none.
    """
    try:
        return Resource(text)
    except ValueError:
        known = ", ".join(resource.value for resource in Resource)
        why = f"choose among {known}"
        if text in {measure.value for measure in Measure}:
            why = "how much may be used over time is a budget, and budgets are set in the configuration alone"
        raise Invalid(f"cannot limit {text[:40]!r}: {why}", field="resource") from None


def _check(principal: Principal, deed: str) -> None:
    if not principal.admin:
        raise NotAllowed(f"cannot {deed}: only an administrator of this gateway may")
