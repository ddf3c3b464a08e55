"""The reference page of the options: what one may choose here, by which name, and what each profile sets."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.console.render import page


async def show_options(request: Request) -> Response:
    """Show the options as the caller sees them."""
    options = services_of(request).clusters.options(caller(request))
    shown = options.shown()
    by_name = {option.name: option for option in shown}
    profiles = [
        (profile, [(by_name[name], value) for name, value in options.effect(profile).items()])
        for profile in options.profiles
    ]
    return page(request, "options.html", options=shown, profiles=profiles)
