"""What the gateway says about itself: health, version, who the caller is, and the description of its API."""

from __future__ import annotations

import logging
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from tidegate.api.access import caller
from tidegate.api.address import address_of
from tidegate.api.services import VERSION, services_of
from tidegate.wire import v2

log = logging.getLogger(__name__)


async def health(request: Request) -> JSONResponse:
    """Say whether the gateway can serve: 503 when its database does not answer."""
    try:
        await services_of(request).store.last_event_id()
    except Exception:
        log.exception("the health check failed: the store does not answer")
        return JSONResponse({"status": "fail"}, status_code=503)
    return JSONResponse({"status": "pass"})


async def version(request: Request) -> v2.Version:
    """Tell the version, and where schedulers are reached when that is not the gateway's own address."""
    return v2.Version(version=VERSION, proxy_address=services_of(request).proxy_address)


async def whoami(request: Request) -> v2.WhoAmI:
    """Tell who the gateway takes the caller for."""
    return v2.WhoAmI.from_model(caller(request))


async def openapi(request: Request) -> JSONResponse:
    """Describe this API in the OpenAPI format."""
    schema: dict[str, Any] = request.app.openapi()
    return JSONResponse(schema | {"servers": [{"url": address_of(request).prefix or "/"}]})
