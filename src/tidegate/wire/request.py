"""What a body of our own protocol must keep to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Request(BaseModel):
    """A body that somebody sends: an unknown key is a mistake, and is named."""

    model_config = ConfigDict(extra="forbid")
