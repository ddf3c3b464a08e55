"""The statements of the audit log, and its rows: as in ``queries.py`` and ``rows.py``, which are about all else.

The log is only added to, and cut at its old end. Its rows refer to nothing, so whatever is deleted elsewhere leaves it
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, or_, select

from tidegate.model.audit import Deed, Entry, Outcome, RecordedEntry, Wanted
from tidegate.store.tables import audit

LARGEST_ID = 2**63 - 1
"""What a column holds."""


def insert_audit(connection: Connection, entries: Sequence[Entry]) -> None:
    """Append entries, in order."""
    connection.execute(insert(audit), [_values(entry) for entry in entries])


def select_audit(
    connection: Connection, wanted: Wanted, before: int | None, after: int | None, limit: int
) -> list[RecordedEntry]:
    """Return a page of entries: newest first; or with ``after`` those with larger numbers, oldest first."""
    c = audit.c
    query = _matching(wanted).order_by(c.id.desc() if after is None else c.id).limit(limit)
    if before is not None:
        query = query.where(c.id < min(before, LARGEST_ID))
    if after is not None:
        query = query.where(c.id > min(after, LARGEST_ID))
    return [_to_entry(row) for row in connection.execute(query)]


def _matching(wanted: Wanted) -> Select[Any]:
    c = audit.c
    query = select(audit)
    if wanted.user:
        query = query.where(or_(c.principal == wanted.user, c.actor == wanted.user))
    if wanted.cluster:
        query = query.where(c.cluster == wanted.cluster)
    if wanted.deed is not None:
        query = query.where(c.deed == wanted.deed.value)
    if wanted.outcome is not None:
        query = query.where(c.outcome == wanted.outcome.value)
    if wanted.since is not None:
        query = query.where(c.at >= wanted.since)
    return query


def prune_audit(connection: Connection, before: float, limit: int) -> int:
    """Delete the oldest entries from before that time, at most ``limit``; return how many."""
    c = audit.c
    oldest = select(c.id).where(c.at < before).order_by(c.at).limit(limit)
    return connection.execute(delete(audit).where(c.id.in_(oldest))).rowcount


_FIELDS = tuple(field.name for field in fields(Entry))


def _values(entry: Entry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in _FIELDS}
    return values | {"deed": entry.deed.value, "outcome": entry.outcome.value}


def _to_entry(row: Row[Any]) -> RecordedEntry:
    values = {name: getattr(row, name) for name in _FIELDS}
    values |= {"deed": Deed(row.deed), "outcome": Outcome(row.outcome)}
    return RecordedEntry(row.id, Entry(**values))
