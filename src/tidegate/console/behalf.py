"""Acting on behalf of a user: an administrator chooses whom, and all pages are that user's until they stop.

The choice is sealed in the session (``authn/sessions.py``) and judged with each request (``api/access.py``), so it is
worth what the administrator's role is worth at that moment, and ends with the session. Beginning and stopping make
another session of it: what was opened before, as somebody else, ends.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller, read_session, session_of, stand_in
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.console.render import page
from tidegate.console.session import safe_next, session_cookie, set_session
from tidegate.model.errors import Conflict, Invalid, NotVisible
from tidegate.model.principal import Scope
from tidegate.wire.names import ON_BEHALF_HEADER
from tidegate.wire.tickets import session_mark


async def show_choice(request: Request) -> Response:
    """Show the form in which an administrator says on whose behalf they act. To anybody else it is not there."""
    return _choice_page(request)


async def begin(request: Request) -> Response:
    """Go on as the user whom the form names."""
    form = await request.form()
    name = str(form.get("user", "")).strip()
    admin = caller(request)
    try:
        stand_in(request, admin, name)
    except Invalid as error:
        return _choice_page(request, error=error)
    session = session_of(request)
    if session is None or admin.method != "session":
        raise Conflict(
            f"cannot act on behalf of {name} from here on: that is chosen in a browser that is logged in. A program "
            f"sends the header {ON_BEHALF_HEADER} with each request"
        )
    return await _go_on(request, name, safe_next(str(form.get("next", ""))))


async def end(request: Request) -> Response:
    """Go on as oneself. Whoever has lost the role meanwhile can do this, too."""
    session = session_of(request)
    if session is None or not session.behalf:
        facts_of(request).happened = False
        return RedirectResponse(f"{address_of(request).prefix}/", 303)
    facts_of(request).principal = read_session(request)
    return await _go_on(request, "", "/")


async def _go_on(request: Request, behalf: str, after: str) -> Response:
    services, before = services_of(request), request.cookies[session_cookie(request)]
    response = RedirectResponse(address_of(request).prefix + after, 303)
    set_session(request, response, services.sessions.change(before, behalf))
    await services.end_vouched(session_mark(session_cookie(request), before))
    return response


def _choice_page(request: Request, error: Invalid | None = None) -> Response:
    principal = caller(request)
    if not principal.admin:
        raise NotVisible("There is nothing here")
    return page(
        request,
        "behalf.html",
        status=error.status if error else 200,
        error=error.message if error else None,
        can_act=principal.scope is Scope.FULL,
    )
