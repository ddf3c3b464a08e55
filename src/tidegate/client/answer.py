"""What a gateway answered, and what can be told from it before anybody knows what was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
"""Too many requests; and what the gateway, or a proxy before it, says while the gateway is restarted."""


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer; ``error`` is what the gateway says in it that went wrong."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, or None when it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def error(self) -> Mapping[str, Any]:
        """Return the gateway's own description of an error, or an empty mapping if this is not one."""
        body = self.json()
        error = body.get("error") if isinstance(body, dict) else None
        # Words alone come from the gateway's proxy, before it knows which API was meant; and, with a 404, from a server
        # of dask-gateway, which does not have ours.
        if isinstance(error, str) and self.status != 404:
            return {"message": error}
        return error if isinstance(error, dict) else {}

    @property
    def worth_another_try(self) -> bool:
        """Whether the same request may succeed in a moment."""
        return self.status in RETRIED_STATUSES and self.error.get("code") != "backend-failed"
