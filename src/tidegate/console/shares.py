"""What the Sharing section of a cluster's page does: give and withdraw shares, make and withdraw links."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.api.shares import link_url
from tidegate.console.actions import go_to
from tidegate.console.forms import read_count
from tidegate.console.pages import show_cluster_page
from tidegate.console.views import MadeLink, view_moment
from tidegate.model.errors import Conflict, Invalid, NotAllowed
from tidegate.model.share import Right


async def give_share(request: Request, name: str) -> Response:
    """Let a user or a group see the cluster, or use it."""
    form = await _read_form(request)
    facts_of(request).detail = f"{_grantee(form)}: {form.get('right', '')}"
    try:
        await services_of(request).shares.give(caller(request), name, _grantee(form), _right(form.get("right", "")))
    except (Invalid, Conflict, NotAllowed) as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    return _to_section(request, name)


async def withdraw_share(request: Request, name: str) -> Response:
    """Withdraw what a user or a group was given."""
    form = await _read_form(request)
    facts_of(request).detail = _grantee(form)
    await services_of(request).shares.withdraw(caller(request), name, _grantee(form))
    return _to_section(request, name)


async def make_link(request: Request, name: str) -> Response:
    """Make a link to the dashboard. The page that answers shows it, once."""
    services, form = services_of(request), await _read_form(request)
    try:
        seconds = _seconds(form.get("seconds", ""))
        link, text = await services.shares.make_link(caller(request), name, seconds, form.get("label", ""))
    except (Invalid, Conflict, NotAllowed) as error:
        return await show_cluster_page(request, name, words=error.message, status=error.status)
    facts_of(request).detail = f"link {link.id}"
    made = MadeLink(link_url(request, text), view_moment(link.expires_at, services.clock()))
    return await show_cluster_page(request, name, link=made)


async def withdraw_link(request: Request, name: str, id: str) -> Response:
    """Withdraw a link."""
    facts_of(request).detail = f"link {id}"
    await services_of(request).shares.withdraw_link(caller(request), name, id)
    return _to_section(request, name)


def _grantee(form: Mapping[str, str]) -> str:
    return f"{form.get('kind', '')}:{form.get('name', '')}"


def _right(text: str) -> Right:
    try:
        return Right(text)
    except ValueError:
        raise Invalid(
            f"cannot share a cluster with the right {text[:40]!r}: choose view or use", field="right"
        ) from None


def _seconds(text: str) -> float:
    seconds = read_count(text)
    if isinstance(seconds, str):
        raise Invalid(f"cannot make a link for {text[:40]!r} seconds: that is no whole number", field="seconds")
    return float(seconds)


async def _read_form(request: Request) -> dict[str, str]:
    return {key: str(value).strip() for key, value in (await request.form()).items()}


def _to_section(request: Request, name: str) -> Response:
    return go_to(request, f"/clusters/{name}#sharing")
