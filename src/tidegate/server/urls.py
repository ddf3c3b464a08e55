"""The addresses of the gateway: as users write it, and as a process on this machine dials it."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from tidegate.config.schema import Address, Settings

_DIALLED_AS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens everywhere is dialled here
"""What means "every address" to a listener means nothing to a client."""


def dialled(address: Address) -> Address:
    """Return where a process on this machine connects to for what listens at ``address``."""
    return Address(_DIALLED_AS.get(address.host, address.host), address.port)


def local_url(settings: Settings, address: Address) -> str:
    """Return the address for processes on this machine, prefix included."""
    scheme = "https" if settings.tls.enabled else "http"
    return f"{scheme}://{dialled(address)}{settings.prefix}"


def public_url(settings: Settings, address: Address) -> str:
    """Return the address that users write, prefix included."""
    return settings.public_url or local_url(settings, address)


def listener_uid(url: str) -> int | None:
    """Return as whom the gateway listens at ``url``, if callers can and should ask: in the clear, on this machine.

    All processes of the gateway that have to do with the listener run as the same user.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    is_loopback = host in ("localhost", "::1") or host.startswith("127.")
    return os.getuid() if parts.scheme == "http" and is_loopback else None
