"""The audit log, in our own protocol (see ``v2.py`` for its conventions)."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from tidegate.model.audit import Deed, Outcome, RecordedEntry


class AuditEntryBody(BaseModel):
    """Who did what to which cluster, from where, and what came of it."""

    id: int
    at: float
    action: Deed
    outcome: Outcome
    code: str = Field(description="Of the error, where it was not done.")
    user: str = Field(description="Who it was; where method is empty, the name that was given and not proved.")
    actor: str = Field(description="The administrator who acted on behalf of the user.")
    method: str = Field(description="How they proved who they are.")
    token: str = Field(description="The personal token that it goes back to, by its id.")
    cluster: str
    detail: str = Field(description="What it was about besides, in words.")
    address: str = Field(description="The client's address.")
    times: int = Field(description="How often, within a minute.")

    @classmethod
    def from_model(cls, recorded: RecordedEntry) -> Self:
        """Return the JSON form of an entry."""
        entry = recorded.entry
        return cls(
            id=recorded.id,
            at=entry.at,
            action=entry.deed,
            outcome=entry.outcome,
            code=entry.code,
            user=entry.principal,
            actor=entry.actor,
            method=entry.method,
            token=entry.token,
            cluster=entry.cluster,
            detail=entry.detail,
            address=entry.address,
            times=entry.times,
        )


class AuditList(BaseModel):
    """Entries of the audit log, newest first; with ``after`` oldest first."""

    entries: list[AuditEntryBody]
    next_before: int | None = Field(description="What to ask for as before, to see older ones; null if there are none.")
