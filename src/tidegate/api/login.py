"""Logging in from a terminal: a code is typed into the login provider's page, and a personal token is the outcome.

Between the questions nothing is kept here: what the provider has to be asked about goes to the terminal and comes back,
sealed. The provider takes it once.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from tidegate.api.access import is_foreign
from tidegate.api.services import services_of
from tidegate.authn.base import DeviceLogin, Waiting
from tidegate.authn.flows import Flow
from tidegate.model.errors import LoginFailed, NotAllowed, NotVisible
from tidegate.wire import v2_tokens

TERMINAL = "a terminal"
"""What stands in a flow for the path to go on to: what began in a terminal is nothing that a browser could bring back,
and the other way round."""


async def begin_device(request: Request) -> v2_tokens.DeviceLogin:
    """Begin a login in a terminal."""
    _refuse_foreign(request)
    for method, login in services_of(request).logins.items():
        if isinstance(login, DeviceLogin):
            try:
                begun = await login.begin_device()
            except LoginFailed as error:
                raise NotAllowed(error.message) from None
            if begun is not None:
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
    flow = services.flows.open(body.handle)
    login = services.logins.get(flow.method) if flow is not None and flow.after == TERMINAL else None
    if flow is None or not isinstance(login, DeviceLogin):
        raise NotVisible("There is no such login, or it took too long: begin again")
    try:
        found = await login.complete_device(flow.secret)
    except LoginFailed as error:
        # Not 401: no credential of this request was wrong.
        raise NotAllowed(error.message) from None
    if isinstance(found, Waiting):
        return JSONResponse(v2_tokens.DeviceWaiting(slower=found.slower).model_dump(), 202)
    principal, wanted = services.roster.place(found), body.token
    token, secret = await services.tokens.create(principal, wanted.label, days=wanted.days, scope=wanted.scope)
    return JSONResponse(v2_tokens.MintedToken.from_model(token, secret=secret).model_dump(mode="json"))


def _refuse_foreign(request: Request) -> None:
    if is_foreign(request):
        raise NotAllowed("cannot log a terminal in from a page of another origin")
