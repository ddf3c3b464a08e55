"""Connecting to a scheduler: to where the route says and nowhere else, and never to ourselves.

A route's host comes from the backend, but its port from an agent, which runs in a tenant's process. If the proxy
dialled one of its own listeners it would talk to itself, with an inside address, and each such connection would cost
two.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable

_KEEP_IDLE = 60
_KEEP_INTERVAL = 15
_KEEP_PROBES = 4
"""A peer that has vanished without a word is noticed after two minutes. TCP_USER_TIMEOUT would be sharper, but it also
cuts a peer that answers and only has no room, such as a notebook that was suspended."""

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class OwnAddress(OSError):
    """The address is one that we listen on ourselves."""


class OwnAddresses:
    """The addresses that this gateway listens on.

    Parameters
    ----------
    listeners : iterable of (host, port)
        As ``getsockname`` gives them.
    """

    def __init__(self, listeners: Iterable[tuple[str, int]] = ()) -> None:
        self._listeners = [(_parse(host), port) for host, port in listeners]

    def contain(self, host: str, port: int) -> bool:
        """Whether dialling this IP address and port would reach one of our listeners."""
        if port not in {own_port for _, own_port in self._listeners}:
            return False
        there = _parse(host)
        for own, own_port in self._listeners:
            if port != own_port:
                continue
            if there == own or there.is_unspecified or (own.is_unspecified and _is_of_this_machine(there)):
                return True
        return False


def _parse(host: str) -> IpAddress:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def _is_of_this_machine(address: IpAddress) -> bool:
    """Whether packets to this address stay here: only then can a socket be bound to it."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


async def dial(host: str, port: int, own: OwnAddresses) -> socket.socket:
    """Connect to a scheduler. The caller sets the deadline.

    Raises
    ------
    OSError
        Nothing answers there.
    OwnAddress
        It is one of our own listeners.
    """
    failure: OSError = OSError(f"cannot resolve {host!r}")
    for family, address in await _resolve(host, port):
        if own.contain(address, port):
            raise OwnAddress(f"cannot dial {address}:{port}: it is this gateway's own address")
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            tune(sock)
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _resolve(host: str, port: int) -> list[tuple[int, str]]:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, str(sockaddr[0])) for family, _, _, _, sockaddr in found]
    return [(socket.AF_INET if address.version == 4 else socket.AF_INET6, host)]


def tune(sock: socket.socket) -> None:
    """Set what every TCP connection here wants: small messages at once, and notice of a peer that vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_IDLE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEP_INTERVAL)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_PROBES)
