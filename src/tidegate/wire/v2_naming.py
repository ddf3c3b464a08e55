"""What an owner calls a cluster, in our own protocol. ``model/naming.py`` judges it, in its own words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from tidegate.model.naming import LABELS_LIMIT

_NULL = {"type": "null"}
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": LABELS_LIMIT}

Alias = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "string", "maxLength": 63}, _NULL]}),
    Field(
        description="What you call it: lower-case letters, digits, '-', '.' and '_', and no other cluster of "
        "yours that is not stopped. Wherever a path names a cluster, its owner can write this."
    ),
]

Labels = Annotated[
    Any, WithJsonSchema({"anyOf": [_LABELS, _NULL]}), Field(description="What you note of it, as text by name.")
]
