"""No file descriptor is left: what cannot be served is refused or waits, and all is well as soon as there are some."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.chaos.operations import Subject, check_computes
from tests.chaos.victims import module
from tests.chaos.world import World
from tests.support import ANY_TLS, INTERVAL, eventually_sync
from tidegate.control.reconciler import DEFAULT_PACE

pytestmark = pytest.mark.timeout(240)

SILENT = 1000
LOOKS_SECONDS = DEFAULT_PACE.interval + 2
"""In which control looks at least once whether clusters still run, and for new proxies."""


@contextmanager
def exhausted(pid: int) -> Iterator[None]:
    """Let a process open no descriptor any more."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    # What is open stays open; the next number would be the lowest that is free.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(max(used) + 2)) - used), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def processor_seconds(pid: int) -> float:
    """Return what a process has used of a processor so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("role", ["tidegate.server.control", "tidegate.proxy"])
def test_a_process_without_descriptors_lives_on(world: World, subject: Subject, role: str) -> None:
    """It neither dies nor spins; connections that are there go on; new ones work again as soon as they can."""
    pids = module(role)(world, "")
    before = sum(map(processor_seconds, pids))
    with ExitStack() as stack:
        for pid in pids:
            stack.enter_context(exhausted(pid))
        until = time.monotonic() + LOOKS_SECONDS
        while time.monotonic() < until:
            with suppress(httpx.HTTPError):
                httpx.get(f"{world.gateway.url}/api/v2/clusters", headers=world.headers, timeout=1, verify=ANY_TLS)
            threading.Event().wait(INTERVAL)
        check_computes(subject)
        assert sum(map(processor_seconds, pids)) - before < 3, "it spins"

    assert module(role)(world, "") == pids, "it had to be started again"
    assert world.cluster(subject.name)["state"] == "running"
    subject.scale(2)


def test_a_thousand_silent_connections_keep_nobody_out(world: World, subject: Subject) -> None:
    """They are cut after a while; meanwhile others are served, also by a proxy that may not open many files."""
    proxies = module("tidegate.proxy")(world, "")
    where = urlsplit(world.gateway.url)
    silent = []
    try:
        for _ in range(SILENT):
            with suppress(OSError):
                silent.append(socket.create_connection((where.hostname or "", where.port or 0), timeout=5))
        assert httpx.get(f"{world.gateway.url}/api/v2/health", timeout=10).status_code == 200
        check_computes(subject)
        eventually_sync(lambda: all(_is_cut(one) for one in silent), 30, "the silent ones are cut")
    finally:
        for one in silent:
            one.close()
    assert module("tidegate.proxy")(world, "") == proxies


def _is_cut(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
