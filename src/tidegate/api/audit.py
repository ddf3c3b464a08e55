"""The audit log, for administrators. To anybody else it is not there."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.requests import Request

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.model.audit import LONGEST, Deed, Outcome, Wanted
from tidegate.wire.v2_audit import AuditEntryBody, AuditList

PAGE_LIMIT = 1000
"""Entries on a page, about 300 kB of JSON."""

LARGEST_ID = 2**63 - 1

Text = Annotated[str, Query(max_length=LONGEST)]
Number = Annotated[int | None, Query(ge=0, le=LARGEST_ID)]


async def list_audit(
    request: Request,
    user: Annotated[Text, Query(description="Who did it, or on whose behalf it was done.")] = "",
    cluster: Text = "",
    action: Deed | None = None,
    outcome: Outcome | None = None,
    since: Annotated[
        float | None, Query(allow_inf_nan=False, description="Not older than that, in seconds since the epoch.")
    ] = None,
    before: Annotated[Number, Query(description="Only entries with a smaller number: the page's next_before.")] = None,
    after: Annotated[Number, Query(description="Only entries with a larger number, oldest first.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Entries on a page.")] = 100,
) -> AuditList:
    """Read the audit log, newest first; with ``after`` follow it. For administrators."""
    wanted = Wanted(user, cluster, action, outcome, since)
    found = await services_of(request).audit.find(caller(request), wanted, before=before, after=after, limit=limit + 1)
    page = found[:limit]
    more = len(found) > limit and after is None
    return AuditList(
        entries=[AuditEntryBody.from_model(recorded) for recorded in page], next_before=page[-1].id if more else None
    )
