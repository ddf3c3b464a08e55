"""Which headers pass, which are dropped and which are set anew.

Both sides of the proxy are hostile: clients forge where they come from, dashboards are pages of a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from tidegate.wire.names import DASHBOARD_HEADER

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
    }
)
"""They speak of one connection, not of the message (RFC 9110, 7.6.1); we answer an expectation ourselves."""

_ORIGIN_OF_CLIENT = frozenset(
    {
        "forwarded",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-script-name",
    }
)
"""Only the proxy knows these; what a client says of them is a lie or a mistake."""

_HANDSHAKE = frozenset(
    {
        "sec-websocket-key",
        "sec-websocket-version",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-accept",
    }
)
"""Each of the two WebSocket connections makes its own."""

_SECRETS = frozenset(("cookie", "authorization", DASHBOARD_HEADER.lower()))
"""What must not reach a tenant's process, or not from a client."""

_FROM_DASHBOARD = frozenset(
    {
        "set-cookie",
        "set-cookie2",
        "service-worker-allowed",
        "clear-site-data",
        "strict-transport-security",
        "public-key-pins",
        "alt-svc",
        "nel",
        "report-to",
        "reporting-endpoints",
        "www-authenticate",
        "origin-agent-cluster",
        "referrer-policy",
        "server",
        "date",
    }
) | {DASHBOARD_HEADER.lower()}
"""What a dashboard could do to a browser beyond its own page: plant cookies and service workers, ask for a password in
our name, redirect or report the traffic of a whole domain."""


class BadHeader(ValueError):
    """A header that cannot be passed on."""


def to_api(
    headers: Headers, *, client: str, scheme: str, host: str, prefix: str, websocket: bool = False
) -> CIMultiDict[str]:
    """Return a request's headers for the API."""
    dropped = _dropped(headers) | _ORIGIN_OF_CLIENT | (_HANDSHAKE if websocket else frozenset())
    passed = CIMultiDict(
        (key, value)
        for key, value in _checked(headers)
        if (name := key.lower()) not in dropped and not name.startswith("x-forwarded-")
    )
    passed["Host"] = host
    passed["X-Forwarded-For"] = client
    passed["X-Forwarded-Proto"] = scheme
    passed["X-Forwarded-Host"] = host
    if prefix:
        passed["X-Forwarded-Prefix"] = prefix
    return passed


def from_api(headers: Headers) -> CIMultiDict[str]:
    """Return an answer's headers from the API."""
    dropped = _dropped(headers) | {"server", "date"}
    return CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in dropped)


def to_dashboard(headers: Headers, *, host: str, secret: str, websocket: bool = False) -> CIMultiDict[str]:
    """Return a request's headers for a cluster's dashboard."""
    dropped = _dropped(headers) | _ORIGIN_OF_CLIENT | _SECRETS | (_HANDSHAKE if websocket else frozenset())
    passed = CIMultiDict(
        (key, value)
        for key, value in _checked(headers)
        if (name := key.lower()) not in dropped and not name.startswith("x-forwarded-")
    )
    # The client's own host: Bokeh and Tornado compare it with a WebSocket's Origin.
    passed["Host"] = host
    passed[DASHBOARD_HEADER] = secret
    return passed


def from_dashboard(headers: Headers, extra: Mapping[str, str]) -> CIMultiDict[str]:
    """Return an answer's headers from a cluster's dashboard; ``extra`` is added to them."""
    dropped = _dropped(headers) | _FROM_DASHBOARD
    passed = CIMultiDict((key, value) for key, value in headers.items() if key.lower() not in dropped)
    passed["Referrer-Policy"] = "no-referrer"
    passed["X-Content-Type-Options"] = "nosniff"
    passed.extend(extra)
    return passed


def is_websocket(headers: Headers) -> bool:
    """Whether a request asks for a WebSocket."""
    if headers.get("Upgrade", "").lower() != "websocket":
        return False
    return "upgrade" in _tokens(headers.getall("Connection", ()))


def protocols_of(headers: Headers) -> tuple[str, ...]:
    """Return the WebSocket subprotocols that a client offers, in its order."""
    values = headers.getall("Sec-WebSocket-Protocol", ())
    return tuple(token for value in values for part in value.split(",") if (token := part.strip()))


def cookies_of(headers: Headers, name: str) -> list[str]:
    """Return every value of a cookie: another host of the same domain may have set a second one of that name."""
    pairs = (part.partition("=") for value in headers.getall("Cookie", ()) for part in value.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def _dropped(headers: Headers) -> frozenset[str] | set[str]:
    if "Connection" not in headers:
        return HOP_BY_HOP
    return HOP_BY_HOP | _tokens(headers.getall("Connection"))


def _tokens(values: Iterable[str]) -> set[str]:
    return {part.strip().lower() for value in values for part in value.split(",")}


def _checked(headers: Headers) -> Iterable[tuple[str, str]]:
    for key, value in headers.items():
        if not value.isascii():
            try:
                value.encode()  # the parser decodes bytes that are no UTF-8 to surrogates, which cannot be sent
            except UnicodeEncodeError:
                raise BadHeader(f"cannot pass on the header {key}: its value is not UTF-8") from None
        yield key, value
