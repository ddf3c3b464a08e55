"""What is looked at before anything is started: whether this gateway may open its port here, and has what it needs.

Each check ends in a sentence that says how to go on. They run in the supervisor, before the port is bound.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import ssl
from pathlib import Path

from tidegate.config.schema import Address, Settings
from tidegate.model.errors import TidegateError
from tidegate.store.folder import prepare_folder

NOFILE = 4096
"""Open files below which we warn: a spliced connection takes six (two sockets, two pipes), so this is 600 clients."""


class CannotServe(TidegateError):
    """The gateway cannot start here. The message says what to do."""

    code = "cannot-serve"


def check_address(settings: Settings) -> None:
    """Refuse to be reachable from other machines in the clear, and with dashboards that they could not open."""
    address = Address.parse(settings.address)
    if address.loopback:
        return
    if not settings.tls.enabled:
        raise CannotServe(
            f"cannot listen at {address}: other machines could reach it, and without TLS tokens and results would "
            "cross the network in the clear. Give a certificate in the configuration (tls: {cert: FILE, key: FILE}), "
            "or listen on loopback (--address 127.0.0.1:8000) behind a proxy that speaks TLS"
        )
    if settings.dashboards.mode == "host" and settings.dashboards.host is None:
        raise CannotServe(
            "cannot show dashboards on host names of their own: dashboards.host is not set, and {name}.localhost "
            "would reach the viewer's own machine. Set it to a pattern with a wildcard DNS entry, such as "
            "{name}.dask.example.org, or set dashboards.mode to path"
        )


def check_certificate(settings: Settings) -> None:
    """Refuse a certificate that cannot be loaded, before clients find out."""
    cert, key = settings.tls.cert, settings.tls.key
    if cert is None or key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ssl.SSLError, ValueError) as error:
        raise CannotServe(
            f"cannot use the certificate {cert} with the key {key}: {error}. Both must be PEM files that belong "
            "together, the key without a password"
        ) from None


def prepare_data(folder: Path) -> None:
    """Make the data folder and what lies in it, for nobody else to read."""
    prepare_folder(folder)
    if folder.stat().st_uid != os.getuid():
        raise CannotServe(f"cannot use {folder} for data: it belongs to another user. Choose your own with --data")
    for name in ("run", "logs"):
        (folder / name).mkdir(mode=0o700, exist_ok=True)


def lock(path: Path, sentence: str) -> int:
    """Take an exclusive lock that ends with this process; return its descriptor, or refuse with ``sentence``.

    The descriptor is not inherited by programs that are started, so a child that lives on does not hold it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise CannotServe(f"cannot lock {path}: {error.strerror}") from None
        raise CannotServe(sentence) from None
    return descriptor


def raise_open_files() -> str | None:
    """Allow this process and its children as many open files as it may have; return a warning if that is little."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY or hard >= NOFILE:
        return None
    return (
        f"Only {hard} files may be open in a process here: about {hard // 6} clients at a time. "
        f"Raise it with `ulimit -n {NOFILE}` before the start"
    )
