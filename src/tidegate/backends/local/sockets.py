"""Whose process listens on a port of this machine: what ``/proc`` tells (proc(5)).

The kernel's table of sockets says which of them listen where, each by its inode, and the descriptors of a process say
which inodes it holds. Both are read afresh, in some milliseconds: it blocks, so call it in a thread.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable
from itertools import islice
from pathlib import Path

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
