"""The one listening socket, bound once, and the proxies that accept from it and outlive who bound it.

The next supervisor gets it from the holder (``server/holder.py``). Connections that arrive meanwhile wait in the
socket's queue, whoever accepts them.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.config.schema import Address
from tidegate.server.preflight import CannotServe

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel cuts it to its own limit (``net.core.somaxconn``, 4096)."""

ANSWER_SECONDS = 5.0
"""How long a proxy may take to answer: it does nothing that waits."""


@dataclass
class LivingProxy:
    """A proxy process of an earlier supervisor that still runs.

    ``address`` is where it listens, as it said itself; ``settings`` is the mark of the settings that it runs with.
    """

    path: Path
    pid: int
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Where it listens."""
        return Address.parse(self.status["address"])

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Ask for one operation of ``wire/proxy.py``; raise ``OSError`` if it does not answer."""
        return _ask(self.path, op, **fields)


def find_living(run: Path) -> list[LivingProxy]:
    """Return the proxies that answer in this folder; what those that are gone left behind is removed."""
    living = []
    for path in sorted(run.glob("proxy-*.sock")):
        proxy = LivingProxy(path, int(path.stem.partition("-")[2] or 0))
        try:
            proxy.status = proxy.ask("status")
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        except OSError:
            continue  # it lives and does not answer: it is left alone
        else:
            proxy.pid = int(proxy.status["pid"])
            living.append(proxy)
    return living


def fits(there: Address, asked: Address) -> bool:
    """Whether a socket that is bound to one address is what is asked for."""
    return asked.port in (0, there.port) and there.host in _resolve(asked)


def bind(address: Address) -> socket.socket:
    """Bind and listen; say what to do where that fails."""
    host = _resolve(address)[0]
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    # A port whose last connections are still in TIME_WAIT may be taken; one on which someone listens may not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotServe(_why_not(address, error)) from None
    return listener


def bound_address(listener: socket.socket, asked: Address) -> Address:
    """Return the address with the port that is really bound."""
    return Address(asked.host, listener.getsockname()[1])


def _resolve(address: Address) -> list[str]:
    """Return the numeric addresses of a host, in the system's order of preference."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotServe(f"cannot listen at {address}: the name {address.host} is not known ({error})") from None
    return [str(where[0]) for *_, where in found]


def _why_not(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = Address(address.host, address.port + 1 if address.port < 65535 else 8000)
        return (
            f"cannot listen at {address}: another program has that port. "
            f"Stop it, or take another port, such as --address {other}"
        )
    if error.errno == errno.EACCES:
        return (
            f"cannot listen at {address}: ports below 1024 are not for ordinary users. "
            f"Take another one, such as --address {Address(address.host, 8443)}"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen at {address}: this machine has no address {address.host}"
    return f"cannot listen at {address}: {error.strerror}"


def _ask(path: Path, op: str, **fields: Any) -> dict[str, Any]:
    """Send one operation and return its answer."""
    received = b""
    with _connect(path) as link:
        link.settimeout(ANSWER_SECONDS)
        link.sendall(json.dumps({"id": 1, "op": op, **fields}).encode() + b"\n")
        while True:
            data = link.recv(65536)
            received += data
            *lines, received = received.split(b"\n")
            for answer in map(json.loads, lines):
                # Events come unasked, in between.
                if answer.get("id") == 1:
                    return dict(answer)
            if not data:
                raise ConnectionResetError(f"the proxy at {path} closed the connection")


def _connect(path: Path) -> socket.socket:
    """Connect to a Unix socket whose path may be longer than the 107 bytes that an address holds."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        link.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError:
        link.close()
        raise
    finally:
        os.close(folder)
    return link
