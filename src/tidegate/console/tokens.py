"""The page of one's personal tokens: whoever logs in here makes them for their notebooks and programs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.authn.personal import DAY
from tidegate.console.render import page
from tidegate.console.views import view_token
from tidegate.model.errors import Invalid, LimitReached, NotAllowed, TidegateError
from tidegate.model.principal import Scope


async def show_tokens(request: Request) -> Response:
    """Show the caller's tokens, and the form for a new one."""
    return await _tokens_page(request)


async def create_token(request: Request) -> Response:
    """Make a token. The page that answers shows its secret, once."""
    form = {key: str(value).strip() for key, value in (await request.form()).items()}
    try:
        label = form.get("label", "")
        scope = Scope.READ_ONLY if "read-only" in form else Scope.FULL
        days = _read_days(form.get("days", ""))
        token, secret = await services_of(request).tokens.create(caller(request), label, days=days, scope=scope)
        facts_of(request).detail = f"{token.id}, {scope.value}: {token.label}"
    except (Invalid, NotAllowed, LimitReached) as error:
        return await _tokens_page(request, error=error)
    return await _tokens_page(request, secret=secret)


async def revoke_token(request: Request, id: str) -> Response:
    """Revoke a token."""
    facts_of(request).detail = id
    await services_of(request).tokens.revoke(caller(request), id)
    return RedirectResponse(f"{address_of(request).prefix}/tokens", 303)


async def _tokens_page(request: Request, **shown: Any) -> Response:
    services, principal, address = services_of(request), caller(request), address_of(request)
    now, lifetimes = services.clock(), services.tokens.lifetimes
    error: TidegateError | None = shown.get("error")
    return page(
        request,
        "tokens.html",
        address=f"{address.scheme}://{address.host}{address.prefix}",
        status=error.status if error else 200,
        tokens=[view_token(token, principal, now) for token in await services.tokens.list(principal)],
        can_change=principal.scope is Scope.FULL,
        default_days=lifetimes.default / DAY,
        longest_days=lifetimes.longest / DAY,
        error=error.message if error else None,
        secret=shown.get("secret"),
    )


def _read_days(text: str) -> float | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid("cannot make a token: its days must be a whole number", field="days")
    return float(text)
