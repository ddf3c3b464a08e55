"""Whose process listens on a port of this machine: asked before a credential goes there in the clear.

Over plain HTTP on loopback nothing proves that what answers is the gateway. While it is down, any user of the machine
can listen on its port, and would be sent the tokens of whoever calls. So a gateway writes into the configuration that
it leaves for its user as which OS user it listens (``listener-uid``), and on Linux the kernel tells whose listener is
there (sock_diag(7); ``/proc/net/tcp`` says the same, but after a walk over every connection of the machine, which can
take tens of milliseconds). Where nobody said ``listener-uid``, as for every gateway that is somewhere else,
nothing is asked.

What is not on this machine's list, because it listens in another network namespace or does not listen at all, is left
to the connection itself. The agent asks the same of its gateway; it travels alone, and has this in its own words.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from tidegate.client.errors import GatewayServerError

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST_DUMP = 0x301
"""``NLM_F_REQUEST | NLM_F_DUMP``."""
TCP_LISTEN = 10

ANSWER_SECONDS = 1.0
"""The kernel answers at once, or not at all."""


def check_listener(address: str, uid: int) -> None:
    """Raise if what listens at ``address``, a URL, belongs to another OS user than ``uid``.

    Raises
    ------
    GatewayServerError
        It names both users.
    """
    parts = urlsplit(address)
    host, port = parts.hostname or "", parts.port or 80
    for found in _find_uids(host, port):
        if found != uid:
            raise GatewayServerError(
                f"cannot trust the gateway at {address}: the process that listens at {host}:{port} belongs to the user "
                f"{_user(found)}, not to {_user(uid)}, who started the gateway; nothing was sent. Start the gateway "
                "again, or tell the administrator of this machine"
            )


def find_listener(address: str) -> int | None:
    """Return which OS user listens at ``address``, a URL; None if nobody is found there, or not one alone."""
    parts = urlsplit(address)
    found = set(_find_uids(parts.hostname or "", parts.port or 80))
    return found.pop() if len(found) == 1 else None


def _find_uids(host: str, port: int) -> Iterator[int]:
    """Yield the owner of what gets connections to ``host``, for each of the addresses that the name stands for."""
    listeners = _listeners(port)
    for address in ("127.0.0.1", "::1") if host == "localhost" else (host,):
        # Who listens on every address gets what nobody on that address takes, and with IPv6 what comes by IPv4 too.
        ways = [address, "::"] if ":" in address else [address, f"::ffff:{address}", "0.0.0.0", "::"]  # noqa: S104
        found = next((listeners[key] for key in map(_encode, ways) if key in listeners), None)
        if found is not None:
            yield found


def _listeners(port: int) -> dict[bytes, int]:
    """Return the owner's uid of each listener on ``port``, by its address."""
    if not hasattr(socket, "AF_NETLINK"):  # not Linux
        return {}
    listeners: dict[bytes, int] = {}
    for family, length in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        with suppress(OSError):  # a sandbox that does not let us ask
            for address, uid in _ask_kernel(family, port):
                listeners[address[:length]] = uid
    return listeners


def _ask_kernel(family: int, port: int) -> Iterator[tuple[bytes, int]]:
    """Yield address and uid of each TCP listener on ``port``."""
    # inet_diag_req_v2: family, protocol, states, and of the socket's identity its own port.
    request = struct.pack("=BBBBIHxx44x", family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN, socket.htons(port))
    head = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as link:
        link.settimeout(ANSWER_SECONDS)
        link.send(head + request)
        while True:
            answer = link.recv(65536)
            while answer:
                length, kind = struct.unpack_from("=IH", answer)
                if kind != SOCK_DIAG_BY_FAMILY:  # the end, or an error
                    return
                # inet_diag_msg: of the socket's identity port and address, and further on the uid.
                found, address, uid = struct.unpack_from("=4x2s2x16s16x12x12xI", answer, 16)
                if int.from_bytes(found, "big") == port:
                    yield address, uid
                answer = answer[(length + 3) & ~3 :]


def _encode(address: str) -> bytes:
    """Return an IP address as the kernel has it."""
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _user(uid: int) -> str:
    import pwd  # here, for only Unix has it, and only Linux comes this far

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
