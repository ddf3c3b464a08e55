"""What the proxy itself says: JSON for programs, a small page in words for people."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from http import HTTPStatus

from aiohttp import web

SERVER = "tidegate"

_STYLE = """:root{color-scheme:light dark} h1{font-size:1.5rem}
body{font:16px/1.5 system-ui,sans-serif;max-width:30rem;margin:4rem auto;padding:0 1rem}"""

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>{refresh}
<style>{style}</style></head>
<body><h1>{title}</h1><p>{text}</p>{link}</body>
</html>
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

_PAGE_HEADERS = {
    "Server": SERVER,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'self'; base-uri 'none'; "
        "form-action 'none'"
    ),
}


_V1_STATUS = {413: 422, 502: 500, 503: 500}
"""The official client drops the words of the former, and shows those of the latter."""

_V2_CODES = {413: "too-large", 503: "busy"}
"""As control calls the same; the others are called after their status."""


class Error(web.Response):
    """An error for a program: one sentence in JSON, until it is known which API was asked."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str]) -> None:
        own = {"Server": SERVER, "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store"}
        super().__init__(status=status, body=_json(message), headers={**own, **headers})
        self._message = message

    def take_form(self, path: str) -> None:
        """Take the form that the clients of the API at ``path`` (below the prefix) read."""
        if path.startswith("/api/v2/"):
            code = _V2_CODES.get(self.status) or HTTPStatus(self.status).phrase.lower().replace(" ", "-")
            self.body = _json({"code": code, "message": self._message, "field": None, "incident": None})
        elif path.startswith("/api/v1/"):
            self.set_status(_V1_STATUS.get(self.status, self.status))


def _json(error: object) -> bytes:
    return json.dumps({"error": error}).encode()


def error(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> Error:
    """Return an error for a program."""
    return Error(status, message, headers or {})


def page(
    status: int,
    title: str,
    text: str,
    *,
    link: tuple[str, str] | None = None,
    reload_seconds: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return a page for a person.

    Parameters
    ----------
    link : (url, words), optional
        Where to go from here.
    reload_seconds : int, optional
        After which the browser tries again by itself.
    """
    anchor = f'<p><a href="{escape(link[0])}">{escape(link[1])}</a></p>' if link else ""
    refresh = f'<meta http-equiv="refresh" content="{reload_seconds}">' if reload_seconds else ""
    body = _PAGE.format(style=_STYLE, title=escape(title), text=escape(text), link=anchor, refresh=refresh)
    own = {**_PAGE_HEADERS, "Content-Type": "text/html; charset=utf-8"}
    return web.Response(status=status, body=body.encode(), headers={**own, **(headers or {})})


def redirect(url: str, *, cookie: str | None = None) -> web.Response:
    """Send a browser elsewhere, with a cookie if one is to be set."""
    headers = {"Server": SERVER, "Location": url, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    if cookie is not None:
        headers["Set-Cookie"] = cookie
    return web.Response(status=302, headers=headers)


def is_navigation(request: web.BaseRequest) -> bool:
    """Whether a person's browser asks for a page to show, rather than a program or a script for data."""
    if request.method != "GET":
        return False
    mode = request.headers.get("Sec-Fetch-Mode")
    if mode is not None:
        return mode == "navigate"
    return "text/html" in request.headers.get("Accept", "")


def for_either(
    request: web.BaseRequest, status: int, title: str, message: str, *, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a page to a browser that wants to show one, else an error in JSON."""
    if is_navigation(request):
        return page(status, title, message, headers=headers)
    return error(status, message, headers=headers)
