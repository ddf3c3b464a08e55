"""The HTTP front: which of the three worlds behind the one port a request belongs to.

========================================  =============================================================================
host and path                             who answers
========================================  =============================================================================
a dashboard's own host                    that cluster's dashboard, and nobody else: nothing reaches control from there
``/clusters/<name>/...`` of the gateway   the dashboard, for a program that shows a credential, and in path mode for a
                                          browser that shows a ticket; else control (which logs a person in)
``/internal/...``                         nobody: that is for the gateway's own processes
everything else of the gateway            control
another host                              nobody (421)
========================================  =============================================================================

Requests are hostile: whatever could be understood in two ways is refused here, in one place.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from aiohttp import HttpVersion10, HttpVersion11, web

from tidegate.proxy import answers
from tidegate.proxy.api import Api
from tidegate.proxy.dashboards import Dashboards
from tidegate.proxy.forwarded import TrustedProxies
from tidegate.proxy.headers import BadHeader, is_websocket, to_api
from tidegate.proxy.hosts import CLUSTER_NAME, DashboardHost, ForeignHost, HostRule, InvalidHost
from tidegate.wire.names import path_to_log

_DASHBOARD_PATH = re.compile(rf"/clusters/({CLUSTER_NAME.pattern})(/.*)", re.DOTALL)

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
"""What the gateway knows of; each path takes some of them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Parameters
    ----------
    path : str
        As it was sent, with the query, below the prefix.
    segments : tuple of str
        The non-empty segments of the decoded path, in lower case: for decisions, never to be sent.
    prefix : str
        What was taken off its front.
    """

    path: str
    segments: tuple[str, ...]
    prefix: str


class Front:
    """Handles every HTTP request.

    Parameters
    ----------
    hosts : HostRule
    api : Api
    dashboards : Dashboards
    prefix : str
        Path below which the gateway is (also) mounted.
    public_url : str or None
        How people reach the gateway.
    trusted : TrustedProxies
        Whose word about the client's address is passed on.
    """

    def __init__(
        self,
        hosts: HostRule,
        api: Api,
        dashboards: Dashboards,
        *,
        prefix: str = "",
        public_url: str | None = None,
        trusted: TrustedProxies | None = None,
    ) -> None:
        self._hosts = hosts
        self._api = api
        self._dashboards = dashboards
        self._prefix = prefix
        self._public = urlsplit(public_url or "")
        self._trusted = trusted or TrustedProxies()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        answer = await self._answer(request)
        if isinstance(answer, answers.Error):
            answer.take_form(self._target(request.raw_path).path)
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except BadHeader as error:
            return answers.error(400, str(error))
        except web.HTTPException as refused:  # aiohttp's own, of a WebSocket's handshake
            return answers.error(refused.status, "cannot open this WebSocket: its handshake is malformed")
        except ConnectionError:
            # The client has left while we were answering. There is nobody to tell.
            raise
        except Exception:
            logger.exception("cannot serve %s %s", request.method, path_to_log(request.path))
            return answers.error(500, "the gateway's proxy failed to serve this request; its log has the details")

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        target = self._target(request.raw_path)
        if (refusal := _refuse_form(request, target)) is not None:
            return refusal
        host = request.headers.get("Host", "")
        match self._hosts.ask(host):
            case InvalidHost():
                return answers.error(400, "cannot serve this request: its Host header is missing or malformed")
            case ForeignHost():
                return answers.error(421, _misdirected(host))
            case DashboardHost(cluster):
                return await self._dashboards.serve_host(request, cluster, self._dashboards_scheme(request))
        if target.segments[:1] == ("internal",):
            return answers.error(404, "not found")
        client = self._trusted.client(request.remote or "", request.headers.getall("X-Forwarded-For", ()))
        if found := _DASHBOARD_PATH.fullmatch(target.path):
            base = f"{target.prefix}/clusters/{found[1]}"
            answer = await self._dashboards.serve_path(request, found[1], found[2], base, client)
            if answer is not None:
                return answer
        headers = to_api(
            request.headers,
            client=client,
            scheme=self.scheme(request),
            host=host,
            prefix=target.prefix,
            websocket=is_websocket(request.headers),
        )
        return await self._api.forward(request, target.path, headers)

    def scheme(self, request: web.BaseRequest) -> str:
        """Return the scheme that the client used: where TLS ends before us, the public address knows it."""
        if self._public.netloc and request.headers.get("Host", "").lower() == self._public.netloc.lower():
            return self._public.scheme
        return request.scheme

    def _dashboards_scheme(self, request: web.BaseRequest) -> str:
        """Return the same for a dashboard's own host, which is reached by the same way as the public address."""
        return "https" if "https" in (request.scheme, self._public.scheme) else "http"

    def _target(self, path: str) -> Target:
        prefix = (
            self._prefix if path == self._prefix or path.startswith((self._prefix + "/", self._prefix + "?")) else ""
        )
        path = path.removeprefix(prefix)
        if not path.startswith("/"):
            path = "/" + path
        plain = unquote(path.partition("?")[0]).lower()
        return Target(path, tuple(part for part in plain.split("/") if part), prefix)


def _refuse_form(request: web.BaseRequest, target: Target) -> web.Response | None:
    """Refuse a request line that two programs might understand differently."""
    path = request.raw_path
    if request.version not in (HttpVersion10, HttpVersion11):
        refusal = answers.error(400, "cannot serve this request: the gateway speaks HTTP/1.1")
        refusal.force_close()
        return refusal
    if request.method in ("CONNECT", "TRACE"):
        message = f"cannot {request.method}: the gateway is no forward proxy"
        # A 405 names what is allowed (RFC 9110, 15.5.6).
        refusal = answers.error(405, message, headers={"Allow": _METHODS})
        refusal.force_close()
        return refusal
    if not path.startswith("/") or not path.isascii() or "#" in path or "\\" in path:
        return answers.error(400, "cannot serve this request: its target is no path")
    if any(coding.strip().lower() != "chunked" for coding in request.headers.getall("Transfer-Encoding", ())):
        # Compressed besides, say: only the chunks are taken apart here, and nobody would know of the rest.
        return answers.error(400, "cannot serve this request: the gateway knows no transfer coding but chunked")
    if request.method != "GET" and is_websocket(request.headers):
        return answers.error(400, "cannot open this WebSocket: only GET opens one")
    # Whoever resolves dot segments after us would see another path than the one that we have judged.
    if "." in target.segments or ".." in target.segments:
        return answers.error(400, "cannot serve this request: its path has segments '.' or '..'")
    return None


def _misdirected(host: str) -> str:
    return (
        f"cannot serve the host {host!r}: this gateway listens on this machine only and answers to localhost, "
        "127.0.0.1 and the host of its public_url"
    )
