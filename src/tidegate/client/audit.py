"""The audit log of a gateway, for administrators."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from tidegate.client.errors import GatewayAuthError, GatewayValueError
from tidegate.client.gateway import Gateway

AUDIT = "/api/v2/audit"

PAGE = 500
"""Entries that are asked for at a time."""

FOLLOW_SECONDS = 2.0
"""Between two questions for what is new."""


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to which cluster, from where, and what came of it.

    Parameters
    ----------
    id : int
    at : datetime
    action : str
        Such as ``cluster.create``.
    outcome : str
        ``done``, ``refused`` or ``failed``.
    code : str
        Of the error, where it was not done.
    user : str
        Who it was. Where ``method`` is empty, it is the name that was given, and nobody has proved it.
    actor : str
        The administrator who acted on behalf of the user.
    method, token : str
        How they proved who they are, and the id of the personal token that it goes back to.
    cluster, detail : str
        What it was done to, and what it was about besides.
    address : str
        The client's address.
    times : int
        How often, within a minute.
    """

    id: int
    at: datetime
    action: str
    outcome: str
    code: str
    user: str
    actor: str
    method: str
    token: str
    cluster: str
    detail: str
    address: str
    times: int

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> AuditEntry:
        """Return the entry that the gateway tells of."""
        known = {field.name: body[field.name] for field in fields(cls)}
        return cls(**{**known, "at": datetime.fromtimestamp(body["at"])})


def list_audit(gateway: Gateway, limit: int, **wanted: Any) -> list[AuditEntry]:
    """Return the newest entries that fit, oldest first.

    Parameters
    ----------
    gateway : Gateway
        Says who asks.
    limit : int
        How many at the most.
    **wanted
        ``user``, ``cluster``, ``action``, ``outcome``, ``since`` (seconds since the epoch).
    """
    found: list[AuditEntry] = []
    before: int | None = None
    while len(found) < limit:
        body = _ask(gateway, limit=min(PAGE, limit - len(found)), before=before, **wanted)
        found += map(AuditEntry.from_json, body["entries"])
        before = body["next_before"]
        if before is None:
            break
    return found[::-1]


def follow_audit(gateway: Gateway, after: int, **wanted: Any) -> Iterator[AuditEntry]:
    """Yield the entries that come after the one of that number, for ever."""
    while True:
        entries = _ask(gateway, limit=PAGE, after=after, **wanted)["entries"]
        for entry in entries:
            after = entry["id"]
            yield AuditEntry.from_json(entry)
        if len(entries) < PAGE:
            time.sleep(FOLLOW_SECONDS)


def _ask(gateway: Gateway, **query: Any) -> dict[str, Any]:
    params = {key: str(value) for key, value in query.items() if value is not None}
    try:
        body: dict[str, Any] = gateway.sync(gateway._http.request, "GET", AUDIT, params=params)
    except GatewayValueError as error:
        if error.code != "not-found":
            raise
        raise GatewayAuthError(
            f"cannot read the audit log of {gateway.address}: that is for its administrators"
        ) from None
    return body
