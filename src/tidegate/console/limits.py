"""The page of limits: how much one may hold, and how much one does; administrators see everybody's, and set them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.console.render import page
from tidegate.console.views import Moment, view_moment
from tidegate.control.limits import Holding, Standing
from tidegate.model.amounts import Resource
from tidegate.model.errors import Invalid
from tidegate.model.principal import Scope as Credential
from tidegate.model.share import LONGEST_NAME

LONGEST_SUBJECT = LONGEST_NAME + 10
"""Characters of ``each:`` and a name."""
SHOWN = 200
"""Lines of the table of everybody: who has more users asks for one of them."""


@dataclass(frozen=True, slots=True)
class StandingView:
    """How much is in use, and how much may be, in words; ``share`` is the part of the limit that is in use."""

    scope: str
    resource: str
    used: str
    limit: str
    source: str
    share: float | None


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule: what, for whom, and who said so."""

    subject: str
    resource: str
    words: str
    set_by: str
    set_at: Moment | None
    configured: str


async def show_limits(request: Request) -> Response:
    """Show how much one may hold, and how much one does."""
    return await _limits_page(request)


async def set_limit(request: Request) -> Response:
    """Set a limit; for administrators."""
    form = await _read(request)
    facts_of(request).detail = f"{form['resource']} for {form['subject']}: {form['amount']}"
    try:
        await services_of(request).limits.set(
            caller(request), form["subject"], form["resource"], _number(form["amount"])
        )
    except Invalid as error:
        return await _limits_page(request, error=error.message, given=form)
    return _back(request)


async def unset_limit(request: Request) -> Response:
    """Take a limit away that was set at run time; for administrators."""
    form = await _read(request)
    facts_of(request).detail = f"{form['resource']} for {form['subject']}"
    await services_of(request).limits.unset(caller(request), form["subject"], form["resource"])
    return _back(request)


async def _read(request: Request) -> dict[str, str]:
    form = await request.form()
    return {key: str(form.get(key, "")).strip()[:LONGEST_SUBJECT] for key in ("subject", "resource", "amount")}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _back(request: Request) -> Response:
    return RedirectResponse(f"{address_of(request).prefix}/limits", 303)


async def _limits_page(request: Request, *, error: str | None = None, given: dict[str, str] | None = None) -> Response:
    services, principal, asked = services_of(request), caller(request), request.query_params
    user = asked.get("user", "").strip()[:LONGEST_NAME] if principal.admin else ""
    everybody = principal.admin and not user and asked.get("of") == "all"
    standings = await (
        services.limits.of_everybody(principal) if everybody else services.limits.of_user(principal, user or None)
    )
    now = services.clock()
    shown: dict[str, Any] = {
        "whose": "all" if everybody else "mine",
        "user": user,
        "standings": [view_standing(standing) for standing in standings[:SHOWN]],
        "more": max(0, len(standings) - SHOWN),
        "rules": [view_rule(holding, now) for holding in await _rules(request)],
        "can_set": principal.admin and principal.scope is Credential.FULL,
        "resources": [resource.value for resource in Resource],
        "given": given or dict.fromkeys(("subject", "resource", "amount"), ""),
        "error": error,
    }
    return page(request, "limits.html", status=422 if error else 200, **shown)


async def _rules(request: Request) -> Sequence[Holding]:
    principal = caller(request)
    return await services_of(request).limits.rules(principal) if principal.admin else []


def view_standing(standing: Standing) -> StandingView:
    """Return a line of the table."""
    limit, resource = standing.limit, standing.resource
    share = None if limit is None else min(1.0, standing.used / limit.amount) if limit.amount else 1.0
    return StandingView(
        scope=str(standing.scope),
        resource=resource.value,
        used=resource.number(standing.used),
        limit="" if limit is None else resource.number(limit.amount),
        source="" if limit is None else limit.source.words,
        share=share,
    )


def view_rule(holding: Holding, now: float) -> RuleView:
    """Return a line of the table of rules."""
    rule, configured = holding.rule, holding.configured
    return RuleView(
        subject=str(rule.subject),
        resource=rule.resource.value,
        words=rule.words,
        set_by=rule.set_by,
        set_at=None if rule.set_at is None else view_moment(rule.set_at, now),
        configured="" if configured is None else rule.resource.number(configured),
    )
