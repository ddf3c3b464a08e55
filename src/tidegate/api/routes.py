"""The whole API on one screen: method, path, who may call it, and what answers.

What only shows is for every ``reader``; what changes something or hands out credentials is for a ``user``, whose
credential is not read-only. What is to stand in the audit log when it was done says which deed it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from tidegate.api import (
    about,
    agents,
    audit,
    clusters,
    events,
    internal,
    keeping,
    limits,
    login,
    metrics,
    options,
    shares,
    tokens,
    usage,
    v1,
)
from tidegate.api.access import PROVED, GuardedRoute, Rule, agent, anyone, monitor, reader, user
from tidegate.api.access import internal as own_process
from tidegate.model.audit import Deed
from tidegate.wire.names import AGENT_PATH
from tidegate.wire.v2 import ClusterBody, ClusterList, ErrorBody, Health
from tidegate.wire.v2_tokens import DeviceWaiting, MintedToken

_CLUSTER_1 = "/api/v1/clusters/{name}"
_CLUSTERS = "/api/v2/clusters"
_CLUSTER = "/api/v2/clusters/{name}"
_SHARES = _CLUSTER + "/shares"
_SHARE = _SHARES + "/{grantee:path}"
_LINKS = _CLUSTER + "/links"
_TOKENS = "/api/v2/tokens"
_LIMIT = "/api/v2/limits/{resource}/{subject:path}"

_DEVICE: dict[int, type[BaseModel] | None] = {200: MintedToken, 202: DeviceWaiting}
_STOPS = {202: ClusterBody, 204: None}
_NOTHING: dict[str, Any] = {"status_code": 204, "answers": {204: None}}


@cache
def api_routes() -> tuple[GuardedRoute, ...]:
    """Return every route of the API: what FastAPI reads out of the handlers' types takes longer than a request."""
    return (
        # dask-gateway's protocol. The slashes at the end are part of it.
        _plain("GET", "/api/version", anyone, v1.version),
        _plain("GET", "/api/health", anyone, about.health),
        _plain("GET", "/api/v1/options", reader, v1.list_options),
        _plain("GET", "/api/v1/clusters/", reader, v1.list_clusters),
        _plain("POST", "/api/v1/clusters/", user, v1.create_cluster, Deed.CLUSTER_CREATE),
        # It shows what one connects with.
        _plain("GET", _CLUSTER_1, user, v1.show_cluster, Deed.CREDENTIALS_READ),
        _plain("DELETE", _CLUSTER_1, user, v1.stop_cluster, Deed.CLUSTER_STOP),
        _plain("POST", _CLUSTER_1 + "/scale", user, v1.scale_cluster, Deed.CLUSTER_SCALE),
        _plain("POST", _CLUSTER_1 + "/adapt", user, v1.adapt_cluster, Deed.CLUSTER_SCALE),
        # Our own.
        _open("GET", "/api/v2/health", anyone, about.health, answers={200: Health, 503: Health}),
        _open("GET", "/api/v2/version", anyone, about.version),
        _plain("GET", "/api/v2/openapi.json", anyone, about.openapi),
        _open("GET", "/api/v2/whoami", reader, about.whoami),
        _open("GET", "/api/v2/options", reader, options.list_options),
        _open("POST", _CLUSTERS, user, clusters.create_cluster, 409, status_code=201, deed=Deed.CLUSTER_CREATE),
        _open("GET", _CLUSTERS, reader, clusters.list_clusters, answers={200: ClusterList}),
        _open("GET", _CLUSTER, reader, clusters.show_cluster, 404, answers={200: ClusterBody}),
        _open("PATCH", _CLUSTER, user, clusters.patch_cluster, 404, 409, deed=Deed.CLUSTER_SCALE),
        _open(
            "DELETE",
            _CLUSTER,
            user,
            clusters.stop_cluster,
            404,
            status_code=202,
            answers=_STOPS,
            deed=Deed.CLUSTER_STOP,
        ),
        _open("POST", _CLUSTER + "/keep", user, keeping.keep_cluster, 404, 409, deed=Deed.CLUSTER_KEEP),
        _open("GET", _CLUSTER + "/credentials", user, clusters.show_credentials, 404, 409, deed=Deed.CREDENTIALS_READ),
        _open("GET", _CLUSTER + "/logs", reader, clusters.show_logs, 404, deed=Deed.LOGS_READ),
        _stream(_CLUSTER + "/events", events.follow_cluster, 404),
        _open("GET", _SHARES, reader, shares.list_shares, 403, 404),
        _open("PUT", _SHARE, user, shares.give_share, 404, 409, deed=Deed.SHARE_GIVE),
        _open("DELETE", _SHARE, user, shares.withdraw_share, 404, deed=Deed.SHARE_WITHDRAW, **_NOTHING),
        _open("GET", _LINKS, reader, shares.list_links, 403, 404),
        _open("POST", _LINKS, user, shares.make_link, 404, 409, status_code=201, deed=Deed.LINK_MAKE),
        _open("DELETE", _LINKS + "/{id}", user, shares.withdraw_link, 404, deed=Deed.LINK_WITHDRAW, **_NOTHING),
        _stream("/api/v2/events", events.follow_all),
        _open("POST", _TOKENS, user, tokens.create_token, 409, status_code=201, deed=Deed.TOKEN_CREATE),
        _open("GET", _TOKENS, reader, tokens.list_tokens),
        _open(
            "DELETE",
            _TOKENS + "/{id}",
            user,
            tokens.revoke_token,
            404,
            deed=Deed.TOKEN_REVOKE,
            **_NOTHING,
        ),
        _open("GET", "/api/v2/usage", reader, usage.show_usage, 403),
        _open("GET", "/api/v2/limits", reader, limits.list_limits, 403),
        _open("GET", "/api/v2/limits/rules", reader, limits.list_rules, 403),
        _open("PUT", _LIMIT, user, limits.set_limit, 403, deed=Deed.LIMIT_SET),
        _open("DELETE", _LIMIT, user, limits.unset_limit, 403, deed=Deed.LIMIT_UNSET, **_NOTHING),
        _open("GET", "/api/v2/audit", reader, audit.list_audit, 404),
        # Logins in a terminal: who it is comes out in the end.
        _open("POST", "/api/v2/login/device", anyone, login.begin_device, 404, deed=Deed.LOGIN),
        _open(
            "POST",
            "/api/v2/login/device/token",
            anyone,
            login.complete_device,
            404,
            answers=_DEVICE,
            deed=Deed.LOGIN,
        ),
        # Where Prometheus looks for it.
        _plain("GET", "/metrics", monitor, metrics.show_metrics),
        # What runs in the clusters.
        _plain("POST", AGENT_PATH + "/report", agent, agents.report, Deed.REPORT),
        _plain("GET", AGENT_PATH + "/wanted", agent, agents.wanted, Deed.REPORT),
        # The gateway's own processes, over the Unix socket.
        _plain("POST", "/internal/dashboard-access", own_process, internal.dashboard_access, Deed.DASHBOARD_OPEN),
    )


def _plain(method: str, path: str, rule: Rule, handler: Callable[..., Any], deed: Deed = Deed.READ) -> GuardedRoute:
    return GuardedRoute(method, path, rule, handler, deed=deed, include_in_schema=False)


def _open(
    method: str,
    path: str,
    rule: Rule,
    handler: Callable[..., Any],
    *errors: int,
    answers: Mapping[int, type[BaseModel] | None] = {},
    **settings: Any,
) -> GuardedRoute:
    """Return a route that is described: ``answers`` are those that the handler's type does not tell, None if empty."""
    described = _errors(rule, errors)
    described |= {status: {"model": model} if model else {} for status, model in answers.items()}
    summary = _summary(handler)
    return GuardedRoute(method, path, rule, handler, summary=summary, responses=described, **settings)


def _stream(path: str, handler: Callable[..., Any], *errors: int) -> GuardedRoute:
    """Return a route that answers with server-sent events (each carries an ``EventBody``), or that there are none."""
    content = {"text/event-stream": {"schema": {"type": "string"}}}
    described = {**_errors(reader, errors), 200: {"content": content}, 204: {}}
    # A response class without a media type: FastAPI would describe the errors as events too.
    settings: dict[str, Any] = {"response_class": Response, "summary": _summary(handler)}
    return GuardedRoute("GET", path, reader, handler, responses=described, **settings)


def _errors(rule: Rule, errors: tuple[int, ...]) -> dict[int | str, dict[str, Any]]:
    wrong: tuple[int | str, ...] = (*((401,) if rule in PROVED else ()), *errors, "4XX", "5XX")
    return {status: {"model": ErrorBody} for status in wrong}


def _summary(handler: Callable[..., Any]) -> str:
    return handler.__name__.replace("_", " ").capitalize()
