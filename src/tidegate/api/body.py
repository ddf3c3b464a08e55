"""Reading a request's body: bounded, and strictly JSON.

The parser stops at a depth of 200 and does not know NaN or Infinity (they are not JSON, and a number that is not a
number satisfies no bound).
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from tidegate.model.errors import Invalid, TooLarge

BODY_LIMIT = 2**20
"""Bytes of a body. The longest that makes sense is an agent's report of 50,000 workers."""


def limit_body(scope: Scope, receive: Receive) -> Receive:
    """Return a ``receive`` that raises ``TooLarge`` as soon as it is known that the body is."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    announced = int(declared) if declared.isdigit() and len(declared) < 20 else 0
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if max(seen, announced) > BODY_LIMIT:
            raise TooLarge(f"cannot read the body: it is larger than {BODY_LIMIT:,} bytes")
        return message

    return limited


async def read_json(request: Request) -> Any:
    """Return the body as JSON.

    Raises
    ------
    Invalid
        When it is empty or not JSON; says where.
    """
    raw = await request.body()
    if not raw.strip():
        raise Invalid("cannot read the body: it is empty, and JSON is expected")
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise Invalid(f"cannot read the body as JSON: {error}") from None


async def read_object(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object."""
    body = await read_json(request)
    if not isinstance(body, dict):
        raise Invalid(f"cannot use the body: it must be a JSON object, not {_kind(body)}")
    return body


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


class JsonRequest(Request):
    """A request whose body has been read and parsed here, before FastAPI validates it against a model."""

    def __init__(self, request: Request, parsed: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._parsed = parsed

    @classmethod
    async def read(cls, request: Request) -> JsonRequest:
        """Read and parse the body of ``request``."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Invalid(f"cannot read a body of type {kind[:80]!r}: send JSON, as Content-Type: application/json")
        return cls(request, await read_json(request))

    async def body(self) -> bytes:
        """Return something that is not empty: only ``json`` counts."""
        return b"..."

    async def json(self) -> Any:
        """Return the parsed body."""
        return self._parsed
