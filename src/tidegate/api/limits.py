"""Limits: how much one may hold, and how much one does; administrators set them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.control.catalogue import Whose
from tidegate.control.limits import Standing
from tidegate.model.amounts import Resource
from tidegate.model.share import LONGEST_NAME
from tidegate.wire.v2_limits import LimitBody, Limits, NewLimit, RuleBody, Rules

SubjectPath = Annotated[
    str,
    Path(
        max_length=600,
        description="For whom, percent-encoded: cluster, user, user:NAME, each:GROUP, group:GROUP or gateway.",
    ),
]
ResourcePath = Annotated[str, Path(max_length=50, description=", ".join(resource.value for resource in Resource))]


async def list_limits(
    request: Request,
    user: Annotated[
        str | None, Query(max_length=LONGEST_NAME, description="Whose; others' are for administrators.")
    ] = None,
    of: Annotated[Whose, Query(description="mine, or all: for administrators everybody's who has a cluster.")] = (
        Whose.MINE
    ),
) -> Limits:
    """Read how much you may hold, and how much you do."""
    limits, principal = services_of(request).limits, caller(request)
    everybody = of is Whose.ALL and user is None
    found = await (limits.of_everybody(principal) if everybody else limits.of_user(principal, user))
    return Limits(limits=[_body(standing) for standing in found])


def _body(standing: Standing) -> LimitBody:
    return LimitBody.from_model(standing.scope, standing.resource, standing.used, standing.limit)


async def list_rules(request: Request) -> Rules:
    """Read every rule, of the configuration and of the run time. For administrators."""
    found = await services_of(request).limits.rules(caller(request))
    return Rules(rules=[RuleBody.from_model(holding.rule, holding.configured) for holding in found])


async def set_limit(request: Request, resource: ResourcePath, subject: SubjectPath, body: NewLimit) -> RuleBody:
    """Set a limit from now on. What is held stays held. For administrators."""
    facts_of(request).detail = f"{resource} for {subject}: {body.amount}"
    return RuleBody.from_model(await services_of(request).limits.set(caller(request), subject, resource, body.amount))


async def unset_limit(request: Request, resource: ResourcePath, subject: SubjectPath) -> Response:
    """Take a limit away that was set at run time; what the configuration says holds again. For administrators."""
    facts_of(request).detail = f"{resource} for {subject}"
    await services_of(request).limits.unset(caller(request), subject, resource)
    return Response(status_code=204)
