"""The pages: my clusters, one cluster, and what is shown when something goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.events import seconds_for
from tidegate.api.services import services_of
from tidegate.console import live
from tidegate.console.forms import option_fields
from tidegate.console.render import page, render
from tidegate.console.views import MadeLink, view_cluster, view_events, view_links
from tidegate.control.catalogue import Whose
from tidegate.control.shares import SharingRules
from tidegate.model.cluster import Cluster, ClusterState
from tidegate.model.errors import NotAllowed, NotVisible, TidegateError
from tidegate.model.options import OptionSet
from tidegate.model.permissions import Action, shared_rights, usable_rights
from tidegate.model.principal import Principal

ACTIVE = frozenset(state for state in ClusterState if not state.ended)
ENDED = frozenset(state for state in ClusterState if state.ended)

ACTIVE_SHOWN = 200
"""How many active clusters are listed. An administrator's list of everybody's has more, and is sent anew each time that
one of them changes; one looks for somebody's there, by the owner's name."""

ENDED_SHOWN = 10
"""How many clusters that have ended are listed: what one looks for is the last one that failed."""

EVENTS_SHOWN = 50

LOG_LINES = 200

HOUR = 3600
LIFETIMES = {
    HOUR: "1 hour",
    8 * HOUR: "8 hours",
    24 * HOUR: "1 day",
    7 * 24 * HOUR: "7 days",
    30 * 24 * HOUR: "30 days",
}
"""How long a link to a dashboard can be good, in seconds; as far as the administrator allows."""

_TABS = {Whose.MINE: "Mine", Whose.SHARED: "Shared with me", Whose.ALL: "All"}
_TITLES = {Whose.MINE: "My clusters", Whose.SHARED: "Shared with me", Whose.ALL: "All clusters"}


async def show_home(request: Request) -> Response:
    """Show clusters: the caller's, or those that ``?of=`` and ``?owner=`` ask for."""
    return await home(request)


async def home(
    request: Request, *, error: TidegateError | None = None, given: Mapping[str, str] | None = None
) -> Response:
    """Return the first page; with ``error``, the form for a new cluster says what was wrong with ``given``."""
    services = services_of(request)
    whose, owner = _asked(request)
    return page(
        request,
        "home.html",
        status=error.status if error else 200,
        **await _clusters_of(request),
        title=_TITLES[whose],
        tabs=[(one.value, label) for one, label in _TABS.items() if one is not Whose.ALL or caller(request).admin],
        query=urlencode({"of": whose.value, "as": caller(request).who} | ({"owner": owner} if owner else {})),
        fields=option_fields(services.clusters.options(caller(request)), given),
        error=error.message if error else None,
        wrong=getattr(error, "field", None),
        given=given or {},
    )


async def follow_home(request: Request) -> Response:
    """Send the list of clusters again after each change."""
    if _was_drawn_for_another(request):
        return _say_that_it_was(request, "clusters")

    async def draw() -> dict[str, str]:
        return {"clusters": render("_clusters.html", base=address_of(request).prefix, **await _clusters_of(request))}

    whose, _ = _asked(request)
    events = services_of(request).clusters.follow(caller(request), whose=whose)
    return live.stream(events, draw, seconds_for(request))


def _asked(request: Request) -> tuple[Whose, str | None]:
    """Return which clusters the address asks for; one's own if it makes no sense."""
    words = request.query_params.get("of", "")
    whose = Whose(words) if words in set(Whose) else Whose.MINE
    return whose, request.query_params.get("owner") or None


async def _clusters_of(request: Request) -> dict[str, Any]:
    services, principal = services_of(request), caller(request)
    whose, owner = _asked(request)
    now, find = services.clock(), partial(services.clusters.find, principal, whose=whose, owner=owner)
    active = await find(states=ACTIVE, limit=ACTIVE_SHOWN + 1)
    ended = await find(states=ENDED, limit=ENDED_SHOWN)
    return {
        "whose": whose.value,
        "owner": owner,
        "active": [view_cluster(cluster, now, principal) for cluster in active[:ACTIVE_SHOWN]],
        "more": len(active) > ACTIVE_SHOWN,
        "ended": [view_cluster(cluster, now, principal) for cluster in ended],
    }


async def show_cluster(request: Request, name: str) -> Response:
    """Show one cluster: its size, why it is as it is, and what happened to it."""
    return await show_cluster_page(request, name)


async def show_cluster_page(
    request: Request, name: str, *, words: str | None = None, link: MadeLink | None = None, status: int = 200
) -> Response:
    """Return the page of one cluster; ``words`` answer what was just asked, ``link`` is one that was just made."""
    services = services_of(request)
    cluster = await services.clusters.get(caller(request), name)
    details = await _details_of(request, cluster)
    whose = _list_of(cluster, caller(request))
    return page(
        request,
        "cluster.html",
        status=status,
        words=words,
        link=link,
        whose=whose.value,
        list_title=_TITLES[whose],
        **_what_can_be_shared(services.shares.rules, caller(request)),
        **details,
    )


def _list_of(cluster: Cluster, viewer: Principal) -> Whose:
    """Return the list on which ``viewer`` finds a cluster."""
    if cluster.owner == viewer.name:
        return Whose.MINE
    return Whose.SHARED if shared_rights(viewer, cluster) else Whose.ALL


def _what_can_be_shared(rules: SharingRules, principal: Principal) -> dict[str, Any]:
    """Return what the administrator allows: whether to share, else why not; and how long links may be good."""
    try:
        rules.check(principal)
    except NotAllowed as error:
        return {"no_sharing": error.message, "lifetimes": []}
    are_links = rules.links and rules.own_hosts
    lifetimes = [
        (seconds, words) for seconds, words in LIFETIMES.items() if are_links and seconds <= rules.longest_link
    ]
    return {"no_sharing": None, "lifetimes": lifetimes}


async def follow_cluster(request: Request, name: str) -> Response:
    """Send what changes on a cluster's page again after each change."""
    if _was_drawn_for_another(request):
        return _say_that_it_was(request, "cluster", "sharing", "events")
    clusters, principal = services_of(request).clusters, caller(request)
    await clusters.get(principal, name)
    # Before the first drawing, which shows all that happened until then.
    last = await clusters.last_event_id()

    async def draw() -> dict[str, str]:
        try:
            details = await _details_of(request, await clusters.get(principal, name))
        except NotVisible:
            return {"cluster": render("_withdrawn.html"), "sharing": "", "events": ""}
        base = address_of(request).prefix
        return {part: render(f"_{part}.html", base=base, **details) for part in ("cluster", "sharing", "events")}

    return live.stream(clusters.follow(principal, cluster=name, after=last), draw, seconds_for(request))


def _was_drawn_for_another(request: Request) -> bool:
    """Whether the page that follows was drawn before its bearer began, or stopped, to act on behalf of somebody.

    They did that in another window. What is theirs now must not come into a page that does not say whose it is.
    """
    drawn_for = request.query_params.get("as")
    return drawn_for is not None and drawn_for != caller(request).who


def _say_that_it_was(request: Request, place: str, *emptied: str) -> Response:
    notice = render("_another.html", principal=caller(request))

    async def draw() -> dict[str, str]:
        return {place: notice, **dict.fromkeys(emptied, "")}

    return live.stream(services_of(request).clusters.follow(caller(request)), draw, seconds_for(request))


async def _details_of(request: Request, cluster: Cluster) -> dict[str, Any]:
    services = services_of(request)
    now = services.clock()
    events = await services.clusters.last_events(caller(request), cluster.name, EVENTS_SHOWN)
    facts = cluster.scheduler if cluster.reported else None
    # Whom it is shared with is the affair of those who share it.
    is_told = Action.SHARE in usable_rights(caller(request), cluster)
    return {
        "cluster": view_cluster(cluster, now, caller(request)),
        "shares": cluster.shares if is_told else (),
        "links": view_links(cluster.links if is_told else (), now),
        "options": _chosen(services.clusters.options(caller(request)), cluster),
        "versions": dict(facts.versions) if facts else {},
        "limit": cluster.spec.max_workers,
        "limit_reason": cluster.spec.max_workers_reason,
        "events": view_events(events, now),
    }


def _chosen(options: OptionSet, cluster: Cluster) -> list[tuple[str, str]]:
    """Return the options of a cluster, for people; some may not be offered any more, or not to who looks."""
    by_name = {option.name: option for option in options.options}
    rows = []
    for name, value in cluster.options.items():
        option = by_name.get(name)
        words = f"{value}" if option is None else option.describe(value)
        if isinstance(value, bool):
            words = "yes" if value else "no"
        rows.append((option.label or name if option else name, words))
    return rows


async def show_logs(request: Request, name: str) -> Response:
    """Show the logs of a cluster."""
    logs = await services_of(request).clusters.logs(caller(request), name, LOG_LINES)
    if "hx-request" in request.headers:
        return HTMLResponse(render("_logs.html", logs=logs))
    return page(request, "logs.html", logs=logs, name=name)
