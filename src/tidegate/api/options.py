"""What users may choose when they create a cluster."""

from __future__ import annotations

from starlette.requests import Request

from tidegate.api.access import caller
from tidegate.api.services import services_of
from tidegate.wire import v2_options


async def list_options(request: Request) -> v2_options.Options:
    """List the options that you may set, with their defaults and bounds, in the order in which forms show them."""
    return v2_options.Options.from_model(services_of(request).clusters.options(caller(request)))
