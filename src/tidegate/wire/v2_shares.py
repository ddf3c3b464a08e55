"""Shares of a cluster and links to its dashboard, in our own protocol (see ``v2.py`` for its conventions)."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from tidegate.model.labels import LONGEST_LABEL
from tidegate.model.share import GranteeKind, Right, Share, ShareLink
from tidegate.wire.request import Request

# -- what is asked -----------------------------------------------------------------------------------------------------


class NewShare(Request):
    """What a grantee may do from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"right": "view"}, {"right": "use"}]})

    right: Right = Field(Right.VIEW, description="view: the dashboard and the logs; use: connect to it besides.")


class NewLink(Request):
    """A link to the dashboard to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"seconds": 3600, "label": "for the reviewers"}]}
    )

    seconds: float = Field(3600, allow_inf_nan=False, description="How long it is good; the gateway has a longest.")
    label: str = Field("", max_length=LONGEST_LABEL, description="What it is for, to be recognised by in a list.")


# -- what is answered --------------------------------------------------------------------------------------------------


class ShareBody(BaseModel):
    """What one grantee may do with a cluster."""

    grantee: str = Field(examples=["user:bob", "group:physics"])
    kind: GranteeKind
    name: str
    right: Right
    created_at: float
    created_by: str

    @classmethod
    def from_model(cls, share: Share) -> Self:
        """Return the JSON form of ``share``."""
        return cls(
            grantee=str(share.grantee),
            kind=share.grantee.kind,
            name=share.grantee.name,
            right=share.right,
            created_at=share.created_at,
            created_by=share.created_by,
        )


class ShareList(BaseModel):
    """Everybody a cluster is shared with, in the order in which they were first given something."""

    shares: list[ShareBody]


class LinkBody(BaseModel):
    """A link to a cluster's dashboard, without its address, which is told once."""

    id: str
    label: str
    expires_at: float
    created_at: float
    created_by: str

    @classmethod
    def from_model(cls, link: ShareLink, **more: str) -> Self:
        """Return the JSON form of ``link``."""
        return cls(
            id=link.id,
            label=link.label,
            expires_at=link.expires_at,
            created_at=link.created_at,
            created_by=link.created_by,
            **more,
        )


class MadeLink(LinkBody):
    """A link that was made this moment, with its address, which nobody can read again."""

    url: str = Field(repr=False, description="The whole address, a secret.")


class LinkList(BaseModel):
    """Links to a cluster's dashboard that are not withdrawn, newest first, without those that have expired."""

    links: list[LinkBody]
