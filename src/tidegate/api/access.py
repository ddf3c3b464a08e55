"""Who is asking, and who may call which route.

A credential in the ``Authorization`` header is judged by the authenticators, and by nothing else: where one is given,
a session does not count. A browser's session counts by itself only for reading a page; for everything else the request
must demonstrably come from a page of this gateway, since browsers send cookies along with whatever a foreign page makes
them do. They do the same with a password that they were once told, so a request that a foreign page has made is refused
whatever it bears; programs do not say where they were when they made theirs.

An administrator may act on behalf of a user, by a header that names them, or by a choice that is sealed in their
session: the request is then judged as the user's, with what the administrator's credential is good for and no longer,
and whatever comes of it names both.

Every route declares one of the rules below beside its path, and which deed it is for the audit log; a ``GuardedRoute``
without a rule cannot be made, nor one that changes something without a deed. The rule is applied before anything of
the body is read. *Which clusters* the caller may see is not decided here but where they
are looked up (``model/permissions.py``).
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, get_type_hints
from urllib.parse import unquote

from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from tidegate.api.address import address_of, client_of
from tidegate.api.audited import audited, facts_of
from tidegate.api.body import JsonRequest
from tidegate.api.requests import ApiRequest
from tidegate.api.services import services_of
from tidegate.authn.base import NotAdmitted, Presented, parse_authorization
from tidegate.authn.limits import Attempt
from tidegate.authn.sessions import Session
from tidegate.model.audit import Deed
from tidegate.model.errors import Invalid, NotAllowed, NotVisible, Refused, TidegateError
from tidegate.model.principal import Principal, Scope
from tidegate.model.share import LONGEST_NAME
from tidegate.wire.names import ON_BEHALF_HEADER

Rule = Callable[[Request], Awaitable[Principal | None]]
"""Returns who is asking (None where nobody is needed), or raises."""


async def anyone(request: Request) -> None:
    """Open to all: the route shows nothing that belongs to anybody."""
    presented = read_authorization(request)
    if presented is not None and presented.scheme == "negotiate":
        # Whoever sends a ticket believes no answer without our proof, here neither.
        with suppress(TidegateError):
            await ask_authenticators(request, presented)


async def reader(request: Request) -> Principal:
    """For whoever has proved who they are, from a program or from a page of ours: the route only shows."""
    if is_foreign(request):
        raise Refused
    return await authenticate(request, session="authorization" not in request.headers and is_same_origin(request))


async def user(request: Request) -> Principal:
    """The same, but the route changes something or hands out credentials: a read-only token is not enough."""
    principal = await reader(request)
    if principal.scope is not Scope.FULL:
        raise NotAllowed(READ_ONLY)
    return principal


async def monitor(request: Request) -> Principal:
    """For administrators and their monitoring, which has a token for that alone."""
    if is_foreign(request):
        raise Refused
    principal = await authenticate(request, session=is_same_origin(request), metrics=True)
    if not principal.admin:
        raise NotAllowed("cannot show the figures of this gateway: only an administrator, or a token of theirs, may")
    return principal


async def page(request: Request) -> Principal:
    """For pages that a person reads: following a link from elsewhere may open them."""
    try:
        return await authenticate(request, session=True)
    except Refused:
        # Whoever has nothing to show is led to the login. That is nothing to tell.
        facts_of(request).happened = "authorization" in request.headers
        raise


async def form(request: Request) -> None:
    """For forms that log somebody in or out: open to all, but only from a page of ours."""
    if not is_same_origin(request):
        raise NotAllowed("cannot accept this form: it was not sent from a page of this gateway")


async def agent(request: Request) -> None:
    """For the agent of the cluster that the path names."""
    presented = read_authorization(request)
    if presented is None or presented.scheme != "token":
        raise Refused
    # 256 bits are out of reach of guessing, and what neighbours on the same host try must not keep agents waiting.
    await services_of(request).agents.check(request.path_params["name"], presented.value)


async def internal(request: Request) -> None:
    """For the operator's own processes, which reach the Unix socket without a proxy between."""
    if any(name in request.headers for name in ("x-forwarded-for", "x-forwarded-host", "forwarded")):
        raise NotVisible("There is nothing here")


RULES: tuple[Rule, ...] = (anyone, reader, user, monitor, page, form, agent, internal)

PROVED: tuple[Rule, ...] = (reader, user)
"""The rules of routes for programs that must know who is asking."""

READ_ONLY = (
    "cannot do this with a read-only token: it may see and read, but changes nothing, connects to no cluster and makes "
    "no other tokens. Use one of scope full"
)

METRICS_ALONE = (
    "cannot do this with a token of scope metrics: it is for reading the figures at /metrics, and for nothing else"
)

NOT_ON_BEHALF = (
    "cannot act on behalf of another user: that is for administrators, with a login or a token of scope full"
)

CREDENTIALS: list[dict[str, list[str]]] = [{"token": []}, {"basic": []}, {"session": []}]
"""What satisfies ``reader`` and ``user``, by the names that ``api/app.py`` describes."""


async def authenticate(request: Request, *, session: bool, metrics: bool = False) -> Principal:
    """Return who is asking, by the ``Authorization`` header or, where ``session`` says so, by the session.

    Raises
    ------
    Refused
        When nobody knows the caller; the words never tell what was wrong.
    NotAllowed
        When the credential is good for ``metrics`` alone, and they are not what is asked for.
    """
    chosen = ""
    if "authorization" in request.headers:
        presented = read_authorization(request)
        principal = await ask_authenticators(request, presented) if presented else None
    else:
        begun = await _vouched_session(request) if session else None
        principal, chosen = (services_of(request).roster.place(begun.principal), begun.behalf) if begun else (None, "")
    if principal is None:
        raise Refused
    facts_of(request).principal = principal
    if principal.scope is Scope.METRICS and not metrics:
        raise NotAllowed(METRICS_ALONE)
    if chosen:
        principal = stand_in(request, principal, chosen)
    name = request.headers.get(ON_BEHALF_HEADER)
    if name is None:
        return principal
    if is_foreign(request):
        raise Refused
    return stand_in(request, principal, unquote(name))


def stand_in(request: Request, admin: Principal, name: str) -> Principal:
    """Return the user ``name`` in place of the administrator who acts on their behalf.

    Raises
    ------
    NotAllowed
        When ``admin`` is none, or has no credential of full scope.
    Invalid
        When that is no name.
    """
    facts_of(request).detail = f"on behalf of {name}"
    if not admin.admin or admin.scope is not Scope.FULL:
        raise NotAllowed(NOT_ON_BEHALF)
    if not (0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip()):
        raise Invalid(
            f"cannot act on behalf of {name[:LONGEST_NAME]!r}: that is no name of a user (at most {LONGEST_NAME} "
            f"characters). The header {ON_BEHALF_HEADER} has it percent-encoded"
        )
    principal = services_of(request).roster.stand_in(admin, name)
    facts_of(request).principal, facts_of(request).detail = principal, ""
    return principal


async def ask_authenticators(request: Request, presented: Presented) -> Principal | None:
    """Return whom the first authenticator that knows the caller takes them for, in their role here, or None."""
    principal = await recognise(request, presented)
    return services_of(request).roster.place(principal) if principal else None


async def recognise(request: Request, presented: Presented) -> Principal | None:
    """Return the same without what the configuration adds: that is what may be kept, in a session.

    Raises
    ------
    TooManyAttempts
        When the caller was wrong too often.
    NotAdmitted
        When they may not use this gateway, or not any more.
    """
    services = services_of(request)
    with services.login_limits.judging(Attempt.of(presented, presented.client)) as judged:
        for authenticator in services.authenticators:
            try:
                accepted = await authenticator.authenticate(presented)
            except NotAdmitted as error:
                request.state.authentication_reply = error.reply
                raise
            if accepted is not None:
                judged.right()
                request.state.authentication_reply = accepted.reply
                if accepted.principal.token:
                    facts_of(request).principal = accepted.principal
                    services.entries.check(accepted.principal)
                return accepted.principal
    return None


def read_authorization(request: Request) -> Presented | None:
    """Return what the ``Authorization`` header presents, and whence, or None."""
    return parse_authorization(request.headers.get("authorization"), client_of(request))


def session_of(request: Request) -> Session | None:
    """Return the browser session that the request bears, or None; not whether what it was begun with is still good."""
    sessions, address = services_of(request).sessions, address_of(request)
    return sessions.read(request.cookies.get(sessions.cookie_name(address.scheme, address.prefix)))


def read_session(request: Request) -> Principal | None:
    """Return as whom the bearer of that session has been acting, to show it; whether they still may is not asked."""
    session, roster = session_of(request), services_of(request).roster
    if session is None:
        return None
    principal = roster.place(session.principal)
    return roster.stand_in(principal, session.behalf) if session.behalf else principal


async def _vouched_session(request: Request) -> Session | None:
    """Return the session that the request bears if what it was begun with is still good: the password, the token."""
    session, services = session_of(request), services_of(request)
    if session is None or not services.entries.still_hold(session):
        return None
    return session if await services.tokens.still_vouches_for(session.principal) else None


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


def _check_query(request: Request) -> None:
    """Refuse what is in no text; PostgreSQL has no place for it.

    Raises
    ------
    Invalid
        A value has it.
    """
    for name, value in request.query_params.multi_items():
        if "\0" in name or "\0" in value:
            raise Invalid("cannot read the query: a value in it has the character 0, which no text has", field=name)


class GuardedRoute(APIRoute):
    """A path with its handler, its rule and its deed.

    Parameters
    ----------
    method, path, rule, endpoint
        Who may do what, in the order in which one reads it.
    deed : Deed
        What that is called in the audit log. Whatever is no GET must say so.
    **settings
        What FastAPI wants to know besides, for the OpenAPI description.
    """

    def __init__(
        self,
        method: str,
        path: str,
        rule: Rule,
        endpoint: Callable[..., Any],
        *,
        deed: Deed = Deed.READ,
        **settings: Any,
    ) -> None:
        if rule not in RULES:
            raise TypeError(f"{method} {path}: {rule!r} is not a rule of access")
        if not isinstance(deed, Deed) or (method != "GET" and deed is Deed.READ):
            raise TypeError(f"{method} {path}: which deed is that, for the audit log?")
        self.rule = rule
        self.deed = deed
        self._method = method
        self._is_about_cluster = "/clusters/{name}" in path
        settings.setdefault("openapi_extra", {"security": CREDENTIALS if rule in PROVED else []})
        self._answer: Callable[[Request], Awaitable[Response]]
        super().__init__(path, endpoint, methods=[method], **settings)
        self.app = self._serve if self._is_plain() else AsyncExitStackMiddleware(self.app)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler behind its rule."""
        handle = self._call if self._is_plain() else super().get_route_handler()

        async def judge_and_handle(request: Request) -> Response:
            request.state.principal = await self.rule(request)
            _check_query(request)
            await self._resolve(request)
            return await handle(await JsonRequest.read(request) if self.body_field else request)

        async def guarded(request: Request) -> Response:
            begun = time.monotonic()
            try:
                return await audited(request, self.deed, judge_and_handle)
            finally:
                seconds = time.monotonic() - begun
                services_of(request).metrics.time_request(self._method, self.path, seconds)

        self._answer = guarded
        return guarded

    async def _serve(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        response = await self._answer(ApiRequest(scope, receive, send))
        await response(scope, receive, send)

    async def _resolve(self, request: Request) -> None:
        """Put the global name of a cluster into the path where its owner has written an alias of theirs.

        Here, so that whatever stands below a cluster's path, and the audit log, speak of the same cluster.
        """
        principal, path = request.state.principal, request.path_params
        if self._is_about_cluster and principal is not None:
            clusters = services_of(request).clusters
            path["name"] = facts_of(request).cluster = await clusters.resolve(principal, path["name"])

    def _is_plain(self) -> bool:
        """Whether FastAPI has nothing to do: the handler takes the request and the path, and returns the answer.

        To find that out anew for every request, and to prepare for what does not happen, would take as long as the
        handler of a list.
        """
        taken = inspect.signature(self.endpoint).parameters.keys()
        returned = get_type_hints(self.endpoint).get("return")
        answers = isinstance(returned, type) and issubclass(returned, Response)
        return answers and taken <= {"request", *self.param_convertors}

    async def _call(self, request: Request) -> Response:
        answer: Response = await self.endpoint(request, **request.path_params)
        return answer
