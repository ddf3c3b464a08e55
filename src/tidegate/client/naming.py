"""What one calls a new cluster, and notes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.client.errors import GatewayValueError


@dataclass(frozen=True)
class Naming:
    """The alias and the labels that a new cluster shall have; the gateway judges them."""

    alias: str | None = None
    labels: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the request: none where nothing was said, so that older gateways understand it."""
        given: dict[str, Any] = {}
        if self.alias is not None:
            given["alias"] = str(self.alias)
        if self.labels is not None:
            if not isinstance(self.labels, Mapping):
                raise GatewayValueError('cannot label the cluster: give a mapping, such as labels={"project": "ice"}')
            given["labels"] = {str(key): str(value) for key, value in self.labels.items()}
        return given


NO_NAME = Naming()
