"""The whole console on one screen: method, path, who may call it, and what answers.

What acts stands below ``/console/``: everything below ``/clusters/<name>/`` belongs to the dashboard of that cluster,
whose pages must not find our forms on their own ground.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import GuardedRoute, Rule, anyone, form, page, reader, user
from tidegate.api.app import Failure
from tidegate.console import (
    actions,
    assets,
    audit,
    behalf,
    dashboards,
    failures,
    limits,
    options,
    pages,
    session,
    shares,
    tokens,
    usage,
)
from tidegate.model.audit import Deed
from tidegate.wire.names import LINK_PATH

_SHARES = "/console/clusters/{name}/shares"
_LINKS = "/console/clusters/{name}/links"


class Console:
    """The console, as ``api.app`` takes it."""

    def routes(self) -> Sequence[GuardedRoute]:
        """Return every route of the console."""
        return [
            _route("GET", "/", page, pages.show_home),
            _route("GET", "/clusters/{name}", page, pages.show_cluster),
            _route("GET", "/clusters/{name}/{where:path}", page, dashboards.open_dashboard, Deed.DASHBOARD_OPEN),
            _route("GET", LINK_PATH, anyone, dashboards.open_link, Deed.DASHBOARD_OPEN),
            _route("GET", "/login", anyone, session.show_login, Deed.LOGIN),
            _route("POST", "/login", form, session.log_in, Deed.LOGIN),
            _route("GET", "/login/{method}", anyone, session.begin_login),
            _route("GET", "/login/{method}/return", anyone, session.complete_login, Deed.LOGIN),
            _route("POST", "/logout", form, session.log_out, Deed.LOGOUT),
            _route("GET", "/behalf", page, behalf.show_choice),
            _route("POST", "/console/behalf", user, behalf.begin, Deed.BEHALF_BEGIN),
            _route("POST", "/console/behalf/end", form, behalf.end, Deed.BEHALF_END),
            _route("GET", "/console/live", reader, pages.follow_home),
            _route("GET", "/console/clusters/{name}/live", reader, pages.follow_cluster),
            _route("GET", "/console/clusters/{name}/logs", page, pages.show_logs, Deed.LOGS_READ),
            _route("POST", "/console/clusters", user, actions.create_cluster, Deed.CLUSTER_CREATE),
            _route("POST", "/console/clusters/{name}/size", user, actions.resize_cluster, Deed.CLUSTER_SCALE),
            _route("POST", "/console/clusters/{name}/stop", user, actions.stop_cluster, Deed.CLUSTER_STOP),
            _route("POST", "/console/clusters/{name}/keep", user, actions.keep_cluster, Deed.CLUSTER_KEEP),
            _route("POST", "/console/clusters/{name}/limit", user, actions.limit_cluster, Deed.LIMIT_SET),
            _route("POST", _SHARES, user, shares.give_share, Deed.SHARE_GIVE),
            _route("POST", _SHARES + "/withdraw", user, shares.withdraw_share, Deed.SHARE_WITHDRAW),
            _route("POST", _LINKS, user, shares.make_link, Deed.LINK_MAKE),
            _route("POST", _LINKS + "/{id}/withdraw", user, shares.withdraw_link, Deed.LINK_WITHDRAW),
            _route("GET", "/tokens", page, tokens.show_tokens),
            _route("POST", "/console/tokens", user, tokens.create_token, Deed.TOKEN_CREATE),
            _route("POST", "/console/tokens/{id}/revoke", user, tokens.revoke_token, Deed.TOKEN_REVOKE),
            _route("GET", "/limits", page, limits.show_limits),
            _route("POST", "/console/limits", user, limits.set_limit, Deed.LIMIT_SET),
            _route("POST", "/console/limits/unset", user, limits.unset_limit, Deed.LIMIT_UNSET),
            _route("GET", "/usage", page, usage.show_usage),
            _route("GET", "/usage.csv", page, usage.download_usage),
            _route("GET", "/options", page, options.show_options),
            _route("GET", "/audit", page, audit.show_audit),
            _route("GET", "/console/static/{file}", anyone, assets.show_asset),
            _route("GET", "/favicon.ico", anyone, assets.show_icon),
        ]

    def show_failure(self, request: Request, failure: Failure) -> Response:
        """Return what tells of a failure."""
        return failures.show_failure(request, failure)


def _route(method: str, path: str, rule: Rule, handler: Callable[..., Any], deed: Deed = Deed.READ) -> GuardedRoute:
    return GuardedRoute(method, path, rule, handler, deed=deed, include_in_schema=False, response_model=None)
