"""When a cluster ends by itself, and keeping it from that, in our own protocol as JSON (see ``v2.py``)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tidegate.model.cluster import Cluster
from tidegate.model.ends import foreseen
from tidegate.wire.request import Request

Seconds = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]})]
"""A time span, judged by ``model.ends``."""


class KeepCluster(Request):
    """For how long to keep a cluster that nobody uses."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seconds": 28800}, {}]})

    seconds: Seconds = Field(None, description="At most what the gateway allows; null counts its usual time anew.")


class EndingBody(BaseModel):
    """An end that comes if nothing changes."""

    code: str = Field(description="Of the reason: idle, no-client, lifetime or budget.")
    at: float
    why: str = Field(examples=["nothing runs on it"])
    announced: bool = Field(description="Whether it is so near that its owner has been told.")
    can_be_kept: bool = Field(description="Whether work, or to keep it, calls it off.")

    @classmethod
    def from_model(cls, cluster: Cluster) -> EndingBody | None:
        """Return the end of ``cluster`` that comes first, if one is in sight."""
        ending = foreseen(cluster)
        if ending is None:
            return None
        announced = ending.code in cluster.activity.warned
        return cls(code=ending.code, at=ending.at, why=ending.why, announced=announced, can_be_kept=ending.can_be_kept)
