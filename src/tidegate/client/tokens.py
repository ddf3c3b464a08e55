"""Personal tokens of whoever logs in at a gateway: make, list, revoke.

Beside ``Gateway`` and not in it: notebooks use tokens and hardly make any. A request that is sent twice, because its
answer was lost on the way, leaves a token whose secret nobody knows; it stands in the list until it is revoked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidegate.client.errors import GatewayValueError
from tidegate.client.gateway import Gateway

TOKENS = "/api/v2/tokens"

ID = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)
"""What can be a token's id at all; anything else would be another path."""


@dataclass(frozen=True)
class PersonalToken:
    """A personal token. Its secret is known in the moment of its making only; when it was last used, to the day."""

    id: str
    user: str
    label: str
    scope: str
    created: datetime
    expires: datetime | None
    used: datetime | None = None
    secret: str | None = field(default=None, repr=False)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> PersonalToken:
        """Return the token that the gateway tells of."""
        ends, used = body["expires_at"], body.get("used_at")
        return cls(
            id=body["id"],
            user=body["user"],
            label=body["label"],
            scope=body["scope"],
            created=datetime.fromtimestamp(body["created_at"]),
            expires=None if ends is None else datetime.fromtimestamp(ends),
            used=None if used is None else datetime.fromtimestamp(used),
            secret=body.get("secret"),
        )

    @property
    def expired(self) -> bool:
        """Whether it is worth nothing any more."""
        return self.expires is not None and self.expires <= datetime.now()


def create_token(gateway: Gateway, label: str = "", *, days: float | None = None, scope: str = "full") -> PersonalToken:
    """Make a token and return it with its secret.

    Parameters
    ----------
    gateway : Gateway
        Says who asks.
    label : str, optional
        What it is for.
    days : float, optional
        How long it is good. By default as the gateway has it.
    scope : str, optional
        ``full``; ``read-only``, to see and read; or ``metrics``, for monitoring alone.
    """
    body = {"label": label, "days": days, "scope": scope}
    return PersonalToken.from_json(gateway.sync(gateway._http.request, "POST", TOKENS, json=body))


def list_tokens(gateway: Gateway, user: str | None = None) -> list[PersonalToken]:
    """Return your tokens, or for an administrator those of ``user``, newest first."""
    body = gateway.sync(gateway._http.request, "GET", TOKENS, params=_whose(user))
    return [PersonalToken.from_json(one) for one in body["tokens"]]


def revoke_token(gateway: Gateway, token_id: str, user: str | None = None) -> None:
    """Revoke one of your tokens, or for an administrator one of ``user``."""
    absent = GatewayValueError(
        f"cannot find token {token_id!r} at {gateway.address}: there is none of this id of yours"
    )
    if not ID.fullmatch(token_id):
        raise absent
    try:
        gateway.sync(gateway._http.request, "DELETE", f"{TOKENS}/{token_id}", params=_whose(user))
    except GatewayValueError as error:
        raise (absent if error.code == "not-found" else error) from None


def _whose(user: str | None) -> dict[str, str]:
    return {} if user is None else {"user": user}
