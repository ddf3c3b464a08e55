"""The figures for a monitoring system: Prometheus reads them as they are."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.services import services_of
from tidegate.telemetry.metrics import CONTENT_TYPE


async def show_metrics(request: Request) -> Response:
    """Show what there is and what was counted."""
    return Response(await services_of(request).figures.read(), media_type=CONTENT_TYPE)
