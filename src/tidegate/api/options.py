"""What users may choose when they create a cluster."""

from __future__ import annotations

from starlette.requests import Request

from tidegate.api.services import services_of
from tidegate.wire import v2


async def list_options(request: Request) -> v2.Options:
    """List the options with their defaults and bounds, in the order in which forms show them."""
    options = services_of(request).clusters.options().options
    return v2.Options(options=[v2.OptionBody.from_model(option) for option in options])
