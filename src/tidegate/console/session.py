"""Logging in and out of the console.

Whoever logs in proves who they are by a token, by a one-time code from the terminal, or by what else the authenticators
offer: a name and a password, or another page that sends the browser back. From then on the browser bears a session
cookie. Where it was going is remembered in ``next``, which may name a path of ours and nothing else.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import read_session, recognise
from tidegate.api.address import address_of, client_of
from tidegate.api.audited import facts_of
from tidegate.api.login import TERMINAL
from tidegate.api.services import services_of
from tidegate.authn.base import BrowserLogin, PasswordLogin, Presented
from tidegate.authn.flows import FLOW_SECONDS, Flow, flow_cookie
from tidegate.authn.limits import Attempt
from tidegate.console.render import page
from tidegate.model.errors import Busy, LoginFailed, NotVisible
from tidegate.model.principal import Principal
from tidegate.wire.tickets import session_mark

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
        facts_of(request).happened = False
        return _login_page(request, after)
    services = services_of(request)
    with services.login_limits.judging(_attempt(request, code)) as judged:
        principal = services.codes.redeem(code)
        if principal is not None:
            judged.right()
            return _log_in(request, principal, after)
    words = "This link was used already or has expired. Log in another way, or ask the terminal for a new link."
    return _login_page(request, after, words)


async def log_in(request: Request) -> Response:
    """Log in by what the form brings: a token, or a name and a password."""
    form = await request.form()
    after = safe_next(str(form.get("next", "")))
    try:
        if "token" in form:
            presented = Presented("bearer", str(form["token"]).strip(), client_of(request))
            principal = await recognise(request, presented)
            words = "The gateway does not know this token."
        else:
            facts_of(request).claimed = str(form.get("username", ""))
            principal = await _check_password(request, str(form.get("username", "")), str(form.get("password", "")))
            words = "The gateway does not know this name with this password."
    except Busy as error:
        return _login_page(request, after, error.message, busy=error)
    return _login_page(request, after, words) if principal is None else _log_in(request, principal, after)


async def begin_login(request: Request, method: str) -> Response:
    """Send the browser to the page by which the authenticator ``method`` knows people."""
    services = services_of(request)
    login = services.logins.get(method)
    if not isinstance(login, BrowserLogin):
        raise NotVisible("There is nothing here")
    begun = await login.begin(_return_url(request, method))
    flow = Flow(method, begun.secret, safe_next(request.query_params.get("next")))
    address = address_of(request)
    response = RedirectResponse(begun.url, 302)
    response.set_cookie(
        flow_cookie(address.scheme),
        services.flows.seal(flow),
        max_age=FLOW_SECONDS,
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
    cookie = flow_cookie(address_of(request).scheme)
    flow = services.flows.open(request.cookies.get(cookie))
    if flow is None or flow.method != method or flow.after == TERMINAL:
        return _login_page(request, "/", "This login took too long, or began in another browser: begin again.")
    try:
        # What comes back is shown to the provider, so it is not for anybody to try out.
        with services.login_limits.judging(_attempt(request, flow.secret + request.url.query)) as judged:
            principal = await login.complete(_return_url(request, method), flow.secret, dict(request.query_params))
            judged.right()
    except LoginFailed as error:
        return _login_page(request, flow.after, error.message)
    response = _log_in(request, principal, flow.after)
    secure = address_of(request).scheme == "https"
    response.delete_cookie(cookie, secure=secure, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    """End the session, and the dashboards that were opened in it."""
    facts_of(request).principal = session = read_session(request)
    facts_of(request).happened = session is not None
    address = address_of(request)
    response = RedirectResponse(f"{address.prefix}/login", 303)
    services = services_of(request)
    name = session_cookie(request)
    if session is not None:
        services.sessions.end(request.cookies[name])
        await services.end_vouched(session_mark(name, request.cookies[name]))
    response.delete_cookie(
        name, path=address.prefix or "/", secure=address.scheme == "https", httponly=True, samesite="lax"
    )
    return response


async def _check_password(request: Request, username: str, password: str) -> Principal | None:
    services, client = services_of(request), client_of(request)
    name, secret = (text.encode("utf-8", "surrogatepass") for text in (username, password))
    # The same guess as in a header is the same guess.
    pair = base64.b64encode(name + b":" + secret).decode()
    with services.login_limits.judging(Attempt.of(Presented("basic", pair), client)) as judged:
        for login in services.authenticators:
            if isinstance(login, PasswordLogin):
                principal = await login.check_password(username, password, client)
                if principal is not None:
                    judged.right()
                    return principal
    return None


def _attempt(request: Request, proof: str) -> Attempt:
    """Return an attempt to prove who one is by what cannot be guessed."""
    return Attempt(client_of(request), b"", proof.encode("utf-8", "surrogatepass"))


def _return_url(request: Request, method: str) -> str:
    address = address_of(request)
    return f"{address.origin}{address.prefix}/login/{method}/return"


def _login_page(request: Request, after: str, error: str | None = None, *, busy: Busy | None = None) -> Response:
    logins = services_of(request).logins
    response = page(
        request,
        "login.html",
        status=busy.status if busy else 200 if error is None else 401,
        after=after,
        error=error,
        passwords=any(isinstance(login, PasswordLogin) for login in logins.values()),
        elsewhere=[(name, login.label) for name, login in logins.items() if isinstance(login, BrowserLogin)],
    )
    if busy:
        response.headers["Retry-After"] = f"{max(1, round(busy.retry_after))}"
    return response


def _log_in(request: Request, principal: Principal, after: str) -> Response:
    """Begin a session of ``principal``, who is as the authenticator said: what the configuration adds is not sealed."""
    facts_of(request).principal = principal
    services = services_of(request)
    response = RedirectResponse(address_of(request).prefix + after, 303)
    set_session(request, response, services.sessions.seal(principal, services.entries.of(principal)))
    return response


def session_cookie(request: Request) -> str:
    """Return the name of the cookie that bears the session."""
    address = address_of(request)
    return services_of(request).sessions.cookie_name(address.scheme, address.prefix)


def set_session(request: Request, response: Response, value: str) -> None:
    """Give the browser a session, in the place of the one that it has."""
    address, services = address_of(request), services_of(request)
    session = services.sessions.read(value)
    response.set_cookie(
        session_cookie(request),
        value,
        max_age=int(session.until - services.clock()) if session is not None else 0,
        path=address.prefix or "/",
        secure=address.scheme == "https",
        httponly=True,
        # Lax: a link from a mail or a notebook opens the page logged in; a foreign form cannot act.
        samesite="lax",
    )
