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
from tidegate.console import actions, assets, dashboards, failures, pages, session, tokens


class Console:
    """The console, as ``api.app`` takes it."""

    def routes(self) -> Sequence[GuardedRoute]:
        """Return every route of the console."""
        return [
            _route("GET", "/", page, pages.show_home),
            _route("GET", "/clusters/{name}", page, pages.show_cluster),
            _route("GET", "/clusters/{name}/{where:path}", page, dashboards.open_dashboard),
            _route("GET", "/login", anyone, session.show_login),
            _route("POST", "/login", form, session.log_in),
            _route("GET", "/login/{method}", anyone, session.begin_login),
            _route("GET", "/login/{method}/return", anyone, session.complete_login),
            _route("POST", "/logout", form, session.log_out),
            _route("GET", "/console/live", reader, pages.follow_home),
            _route("GET", "/console/clusters/{name}/live", reader, pages.follow_cluster),
            _route("GET", "/console/clusters/{name}/logs", page, pages.show_logs),
            _route("POST", "/console/clusters", user, actions.create_cluster),
            _route("POST", "/console/clusters/{name}/size", user, actions.resize_cluster),
            _route("POST", "/console/clusters/{name}/stop", user, actions.stop_cluster),
            _route("GET", "/tokens", page, tokens.show_tokens),
            _route("POST", "/console/tokens", user, tokens.create_token),
            _route("POST", "/console/tokens/{id}/revoke", user, tokens.revoke_token),
            _route("GET", "/console/static/{file}", anyone, assets.show_asset),
            _route("GET", "/favicon.ico", anyone, assets.show_icon),
        ]

    def show_failure(self, request: Request, failure: Failure) -> Response:
        """Return what tells of a failure."""
        return failures.show_failure(request, failure)


def _route(method: str, path: str, rule: Rule, handler: Callable[..., Any]) -> GuardedRoute:
    return GuardedRoute(method, path, rule, handler, include_in_schema=False, response_model=None)
