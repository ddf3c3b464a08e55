"""Whose process listens on a port of this machine: what the kernel tells.

It is asked which sockets listen where, each by its inode (sock_diag(7)), and the descriptors of a process say which
inodes it holds (proc(5)). Both are done afresh: it blocks, so call it in a thread.

Some sandboxes let nobody ask. Their table in ``/proc`` says the same, but is put together by a walk over all
connections that there could be.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from pathlib import Path

SOCK_DIAG = 4
"""NETLINK_SOCK_DIAG."""

BY_FAMILY = 20
"""SOCK_DIAG_BY_FAMILY, the kind of a request and of each answer."""

DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP."""

NLMSG_ERROR = 2

TCP_LISTEN = 10

HEAD = struct.Struct("=IHHII")
"""nlmsghdr: length, kind, flags, sequence, port."""

REQUEST = struct.Struct("=BBBBIHxx44x")
"""inet_diag_req_v2: family, protocol, extensions, padding, states, and of the socket's identity its own port."""

ANSWER = struct.Struct("=4x2s2x4s12x16x12x16xI")
"""inet_diag_msg: of the socket's identity port and IPv4 address, and at its end the inode."""

ANSWER_TIMEOUT = 1.0
"""Seconds for an answer. The kernel gives it at once, or not at all."""

TABLE = Path("/proc/net/tcp")
"""IPv4 only: that is where schedulers of this machine listen."""

LISTENS = "0A"
"""TCP_LISTEN, as the table has it. What a listener has accepted has its address too, and another state."""


def are_held(host: str, ports: Collection[int], pids: Iterable[int]) -> bool:
    """Return whether something listens on each of these ports, and nothing does that is not held by one of ``pids``.

    Parameters
    ----------
    host : str
        The IPv4 address that one would connect to. What listens on all addresses does not count.
    ports : collection of int
    pids : iterable of int
        The most likely first: no more of them are looked at than it takes.
    """
    try:
        listeners = {port: find_listeners(host, port) for port in ports}
    except OSError:
        with TABLE.open() as table:
            listeners = read_listeners(table, host, ports)
    if not all(listeners.values()):
        return False
    missing = set().union(*listeners.values())
    for pid in pids:
        missing -= _sockets_of(pid)
        if not missing:
            # Here, not before: to be asked for one more may cost whoever gives them a look at all processes.
            break
    return not missing


def find_listeners(host: str, port: int) -> set[str]:
    """Return the sockets that listen at exactly this address, as ``/proc/PID/fd`` names them; ask the kernel.

    Raises
    ------
    OSError
        It lets nobody ask.
    """
    wanted = port.to_bytes(2, "big"), socket.inet_aton(host)
    return {f"socket:[{inode}]" for found, address, inode in _ask_kernel(port) if (found, address) == wanted}


def _ask_kernel(port: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield port, address and inode of each TCP listener on ``port``."""
    request = REQUEST.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN, socket.htons(port))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as link:
        link.settimeout(ANSWER_TIMEOUT)
        link.send(HEAD.pack(HEAD.size + len(request), BY_FAMILY, DUMP, 1, 0) + request)
        while True:
            answer = link.recv(65536)
            while answer:
                length, kind, *_ = HEAD.unpack_from(answer)
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", answer, HEAD.size)
                    raise OSError(-code, os.strerror(-code))
                if kind != BY_FAMILY:  # The end.
                    return
                yield ANSWER.unpack_from(answer, HEAD.size)
                answer = answer[(length + 3) & ~3 :]


def read_listeners(table: Iterable[str], host: str, ports: Collection[int]) -> dict[int, set[str]]:
    """Return, for each port, the sockets that listen at exactly this address, as ``/proc/PID/fd`` names them."""
    # The kernel prints an address as one number, in the order in which this machine has its bytes.
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    wanted = {f"{number:08X}:{port:04X}": port for port in ports}
    found: dict[int, set[str]] = {port: set() for port in ports}
    for line in islice(table, 1, None):
        _, address, _, state, _, _, _, _, _, inode, *_ = line.split()
        if state != LISTENS:
            # Listeners stand first (proc_net_tcp.rst of the kernel). The rest may be thousands, at 15 us each.
            break
        if address in wanted:
            found[wanted[address]].add(f"socket:[{inode}]")
    return found


def _sockets_of(pid: int) -> set[str]:
    """Return what a process has open; nothing when it has ended."""
    folder = f"/proc/{pid}/fd"
    held = set()
    try:
        for fd in os.listdir(folder):
            held.add(_read_link(f"{folder}/{fd}"))
    except OSError:
        return set()
    return held


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:  # It was closed meanwhile.
        return ""
