"""What the agent in each scheduler says and asks (``wire/agent.py``), over the public port like everyone else.

That it is the agent of the cluster that it names has been checked by the rule of these routes.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.requests import Request

from tidegate.api.services import services_of
from tidegate.model.report import Wanted
from tidegate.wire.agent import HOLD_SECONDS, ReportBody, WantedBody


async def report(request: Request, name: str, body: ReportBody) -> WantedBody:
    """Take what an agent reports, and tell it the whole wanted state."""
    return await _tell(request, name, await services_of(request).agents.report(name, body.to_model()))


async def wanted(
    request: Request,
    name: str,
    attempt: Annotated[int, Query(ge=1, le=2**31)],
    have: Annotated[str, Query(max_length=64)] = "",
) -> WantedBody:
    """Tell the wanted state as soon as it differs from what the agent has, or when the time is up."""
    return await _tell(request, name, await services_of(request).agents.wanted(name, attempt, have, HOLD_SECONDS))


async def _tell(request: Request, name: str, state: Wanted) -> WantedBody:
    return WantedBody.from_model(state, await services_of(request).agents.revocations(name, state))
