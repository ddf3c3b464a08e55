"""The application: routes, what stands around them, and the one place that turns an error into an answer.

An error is told in the form of the protocol that was spoken: ``{"error": "words"}`` in v1, ``{"error": {...}}`` in v2,
a page in the console. What nobody foresaw is told as an *incident*: a number that the log has too, and nothing of our
inside.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.api.address import read_address
from tidegate.api.body import limit_body
from tidegate.api.requests import ApiRequest
from tidegate.api.routes import api_routes
from tidegate.api.services import VERSION, Services, services_of
from tidegate.model.errors import Busy, Invalid, NotVisible, Refused, TidegateError
from tidegate.wire import v2
from tidegate.wire.names import path_to_log

log = logging.getLogger(__name__)

SAFE_HEADERS = {
    # Whatever we send, a browser takes it for what we call it, keeps it nowhere, and tells no other site where it was.
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    # Not no-referrer: browsers would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_SAFE_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SAFE_HEADERS.items()]
"""The same, as they are sent."""

SESSION_COOKIE = "tidegate-session"
"""What the description calls the session's cookie: one text for all gateways, in characters that a cookie may have."""

NO_SUCH_CLUSTER = "cannot find this cluster: there is none of this name, or it is neither yours nor shared with you"

_V1_STATUS = {403: 409, 413: 422, 429: 500, 502: 500, 503: 500, 507: 500}
"""The official client drops the words of the former, and shows those of the latter."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told, whatever the protocol."""

    status: int
    code: str
    message: str
    field: str | None = None
    incident: str | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


class Pages(Protocol):
    """The console, as the application sees it."""

    def routes(self) -> Sequence[BaseRoute]:
        """Return its routes."""

    def show_failure(self, request: Request, failure: Failure) -> Response:
        """Return the page that tells of a failure."""


class Application(FastAPI):
    """FastAPI, but for what it wraps around the routes: the ``Envelope`` does that, once and in a third of the time.

    Parameters
    ----------
    pages : Pages or None
    **settings
        FastAPI's own.
    """

    def __init__(self, pages: Pages | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._envelope = Envelope(self.router, pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        scope["app"] = self
        await self._envelope(scope, receive, send)


def create_app(services: Services, pages: Pages | None = None) -> FastAPI:
    """Return the application: the API and, where ``pages`` is given, the console."""
    app = Application(
        pages,
        title="Tidegate",
        version=VERSION,
        summary="Dask clusters on demand, through one secure address",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.router.routes.extend(api_routes())
    if pages is not None:
        app.router.routes.extend(pages.routes())

    _describe_credentials(app)
    return app


def _failure_of(request: Request, error: Exception) -> Failure:
    match error:
        case TidegateError():
            return _foreseen(request, error)
        case RequestValidationError():
            return _invalid(error)
        case HTTPException():
            words = "There is nothing at this address" if error.status_code == 404 else str(error.detail)
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            return Failure(error.status_code, code, words, headers=error.headers or {})
        case _:
            incident = secrets.token_hex(4)
            log.error("incident %s: %s %s", incident, request.method, path_to_log(request.url.path), exc_info=error)
            words = f"Something went wrong inside the gateway; its log tells more, under incident {incident}"
            return Failure(500, "internal-error", words, incident=incident)


def _foreseen(request: Request, error: TidegateError) -> Failure:
    if error.detail:
        log.warning("%s %s: %s (%s)", request.method, path_to_log(request.url.path), error.message, error.detail)
    failure = Failure(error.status, error.code, error.message)
    match error:
        case Refused() if not _is_browser(request):
            # A browser would answer this header with a dialog of its own; there the console's login page asks.
            schemes = dict.fromkeys(a.scheme for a in services_of(request).authenticators)
            challenge = ", ".join(_challenge(scheme) for scheme in schemes)
            return dataclasses.replace(failure, headers={"WWW-Authenticate": challenge})
        case NotVisible() if "name" in request.path_params and not _speaks_v1(request):
            # Without the name: absent and foreign, whatever they are called, are the same to the byte.
            return dataclasses.replace(failure, message=NO_SUCH_CLUSTER)
        case Invalid():
            return dataclasses.replace(failure, field=error.field)
        case Busy():
            return dataclasses.replace(failure, headers={"Retry-After": f"{max(1, round(error.retry_after))}"})
    return failure


def _challenge(scheme: str) -> str:
    # Negotiate takes no parameters: what follows it is a message of Kerberos' (RFC 4559, 4.1).
    return scheme if scheme == "Negotiate" else f'{scheme} realm="tidegate"'


def _is_browser(request: Request) -> bool:
    # Browsers do not send Sec-Fetch-Mode to plain HTTP beyond loopback; all of them call themselves Mozilla.
    return "sec-fetch-mode" in request.headers or request.headers.get("user-agent", "").startswith("Mozilla/")


def _invalid(error: RequestValidationError) -> Failure:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or "body"
    if first["type"] == "extra_forbidden":
        return Failure(422, "invalid", f"Unknown field {name!r}", field=name)
    rule = str(first["msg"])
    return Failure(422, "invalid", f"cannot use {name}: {rule[:1].lower()}{rule[1:]}", field=name)


def _answer(request: Request, failure: Failure, pages: Pages | None) -> Response:
    path = request.url.path
    body: dict[str, Any]
    if path.startswith("/api/v2/"):
        detail = v2.ErrorDetail(
            code=failure.code, message=failure.message, field=failure.field, incident=failure.incident
        )
        body = v2.ErrorBody(error=detail).model_dump()
    elif path.startswith(("/api/", "/internal/", "/metrics")) or pages is None:
        body = {"error": failure.message}
    else:
        return pages.show_failure(request, failure)
    status = _V1_STATUS.get(failure.status, failure.status) if _speaks_v1(request) else failure.status
    return JSONResponse(body, status, headers=dict(failure.headers))


def _speaks_v1(request: Request) -> bool:
    return request.url.path.startswith("/api/v1/")


class Envelope:
    """Around every request: its body is bounded, its answer bears the safe headers, and an error is an answer too."""

    def __init__(self, app: ASGIApp, pages: Pages | None) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False
        request = ApiRequest(scope)

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in _SAFE_HEADERS if header[0] not in present]
                # Also beside an error: a caller that demands our proof sees nothing of an answer without it.
                if reply := getattr(request.state, "authentication_reply", None):
                    MutableHeaders(scope=message)["WWW-Authenticate"] = reply
            await send(message)

        try:
            request.state.address = read_address(request)
        except Invalid as error:
            # No page without an address for its links.
            await JSONResponse({"error": error.message}, error.status)(scope, receive, send_safely)
            return
        try:
            await self._app(scope, limit_body(scope, receive), send_safely)
        except ClientDisconnect:
            log.debug("the client of %s %s went away", scope["method"], scope["path"])
        except Exception as error:
            failure = _failure_of(request, error)
            services_of(request).metrics.count_error(failure.code)
            if started:
                # Half an answer is out: cutting the connection is the only way left to say that it is not whole.
                raise
            await _answer(request, failure, self._pages)(scope, receive, send_safely)


def _describe_credentials(app: FastAPI) -> None:
    """Add to the OpenAPI description what ``access.CREDENTIALS`` names."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        schema = describe()
        schema.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "A personal token."},
            "basic": {"type": "http", "scheme": "basic", "description": "User name, and a token as the password."},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": SESSION_COOKIE,
                "description": "A browser's session, for requests from the gateway's own pages. Each gateway calls "
                "its cookie a little differently: this stands for that name.",
            },
        }
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
