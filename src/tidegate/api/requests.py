"""A request whose headers are looked up, not searched for.

Who is asking, from where, and from which page is told by headers, a dozen of which are asked for in each request, most
of them absent. Starlette goes through all headers for each, which takes longer than the look into the database.
"""

from __future__ import annotations

from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Scope

_KEPT = "tidegate.headers"
"""Under which the headers are kept with the request: several objects may stand for one."""


class ApiRequest(Request):
    """A request."""

    @property
    def headers(self) -> Headers:
        """Its headers."""
        found: Headers | None = self.scope.get(_KEPT)
        if found is None:
            found = self.scope[_KEPT] = _FirstValues(self.scope)
        return found


class _FirstValues(Headers):
    """Headers by name; where one stands twice, the first value, as in Starlette."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._first = {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self._list)}

    def __getitem__(self, key: str) -> str:
        return self._first[key.lower()]

    def __contains__(self, key: Any) -> bool:
        return key.lower() in self._first

    def get(self, key: str, default: Any = None) -> Any:
        return self._first.get(key.lower(), default)
