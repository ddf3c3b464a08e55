"""Logging in and out of the console.

Whoever logs in proves who they are by a token, by a one-time code from the terminal, or by what else the authenticators
offer: a name and a password, or another page that sends the browser back. From then on the browser bears a session
cookie. Where it was going is remembered in ``next``, which may name a path of ours and nothing else.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import recognise
from tidegate.api.address import address_of
from tidegate.api.login import TERMINAL
from tidegate.api.services import services_of
from tidegate.authn.base import BrowserLogin, PasswordLogin, Presented
from tidegate.authn.flows import COOKIE as FLOW_COOKIE
from tidegate.authn.flows import FLOW_SECONDS, Flow
from tidegate.authn.sessions import SESSION_SECONDS
from tidegate.console.render import page
from tidegate.model.errors import LoginFailed, NotVisible
from tidegate.model.principal import Principal

_OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")
"""A path of this host: browsers read ``//x`` and ``/\\x`` as another host, and skip control characters."""


def safe_next(text: str | None) -> str:
    """Return the path to go on to, or the first page when ``text`` is anything else than a path of ours."""
    return text if text and len(text) <= 2000 and _OWN_PATH.fullmatch(text) else "/"


def login_link(request: Request) -> str:
    """Return where to log in and then come back to what ``request`` asks for."""
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = quote(request.url.path + query, safe="")
    return f"{address_of(request).prefix}/login?next={wanted}"


async def show_login(request: Request) -> Response:
    """Show the login page; with ``?code=`` log in by a one-time code."""
    after = safe_next(request.query_params.get("next"))
    code = request.query_params.get("code")
    if code is None:
        return _login_page(request, after)
    principal = services_of(request).codes.redeem(code)
    if principal is not None:
        return _log_in(request, principal, after)
    words = "This link was used already or has expired. Log in another way, or ask the terminal for a new link."
    return _login_page(request, after, words)


async def log_in(request: Request) -> Response:
    """Log in by what the form brings: a token, or a name and a password."""
    form = await request.form()
    after = safe_next(str(form.get("next", "")))
    if "token" in form:
        presented = Presented("bearer", str(form["token"]).strip())
        principal = await recognise(request, presented)
        words = "The gateway does not know this token."
    else:
        principal = await _check_password(request, str(form.get("username", "")), str(form.get("password", "")))
        words = "The gateway does not know this name with this password."
    return _login_page(request, after, words) if principal is None else _log_in(request, principal, after)


async def begin_login(request: Request, method: str) -> Response:
    """Send the browser to the page by which the authenticator ``method`` knows people."""
    services = services_of(request)
    login = services.logins.get(method)
    if not isinstance(login, BrowserLogin):
        raise NotVisible("There is nothing here")
    address = address_of(request)
    begun = await login.begin(_return_url(request, method))
    flow = Flow(method, begun.secret, safe_next(request.query_params.get("next")))
    response = RedirectResponse(begun.url, 302)
    response.set_cookie(
        FLOW_COOKIE,
        services.flows.seal(flow),
        max_age=FLOW_SECONDS,
        path=f"{address.prefix}/login/{method}",
        secure=address.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


async def complete_login(request: Request, method: str) -> Response:
    """Take the browser back from there."""
    services = services_of(request)
    login = services.logins.get(method)
    if not isinstance(login, BrowserLogin):
        raise NotVisible("There is nothing here")
    flow = services.flows.open(request.cookies.get(FLOW_COOKIE))
    if flow is None or flow.method != method or flow.after == TERMINAL:
        return _login_page(request, "/", "This login took too long, or began in another browser: begin again.")
    try:
        principal = await login.complete(_return_url(request, method), flow.secret, dict(request.query_params))
    except LoginFailed as error:
        return _login_page(request, flow.after, error.message)
    response = _log_in(request, principal, flow.after)
    response.delete_cookie(FLOW_COOKIE, path=f"{address_of(request).prefix}/login/{method}")
    return response


async def log_out(request: Request) -> Response:
    """Forget the session."""
    address = address_of(request)
    response = RedirectResponse(f"{address.prefix}/login", 303)
    name = services_of(request).sessions.cookie_name(address.scheme, address.prefix)
    response.delete_cookie(
        name, path=address.prefix or "/", secure=address.scheme == "https", httponly=True, samesite="lax"
    )
    return response


async def _check_password(request: Request, username: str, password: str) -> Principal | None:
    for login in services_of(request).authenticators:
        if isinstance(login, PasswordLogin):
            principal = await login.check_password(username, password)
            if principal is not None:
                return principal
    return None


def _return_url(request: Request, method: str) -> str:
    address = address_of(request)
    return f"{address.origin}{address.prefix}/login/{method}/return"


def _login_page(request: Request, after: str, error: str | None = None) -> Response:
    logins = services_of(request).logins
    return page(
        request,
        "login.html",
        status=200 if error is None else 401,
        after=after,
        error=error,
        passwords=any(isinstance(login, PasswordLogin) for login in logins.values()),
        elsewhere=[(name, login.label) for name, login in logins.items() if isinstance(login, BrowserLogin)],
    )


def _log_in(request: Request, principal: Principal, after: str) -> Response:
    """Begin a session of ``principal``, who is as the authenticator said: what the configuration adds is not sealed."""
    address = address_of(request)
    sessions = services_of(request).sessions
    response = RedirectResponse(address.prefix + after, 303)
    response.set_cookie(
        sessions.cookie_name(address.scheme, address.prefix),
        sessions.seal(principal),
        max_age=int(SESSION_SECONDS),
        path=address.prefix or "/",
        secure=address.scheme == "https",
        httponly=True,
        # Lax: a link from a mail or a notebook opens the page logged in; a foreign form cannot act.
        samesite="lax",
    )
    return response
