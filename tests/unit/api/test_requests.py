"""Headers by name, as Starlette gives them."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from tidegate.api.requests import ApiRequest

SCOPE = {
    "type": "http",
    "headers": [
        (b"host", b"first"),
        (b"x-name", b"J\xf6rg"),
        (b"host", b"second"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
    ],
}


def test_it_says_what_starlette_says():
    """Whatever the case of a name, and however often it stands there."""
    ours, theirs = ApiRequest(dict(SCOPE)), Request(dict(SCOPE))

    for name in ("host", "Host", "X-Name", "cookie", "authorization"):
        assert ours.headers.get(name) == theirs.headers.get(name)
        assert (name in ours.headers) == (name in theirs.headers)
        assert ours.headers.getlist(name) == theirs.headers.getlist(name)
    assert ours.headers == theirs.headers
    assert ours.headers["host"] == "first"
    assert ours.cookies == theirs.cookies == {"a": "1", "b": "2"}


def test_what_is_absent_is_absent():
    """With the default that was given, or an error."""
    headers = ApiRequest(dict(SCOPE)).headers

    assert headers.get("origin") is None
    assert headers.get("origin", "none") == "none"
    with pytest.raises(KeyError):
        headers["origin"]
