"""Logging in from a terminal: a code is typed into the login provider's page, and a personal token is the outcome.

Between the questions nothing is kept here: what the provider has to be asked about goes to the terminal and comes back,
sealed. The provider takes it once.
"""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import JSONResponse

from tidegate.api.access import is_foreign
from tidegate.api.address import client_of
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.authn.base import DeviceLogin, Waiting
from tidegate.authn.flows import Flow
from tidegate.authn.limits import Attempt
from tidegate.model.errors import LoginFailed, NotAllowed, NotVisible
from tidegate.model.principal import Principal
from tidegate.wire import v2_tokens

TERMINAL = "a terminal"
"""What stands in a flow for the path to go on to: what began in a terminal is nothing that a browser could bring back,
and the other way round."""


async def begin_device(request: Request) -> v2_tokens.DeviceLogin:
    """Begin a login in a terminal."""
    _refuse_foreign(request)
    # Whoever begins makes the provider work, so each beginning counts like a wrong guess.
    with services_of(request).login_limits.judging(Attempt(client_of(request), b"", secrets.token_bytes(16))):
        return await _begin_device(request)


async def _begin_device(request: Request) -> v2_tokens.DeviceLogin:
    for method, login in services_of(request).logins.items():
        if isinstance(login, DeviceLogin):
            try:
                begun = await login.begin_device()
            except LoginFailed as error:
                raise NotAllowed(error.message) from None
            if begun is not None:
                facts_of(request).happened = False  # who it is comes out when it is complete
                return v2_tokens.DeviceLogin(
                    user_code=begun.user_code,
                    page=begun.page,
                    whole_page=begun.whole_page,
                    seconds=begun.seconds,
                    interval=begun.interval,
                    handle=services_of(request).flows.seal(Flow(method, begun.secret, TERMINAL)),
                )
    raise NotVisible("This gateway has no login for terminals")


async def complete_device(request: Request, body: v2_tokens.DeviceQuestion) -> JSONResponse:
    """Ask whether the code has been typed: 202 as long as it has not, then a new personal token."""
    _refuse_foreign(request)
    services = services_of(request)
    attempt = Attempt(client_of(request), b"", body.handle.encode("utf-8", "surrogatepass"))
    try:
        with services.login_limits.judging(attempt) as judged:
            found = await _ask_provider(request, body.handle)
            judged.right()
    except LoginFailed as error:
        # Not 401: no credential of this request was wrong.
        raise NotAllowed(error.message) from None
    if isinstance(found, Waiting):
        facts_of(request).happened = False
        return JSONResponse(v2_tokens.DeviceWaiting(slower=found.slower).model_dump(), 202)
    principal, wanted = services.roster.place(found), body.token
    facts_of(request).principal = principal
    token, secret = await services.tokens.create(principal, wanted.label, days=wanted.days, scope=wanted.scope)
    facts_of(request).detail = f"in a terminal, for which it made {token.id}, {token.scope.value}: {token.label}"
    return JSONResponse(v2_tokens.MintedToken.from_model(token, secret=secret).model_dump(mode="json"))


async def _ask_provider(request: Request, handle: str) -> Principal | Waiting:
    services = services_of(request)
    flow = services.flows.open(handle)
    login = services.logins.get(flow.method) if flow is not None and flow.after == TERMINAL else None
    if flow is None or not isinstance(login, DeviceLogin):
        raise NotVisible("There is no such login, or it took too long: begin again")
    if services.login_limits.asks_too_soon(handle):
        return Waiting(slower=True)
    return await login.complete_device(flow.secret)


def _refuse_foreign(request: Request) -> None:
    if is_foreign(request):
        raise NotAllowed("cannot log a terminal in from a page of another origin")
