"""From a request to the audit log: what every route does is told by the route itself, not by its handler.

A route says which *deed* it is (``GuardedRoute``), and here is seen what came of it. A handler only adds what nobody
else can know, to ``facts_of(request)``: the name of the cluster that it made, the size that was set, who has just
logged in.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.address import client_of
from tidegate.api.services import services_of
from tidegate.authn.base import parse_authorization
from tidegate.model.audit import Deed, Entry, Outcome
from tidegate.model.errors import LimitReached, TidegateError
from tidegate.model.principal import Principal

_CODES = {
    401: "unauthenticated",
    403: "not-allowed",
    404: "not-found",
    409: "conflict",
    422: "invalid",
    429: "too-many-requests",
}
"""How errors are called that a handler has put into words itself."""

_REFUSED = frozenset({401, 403, 404, 429})


@dataclass(slots=True)
class Facts:
    """What is known of a request.

    Parameters
    ----------
    deed : Deed
        What it does, or tries to do.
    cluster : str
        The name of the cluster that it is about.
    detail : str
        What else it is about, in words.
    principal : Principal or None
        Who asks, as soon as that is known.
    claimed : str
        Who somebody says that they are who has not proved it.
    error : Exception or None
        Why it was not done, where the answer does not say so.
    happened : bool
        False where there turned out to be nothing to tell.
    """

    deed: Deed
    cluster: str = ""
    detail: str = ""
    principal: Principal | None = None
    claimed: str = ""
    error: Exception | None = None
    happened: bool = True


def facts_of(request: Request) -> Facts:
    """Return what is known of a request, to add to it."""
    facts: Facts = request.state.facts
    return facts


def tell_size(workers: object) -> str:
    """Return a number of workers that is asked for, whatever it is, in words."""
    return f"{workers} worker{'' if workers == 1 else 's'}"


def tell_keep(seconds: object) -> str:
    """Return for how long a cluster is to be kept, in words."""
    return "for its usual time" if seconds is None else f"for {seconds} s"


def tell_bounds(minimum: object, maximum: object, *, active: bool = True) -> str:
    """Return what is asked of adaptive scaling, in words."""
    if not active:
        return "not adaptive"
    low = 0 if minimum is None else minimum
    return f"adaptive, {low} to {'any number of workers' if maximum is None else tell_size(maximum)}"


async def audited(request: Request, deed: Deed, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Return what ``answer`` does, when it is on record what came of it."""
    facts = request.state.facts = Facts(deed, cluster=request.path_params.get("name", ""))
    try:
        response = await answer(request)
    except BaseException as error:
        status, code = _told(error)
        _note(request, facts, status, code)
        raise
    if facts.error is not None:
        _note(request, facts, *_told(facts.error))
    elif response.status_code >= 400:
        _note(request, facts, response.status_code, _CODES.get(response.status_code, f"http-{response.status_code}"))
    elif facts.happened and not facts.deed.quiet:
        entry = _entry(request, facts, Outcome.DONE, "")
        audit = services_of(request).audit
        if facts.deed.changes:
            await audit.record(entry)
        else:
            audit.note(entry)
    return response


def _note(request: Request, facts: Facts, status: int, code: str) -> None:
    if not facts.happened or (status == 401 and facts.deed is not Deed.LOGIN and not _presents_something(request)):
        return
    refused = status in _REFUSED or code == LimitReached.code
    if refused or not facts.deed.quiet:
        outcome = Outcome.REFUSED if refused else Outcome.FAILED
        services_of(request).audit.note(_entry(request, facts, outcome, code))


def _presents_something(request: Request) -> bool:
    """Whether the caller tries to prove who they are. Many clients ask without at first, to learn how it is done."""
    return "authorization" in request.headers or "cookie" in request.headers


def _told(error: BaseException) -> tuple[int, str]:
    match error:
        case TidegateError():
            return error.status, error.code
        case RequestValidationError():
            return 422, _CODES[422]
        case HTTPException():
            return error.status_code, _CODES.get(error.status_code, f"http-{error.status_code}")
        case Exception():
            return 500, "internal-error"
    # The caller went away or the gateway ends, and nobody waited for how it came out.
    return 500, "interrupted"


def _entry(request: Request, facts: Facts, outcome: Outcome, code: str) -> Entry:
    principal = facts.principal or Principal(facts.claimed or _claimed(request), method="")
    return Entry(
        at=services_of(request).clock(),
        deed=facts.deed,
        outcome=outcome,
        code=code,
        principal=principal.name,
        actor=principal.actor,
        method=principal.method,
        token=principal.token,
        cluster=facts.cluster,
        detail=facts.detail,
        address=client_of(request),
    )


def _claimed(request: Request) -> str:
    """Return the name that stands in a Basic credential which nobody has found right, or nothing."""
    presented = parse_authorization(request.headers.get("authorization"))
    if presented is None or presented.scheme != "basic":
        return ""
    try:
        name, colon, _ = base64.b64decode(presented.value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return ""
    # Without a colon it is no pair, and may be the secret alone.
    return name.decode("utf-8", "replace") if colon else ""
