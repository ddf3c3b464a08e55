"""What the gateway's own processes ask over the Unix socket; the proxy never forwards these paths from outside."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

from tidegate.api.access import authenticate
from tidegate.api.body import read_object
from tidegate.api.services import services_of
from tidegate.model.errors import Invalid, NotAllowed, NotVisible
from tidegate.model.permissions import Action


async def dashboard_access(request: Request) -> JSONResponse:
    """Tell a proxy whether the bearer of an ``Authorization`` header may look at a cluster's dashboard, and who it is.

    The header is the one that the proxy was given. What the bearer may not look at is 404.
    """
    name = await _text(request, "cluster")
    principal = await authenticate(request, session=False)
    try:
        await services_of(request).clusters.get(principal, name, Action.DASHBOARD)
    except NotAllowed as error:
        raise NotVisible(error.message) from None
    return JSONResponse({"user": principal.name})


async def _text(request: Request, field: str) -> str:
    value = (await read_object(request)).get(field)
    if not isinstance(value, str) or not value:
        raise Invalid(f"cannot use the body: {field} must be text", field=field)
    return value
