"""The page of the audit log, for administrators. To anybody else it is not there."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.console.forms import read_count
from tidegate.console.render import page
from tidegate.console.views import Moment, view_moment
from tidegate.model.audit import LONGEST, Deed, Entry, Outcome, Wanted
from tidegate.model.errors import Invalid

SHOWN = 100
"""Entries on a page."""

_TONES = {Outcome.DONE: "good", Outcome.REFUSED: "bad", Outcome.FAILED: "idle"}

Word = TypeVar("Word", bound=Enum)


@dataclass(frozen=True, slots=True)
class EntryView:
    """An entry as the page shows it.

    Parameters
    ----------
    who : str
        Who it was, with the administrator who acted on their behalf.
    proved : bool
        Whether they have proved it; else it is only what they said.
    outcome, tone : str
        What came of it, in words, and which colour that has.
    """

    at: Moment
    who: str
    proved: bool
    action: str
    cluster: str
    detail: str
    outcome: str
    tone: str
    address: str
    times: int


async def show_audit(request: Request) -> Response:
    """Show the audit log, newest first."""
    services, asked = services_of(request), request.query_params
    user, cluster = (asked.get(key, "").strip()[:LONGEST] for key in ("user", "cluster"))
    action, outcome = _chosen(Deed, asked.get("action", "")), _chosen(Outcome, asked.get("outcome", ""))
    before = read_count(asked.get("before", ""))
    found = await services.audit.find(
        caller(request),
        Wanted(user, cluster, action, outcome),
        before=before if isinstance(before, int) else None,
        limit=SHOWN + 1,
    )
    now = services.clock()
    chosen = {"user": user, "cluster": cluster, "action": action or "", "outcome": outcome or ""}
    older = {**chosen, "before": found[SHOWN - 1].id} if len(found) > SHOWN else None
    return page(
        request,
        "audit.html",
        entries=[view_entry(recorded.entry, now) for recorded in found[:SHOWN]],
        chosen={key: _word(value) for key, value in chosen.items()},
        actions=[deed.value for deed in Deed],
        outcomes=[outcome.value for outcome in Outcome],
        older=urlencode({key: _word(value) for key, value in older.items()}) if older else "",
    )


def view_entry(entry: Entry, now: float) -> EntryView:
    """Return an entry as the page shows it."""
    who = f"{entry.actor}, on behalf of {entry.principal}" if entry.actor else entry.principal
    return EntryView(
        at=view_moment(entry.at, now),
        who=who,
        proved=bool(entry.method) or not who,
        action=entry.deed.value,
        cluster=entry.cluster,
        detail=entry.detail,
        outcome=f"{entry.outcome.value}: {entry.code}" if entry.code else entry.outcome.value,
        tone=_TONES[entry.outcome],
        address=entry.address,
        times=entry.times,
    )


def _chosen(words: type[Word], text: str) -> Word | None:
    if not text:
        return None
    try:
        return words(text)
    except ValueError:
        raise Invalid(f"cannot look for {text[:40]!r} in the audit log: there is no such word") from None


def _word(value: object) -> str:
    return str(value.value if isinstance(value, Enum) else value)
