"""The clusters' dashboards: pages that run a tenant's code, shown to their owner and to whom it is shared with.

A dashboard is shown when a ticket in the browser's cookie says so (``doors.py``), or when control grants it to a
program's credential (``access.py``). On a dashboard's own host nothing is ever passed on to control. On the gateway's
host, a program's answer is marked as a sandbox: should it be a browser after all, the page can do nothing in our name.
"""

from __future__ import annotations

import logging
import math
from urllib.parse import urlsplit

from aiohttp import web

from tidegate.proxy import answers
from tidegate.proxy.access import Access
from tidegate.proxy.api import Unavailable, unavailable
from tidegate.proxy.doors import Door, Viewer, next_path, refuse_stranger
from tidegate.proxy.headers import is_websocket
from tidegate.proxy.hosts import same_origin
from tidegate.proxy.pace import Pace
from tidegate.proxy.pages import Pages
from tidegate.proxy.routes import RouteTable
from tidegate.wire.names import TICKET_PATH
from tidegate.wire.proxy import Route

_STATIC = ("/static/", "/statics/")
"""Files of Bokeh and distributed: cheap for the scheduler, and a page needs a dozen."""

_SANDBOX = "sandbox"

_OPEN_AGAIN = (
    "The owner of this dashboard has withdrawn something that they shared. Open the link again that you came by; if it "
    "leads nowhere, ask for a new one."
)

logger = logging.getLogger(__name__)


class Dashboards:
    """Decides who sees a dashboard, and shows it.

    Parameters
    ----------
    routes : RouteTable
    door : Door
    access : Access
    pages : Pages
    pace : Pace
        How often pages of one cluster may be loaded.
    frame_ancestors : str
        Who may show a dashboard in a frame.
    main_url : str
        The gateway's own address, where people log in; with port 0, the port is that of the request.
    path_mode : bool
        Whether browsers see dashboards below the gateway's own host.
    """

    def __init__(
        self,
        routes: RouteTable,
        door: Door,
        access: Access,
        pages: Pages,
        pace: Pace,
        *,
        main_url: str,
        frame_ancestors: str = "'self'",
        path_mode: bool = False,
    ) -> None:
        self._routes = routes
        self._door = door
        self._access = access
        self._pages = pages
        self._pace = pace
        self._main_url = main_url.rstrip("/")
        self._policy = f"frame-ancestors {frame_ancestors}"
        self._path_mode = path_mode

    async def serve_host(self, request: web.BaseRequest, cluster: str, scheme: str) -> web.StreamResponse:
        """Answer a request to a dashboard's own host."""
        route = await self._routes.find(cluster)
        # Of a route that was withdrawn the key is still known, so that its viewers are told, and nobody else.
        key = route.ticket_key if route else self._routes.withdrawn_key(cluster)
        epoch = route.share_epoch if route else 0
        if request.raw_path.partition("?")[0] == TICKET_PATH:
            answer = self._door.exchange(request, cluster, key, epoch, scheme) if key is not None else None
            return answer or self._send_to_login(request, cluster, next_path(request))
        viewer = self._door.viewer(request, cluster, key, epoch) if key is not None else None
        if viewer is None:
            if key is not None and self._door.came_by_link(request, cluster, key):
                return answers.for_either(request, 403, "This page was closed", _OPEN_AGAIN)
            return self._send_to_login(request, cluster)
        if (refusal := refuse_stranger(request)) is not None:
            return refusal
        if route is None:
            return self._gone(request, cluster)
        return await self._show(request, route, request.raw_path, viewer, base="", policy=self._policy)

    async def serve_path(
        self, request: web.BaseRequest, cluster: str, path: str, base: str, client: str
    ) -> web.StreamResponse | None:
        """Answer a request to the gateway's host below ``/clusters/<name>``; None when it is control's to answer.

        Parameters
        ----------
        path : str
            The page of the dashboard, with the query.
        base : str
            What was before it.
        client : str
            The address of who asks.
        """
        authorization = request.headers.get("Authorization")
        # Browsers repeat a password that was once typed with every request to the host. They also say that they are
        # browsers: those are control's to send to the dashboard's own host.
        if authorization is not None and authorization.isascii() and "Sec-Fetch-Mode" not in request.headers:
            try:
                return await self._serve_program(request, cluster, path, base, authorization, client)
            except Unavailable as gone:
                return unavailable(request, gone)
        if self._path_mode:
            return await self._serve_ticket_holder(request, cluster, path, base)
        return None

    async def _serve_program(
        self, request: web.BaseRequest, cluster: str, path: str, base: str, authorization: str, client: str
    ) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if origin is not None and not same_origin(origin, request.headers.get("Host", "")):
            # Programs have none. A browser that does not say that it is one says by this whose page made it come here.
            return answers.error(403, "cannot serve this request: it comes from a page of another host")
        admitted = await self._access.ask(cluster, authorization, client)
        if isinstance(admitted, web.Response):
            return admitted
        route = await self._routes.find(cluster)
        if route is None:
            return self._gone(request, cluster)
        if admitted.epoch is not None and admitted.epoch < route.share_epoch:
            # Something was withdrawn while control's answer was on its way.
            self._access.forget(cluster)
            return answers.error(403, "cannot show this dashboard: what is shared has just changed. Try again")
        viewer = self._door.admit(admitted)
        if viewer is None:
            self._access.forget(cluster)
            return answers.error(401, "Authentication required")
        return await self._show(request, route, path, viewer, base=base, policy=_SANDBOX)

    async def _serve_ticket_holder(
        self, request: web.BaseRequest, cluster: str, path: str, base: str
    ) -> web.StreamResponse | None:
        route = await self._routes.find(cluster)
        if route is None:
            return None
        viewer = self._door.viewer_below(request, cluster, route.ticket_key)
        if viewer is None:
            return None
        if (refusal := refuse_stranger(request)) is not None:
            return refusal
        return await self._show(request, route, path, viewer, base=base, policy=self._policy)

    async def _show(
        self, request: web.BaseRequest, route: Route, path: str, viewer: Viewer, *, base: str, policy: str
    ) -> web.StreamResponse:
        websocket = is_websocket(request.headers)
        if not websocket and not path.startswith(_STATIC) and (seconds := self._pace.take(route.name)):
            message = f"The dashboard of cluster {route.name} is loaded too often; its scheduler has work to do."
            wait = {"Retry-After": str(math.ceil(seconds))}
            return answers.for_either(request, 429, "Too many pages", message, headers=wait)
        if websocket:
            return await self._pages.bridge(request, route, path, viewer)
        extra = {"Content-Security-Policy": policy}
        return await self._pages.fetch(request, route, path, viewer, base=base, extra=extra)

    def _send_to_login(self, request: web.BaseRequest, cluster: str, path: str | None = None) -> web.Response:
        if answers.is_navigation(request):
            return answers.redirect(f"{self._main(request)}/clusters/{cluster}{path or request.raw_path}")
        message = "cannot show this dashboard without a ticket: open it from the gateway's console"
        return answers.error(401, message)

    def _gone(self, request: web.BaseRequest, cluster: str) -> web.Response:
        text = f"Cluster {cluster} has no dashboard: it is starting, or it has ended."
        if answers.is_navigation(request):
            console = (self._main(request) + "/", "To the console")
            return answers.page(404, "No dashboard", text, link=console)
        return answers.error(404, text)

    def _main(self, request: web.BaseRequest) -> str:
        """Return the gateway's address, with the port that the client sees where ours is not known."""
        if not (urlsplit(self._main_url).netloc.endswith(":0")):
            return self._main_url
        port = request.headers.get("Host", "").rpartition(":")[2]
        return self._main_url.replace(":0", f":{port}" if port.isdecimal() else "", 1)
