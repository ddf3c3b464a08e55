"""Who is asking, and who may call which route.

A credential in the ``Authorization`` header is judged by the authenticators, and by nothing else: where one is given,
a session does not count. A browser's session counts by itself only for reading a page; for everything else the request
must demonstrably come from a page of this gateway, since browsers send cookies along with whatever a foreign page makes
them do. They do the same with a password that they were once told, so a request that a foreign page has made is refused
whatever it bears; programs do not say where they were when they made theirs.

Every route declares one of the rules below beside its path; a ``GuardedRoute`` without a rule cannot be made. The rule
is applied before anything of the body is read. *Which clusters* the caller may see is not decided here but where they
are looked up (``model/permissions.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.address import address_of
from tidegate.api.body import JsonRequest
from tidegate.api.services import services_of
from tidegate.authn.base import Presented, parse_authorization
from tidegate.model.errors import NotAllowed, NotVisible, Refused
from tidegate.model.principal import Principal

Rule = Callable[[Request], Awaitable[Principal | None]]
"""Returns who is asking (None where nobody is needed), or raises."""


async def anyone(request: Request) -> None:
    """Open to all: the route shows nothing that belongs to anybody."""


async def user(request: Request) -> Principal:
    """For whoever has proved who they are, from a program or from a page of ours."""
    if is_foreign(request):
        raise Refused
    return await authenticate(request, session=is_same_origin(request))


async def page(request: Request) -> Principal:
    """For pages that a person reads: following a link from elsewhere may open them."""
    return await authenticate(request, session=True)


async def form(request: Request) -> None:
    """For forms that log somebody in or out: open to all, but only from a page of ours."""
    if not is_same_origin(request):
        raise NotAllowed("cannot accept this form: it was not sent from a page of this gateway")


async def agent(request: Request) -> None:
    """For the agent of the cluster that the path names."""
    presented = parse_authorization(request.headers.get("authorization"))
    if presented is None or presented.scheme != "token":
        raise Refused
    await services_of(request).agents.check(request.path_params["name"], presented.value)


async def internal(request: Request) -> None:
    """For the operator's own processes, which reach the Unix socket without a proxy between."""
    if any(name in request.headers for name in ("x-forwarded-for", "x-forwarded-host", "forwarded")):
        raise NotVisible("There is nothing here")


RULES: tuple[Rule, ...] = (anyone, user, page, form, agent, internal)

CREDENTIALS: list[dict[str, list[str]]] = [{"token": []}, {"basic": []}, {"session": []}]
"""What satisfies ``user``, by the names that ``api/app.py`` describes."""


async def authenticate(request: Request, *, session: bool) -> Principal:
    """Return who is asking, by the ``Authorization`` header or, where ``session`` says so, by the session.

    Raises
    ------
    Refused
        When nobody knows the caller; the words never tell what was wrong.
    """
    header = request.headers.get("authorization")
    if header is not None:
        presented = parse_authorization(header)
        principal = await ask_authenticators(request, presented) if presented else None
    else:
        principal = read_session(request) if session else None
    if principal is None:
        raise Refused
    return principal


async def ask_authenticators(request: Request, presented: Presented) -> Principal | None:
    """Return whom the first authenticator that knows the caller takes them for, in their role here, or None."""
    services = services_of(request)
    for authenticator in services.authenticators:
        accepted = await authenticator.authenticate(presented)
        if accepted is not None:
            request.state.authentication_reply = accepted.reply
            return services.roster.place(accepted.principal)
    return None


def read_session(request: Request) -> Principal | None:
    """Return whose browser session the request bears, or None."""
    address = address_of(request)
    services = services_of(request)
    cookie = request.cookies.get(services.sessions.cookie_name(address.scheme, address.prefix))
    principal = services.sessions.read(cookie)
    return services.roster.place(principal) if principal else None


def is_same_origin(request: Request) -> bool:
    """Whether a browser vouches that the request was made by a page of this gateway.

    ``same-site`` is not enough: dashboards, which run their owners' code, may live on sibling hosts.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return request.headers.get("origin", "").lower() == address_of(request).origin


def is_foreign(request: Request) -> bool:
    """Whether a browser says that the request was made by a page that is not of this gateway.

    ``none`` is what a person typed or chose from their bookmarks.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    return "origin" in request.headers and not is_same_origin(request)


def caller(request: Request) -> Principal:
    """Return who is asking, as the route's rule has found."""
    principal = request.state.principal
    if not isinstance(principal, Principal):
        raise TypeError(f"{request.url.path} is open to all, so its handler cannot ask who is asking")
    return principal


class GuardedRoute(APIRoute):
    """A path with its handler and its rule.

    Parameters
    ----------
    method, path, rule, endpoint
        Who may do what, in the order in which one reads it.
    **settings
        What FastAPI wants to know besides, for the OpenAPI description.
    """

    def __init__(self, method: str, path: str, rule: Rule, endpoint: Callable[..., Any], **settings: Any) -> None:
        if rule not in RULES:
            raise TypeError(f"{method} {path}: {rule!r} is not a rule of access")
        self.rule = rule
        settings.setdefault("openapi_extra", {"security": CREDENTIALS if rule is user else []})
        super().__init__(path, endpoint, methods=[method], **settings)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind its rule."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.principal = await self.rule(request)
            return await handle(await JsonRequest.read(request) if self.body_field else request)

        return guarded
