"""Personal tokens, in our own protocol: make, list, revoke."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.requests import Request
from starlette.responses import Response

from tidegate.api.access import caller
from tidegate.api.audited import facts_of
from tidegate.api.services import services_of
from tidegate.wire import v2_tokens

User = Annotated[str | None, Query(max_length=255, description="Whose, for administrators; by default your own.")]


async def create_token(request: Request, body: v2_tokens.NewToken) -> v2_tokens.MintedToken:
    """Make a personal token. This answer has its secret; nobody can read it again."""
    tokens = services_of(request).tokens
    token, secret = await tokens.create(caller(request), body.label, days=body.days, scope=body.scope)
    facts_of(request).detail = f"{token.id}, {token.scope.value}: {token.label}"
    return v2_tokens.MintedToken.from_model(token, secret=secret)


async def list_tokens(request: Request, user: User = None) -> v2_tokens.TokenList:
    """List your personal tokens, newest first, also those that have expired."""
    found = await services_of(request).tokens.list(caller(request), user)
    return v2_tokens.TokenList(tokens=[v2_tokens.TokenBody.from_model(token) for token in found])


async def revoke_token(request: Request, id: str, user: User = None) -> Response:
    """Revoke a personal token: from now on it is refused."""
    facts_of(request).detail = id if user is None else f"{id} of {user}"
    await services_of(request).tokens.revoke(caller(request), id, user)
    return Response(status_code=204)
