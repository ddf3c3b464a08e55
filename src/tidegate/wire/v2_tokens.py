"""Personal tokens and logins in a terminal, in our own protocol (see ``v2.py`` for its conventions)."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tidegate.model.labels import LONGEST_LABEL
from tidegate.model.principal import Scope, Token
from tidegate.wire.request import Request

# -- what is asked -----------------------------------------------------------------------------------------------------


class NewToken(Request):
    """A personal token to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"label": "nightly report", "days": 30, "scope": "read-only"}]}
    )

    label: str = Field("", max_length=LONGEST_LABEL, description="What it is for, to be recognised by in a list.")
    days: float | None = Field(None, gt=0, le=100_000, description="Until it expires; null for the gateway's default.")
    scope: Scope = Scope.FULL


class DeviceQuestion(Request):
    """Whether the person has typed the code; the token that is then made is as ``token`` says."""

    handle: str = Field(max_length=8192, repr=False, description="As the answer that began the login gave it.")
    token: NewToken = NewToken(label="", days=None)


# -- what is answered --------------------------------------------------------------------------------------------------


class TokenBody(BaseModel):
    """A personal token, without its secret."""

    id: str
    user: str
    label: str
    scope: Scope
    created_at: float
    expires_at: float | None
    used_at: float | None = Field(description="When it was last used, to the day (of UTC); null for never.")

    @classmethod
    def from_model(cls, token: Token, **more: str) -> Self:
        """Return the JSON form of ``token``."""
        return cls(
            id=token.id,
            user=token.principal.name,
            label=token.label,
            scope=token.scope,
            created_at=token.created_at,
            expires_at=token.expires_at,
            used_at=token.used_at,
            **more,
        )


class MintedToken(TokenBody):
    """A personal token that was made this moment, with its secret, which nobody can read again."""

    secret: str = Field(repr=False)


class TokenList(BaseModel):
    """Personal tokens, newest first, also those that have expired."""

    tokens: list[TokenBody]


class DeviceLogin(BaseModel):
    """A login in a terminal that has begun: show the code and the page, and ask every ``interval`` seconds."""

    user_code: str
    page: str
    whole_page: str | None = Field(description="The page with the code in it already, where there is one.")
    seconds: float = Field(description="How long the code can be typed.")
    interval: float
    handle: str = Field(repr=False, description="A secret: whoever has it gets the token.")


class DeviceWaiting(BaseModel):
    """Nobody has typed the code yet; ``slower`` if you asked too soon."""

    slower: bool
