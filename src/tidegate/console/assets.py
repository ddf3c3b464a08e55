"""The files that pages refer to: style, htmx, the icon. Read once, served from memory, kept by browsers for good.

Their addresses bear a hash of their content, so that an upgrade is a new address and nobody has to empty a cache.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from tidegate.model.errors import NotVisible

_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    media_type: str
    version: str


def _read() -> dict[str, Asset]:
    found = {}
    for file in files("tidegate.console").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            content = file.read_bytes()
            found[file.name] = Asset(content, kind, hashlib.sha256(content).hexdigest()[:12])
    return found


ASSETS = _read()


def asset_path(name: str) -> str:
    """Return the path of a file, with the hash of its content."""
    return f"/console/static/{name}?v={ASSETS[name].version}"


async def show_icon(request: Request) -> Response:
    """Return the icon where browsers look for it that were told of none: on a dashboard below our own address."""
    icon = ASSETS["icon.svg"]
    return Response(icon.content, media_type=icon.media_type, headers={"Cache-Control": "public, max-age=86400"})


async def show_asset(request: Request, file: str) -> Response:
    """Return a file."""
    asset = ASSETS.get(file)
    if asset is None:
        raise NotVisible("There is nothing at this address")
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == asset.version else "no-cache"
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": kept})
