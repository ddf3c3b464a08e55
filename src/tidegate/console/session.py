"""Logging in and out of the console.

Whoever logs in proves who they are by what the authenticators accept as a token, or by a one-time code from the
terminal; from then on the browser bears a session cookie. Where it was going is remembered in ``next``, which may name
a path of ours and nothing else.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import ask_authenticators
from tidegate.api.address import address_of
from tidegate.api.services import services_of
from tidegate.authn.base import Presented
from tidegate.authn.sessions import SESSION_SECONDS
from tidegate.console.render import page
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
        return page(request, "login.html", after=after, error=None)
    principal = services_of(request).codes.redeem(code)
    if principal is not None:
        return _log_in(request, principal, after)
    words = "This link was used already or has expired. Paste your token instead, or ask the terminal for a new link."
    return page(request, "login.html", status=401, after=after, error=words)


async def log_in(request: Request) -> Response:
    """Log in by the token that the form brings."""
    form = await request.form()
    after = safe_next(str(form.get("next", "")))
    presented = Presented("bearer", str(form.get("token", "")).strip())
    principal = await ask_authenticators(services_of(request).authenticators, presented)
    if principal is not None:
        return _log_in(request, principal, after)
    words = "The gateway does not know this token."
    return page(request, "login.html", status=401, after=after, error=words)


async def log_out(request: Request) -> Response:
    """Forget the session."""
    address = address_of(request)
    response = RedirectResponse(f"{address.prefix}/login", 303)
    name = services_of(request).sessions.cookie_name(address.scheme, address.prefix)
    response.delete_cookie(
        name, path=address.prefix or "/", secure=address.scheme == "https", httponly=True, samesite="lax"
    )
    return response


def _log_in(request: Request, principal: Principal, after: str) -> Response:
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
