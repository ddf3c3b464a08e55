"""The proxy processes: as many as are set, started again when one dies, taken over from an earlier supervisor.

A proxy that an earlier supervisor started is not our child, but it is ours to look after: when it runs with the same
settings at the same address it is left alone, connections and all. One with other settings is told to drain: it serves
what it has to its end, while new ones accept what comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
import subprocess
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tidegate.config.schema import Address, Proxy, Settings
from tidegate.server.children import Say, describe_end, end, keep_running, last_words, start, wait, wait_for_pid
from tidegate.server.listener import LivingProxy, find_living
from tidegate.wire.proxy import PROTOCOL


def proxy_settings(settings: Settings) -> dict[str, Any]:
    """Return what a proxy process reads from its standard input (``proxy/settings.py``), but for the listener."""
    tls = settings.tls
    content = {
        "run_dir": str(settings.data / "run"),
        "api_socket": str(settings.data / "run" / "api.sock"),
        "prefix": settings.prefix,
        "public_url": settings.public_url,
        "public_hosts": [host] if (host := public_host(settings)) else [],
        "trusted_proxies": list(settings.trusted_proxies),
        "dashboard_hosts": dashboard_host(settings),
        "tls_cert": str(tls.cert) if tls.cert else None,
        "tls_key": str(tls.key) if tls.key else None,
        "log_file": str(settings.data / "logs" / "proxy.log"),
        "limits": _share(settings.proxy),
    }
    # By this mark the next supervisor knows whether a living proxy is what it would start: settings and code.
    mark = hashlib.sha256(json.dumps([version("tidegate"), PROTOCOL, content]).encode()).hexdigest()[:16]
    return content | {"mark": mark}


def _share(proxy: Proxy) -> dict[str, Any]:
    """Return the limits of one process: its share of those for all, for none knows what the others have.

    Only not of what may come at once: one browser comes by one or two connections, and so to one or two processes.
    """
    count = proxy.processes
    return {
        "connections": math.ceil(proxy.connections / count),
        "connections_per_address": math.ceil(proxy.connections_per_address / count),
        "page_burst": proxy.page_burst,
        "pages_per_second": proxy.pages_per_second / count,
    }


def public_host(settings: Settings) -> str | None:
    """Return the host name in the address that users write, where one is set."""
    return urlsplit(settings.public_url).hostname if settings.public_url else None


def dashboard_host(settings: Settings) -> str | None:
    """Return the pattern of the dashboards' own host names; None where they live below the gateway's address."""
    dashboards = settings.dashboards
    if dashboards.mode == "path" or dashboards.host is not None:
        return dashboards.host if dashboards.mode != "path" else None
    seen = Address(public_host(settings) or Address.parse(settings.address).host, 0)
    return "{name}.localhost" if seen.loopback else None


def _fits(proxy: LivingProxy, address: Address, mark: str) -> bool:
    """Whether a living proxy is as good as a new one. One that is about to end serves what it has, and nobody else."""
    status = proxy.status
    serves = bool(status.get("accepting")) and not status.get("draining")
    return serves and proxy.address == address and status.get("mark") == mark


async def _tell(proxy: LivingProxy, *, accept: bool) -> bool:
    """Tell a proxy to drain; return whether it has heard."""
    with suppress(OSError):
        await asyncio.to_thread(proxy.ask, "drain", accept=accept)
        return True
    return False


class Proxies:
    """Keeps the wanted number of proxy processes running on one listening socket.

    Parameters
    ----------
    settings : mapping
        From ``proxy_settings``.
    listener : socket
        What they accept from.
    count : int
        How many are wanted.
    living : list of LivingProxy
        Those of an earlier supervisor.
    data : Path
        The data folder.
    say : callable
        Tells the person at the terminal.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        listener: socket.socket,
        count: int,
        living: list[LivingProxy],
        data: Path,
        say: Say,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._count = count
        self._run = data / "run"
        self._log = data / "logs" / "proxy.log"
        self._say = say
        host, port = listener.getsockname()[:2]
        self._adopted = [p for p in living if _fits(p, Address(host, port), settings["mark"])][:count]
        self._mine = {p.pid for p in self._adopted}
        self._started: list[subprocess.Popen[bytes]] = []

    async def run(self) -> None:
        """Keep them running until cancelled. Being cancelled ends none of them."""
        adopted = iter(self._adopted)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._count):
                tasks.create_task(keep_running("proxy", partial(self._one, next(adopted, None)), self._say))

    async def retire_others(self) -> None:
        """Let those that are not wanted take no more connections, now that others do.

        They are looked for anew: an earlier supervisor may have died with a proxy that was only just starting.
        """
        for proxy in await asyncio.to_thread(find_living, self._run):
            if proxy.pid not in self._mine:
                await _tell(proxy, accept=False)

    async def drain(self) -> None:
        """Tell all proxies to end as soon as nothing passes through them any more."""
        told = [p.pid for p in await asyncio.to_thread(find_living, self._run) if await _tell(p, accept=True)]
        # One that is only just starting cannot be told yet, and later there is nobody to do so.
        for process in self._started:
            if process.pid not in told:
                await end(process)

    async def give_up(self) -> None:
        """End those that were started here: nobody was told yet that there is a gateway."""
        for process in self._started:
            await end(process)

    async def _one(self, adopted: LivingProxy | None) -> str:
        """Wait for the end of one proxy, adopted or started; return how it ended."""
        if adopted is not None and adopted in self._adopted:
            self._adopted.remove(adopted)
            await wait_for_pid(adopted.pid)
            return "taken over, so nobody knows how"
        descriptor = self._listener.fileno()
        process = start(
            "tidegate.proxy",
            [str(descriptor)],
            log=self._log,
            descriptors=[descriptor],
            text=json.dumps(self._settings),
        )
        self._started = [*(p for p in self._started if p.poll() is None), process]
        self._mine.add(process.pid)
        return f"{describe_end(await wait(process))}; {last_words(self._log)}"
