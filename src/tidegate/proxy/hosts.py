"""What a Host header asks for: the gateway itself, one cluster's dashboard, or something that we are not.

The host decides what a page may do. Everything of a tenant lives on a host name of its own, where the console's cookie
is not sent and where nothing reaches control. And a gateway that listens on loopback answers to loopback names only: a
web page from anywhere may point a name of its own at 127.0.0.1 (DNS rebinding) and would then, to the browser, be of
the same origin as our API; it cannot, though, make the browser send another Host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from tidegate.proxy.settings import is_loopback

CLUSTER_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,49}[a-z0-9])?")
"""A cluster's name is a DNS label, of at most 51 characters so that the SNI prefix fits before it."""

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class MainHost:
    """The gateway: API, console."""


@dataclass(frozen=True, slots=True)
class DashboardHost:
    """One cluster's dashboard."""

    cluster: str


@dataclass(frozen=True, slots=True)
class ForeignHost:
    """A name that we do not answer to."""


@dataclass(frozen=True, slots=True)
class InvalidHost:
    """No host name at all."""


Asked = MainHost | DashboardHost | ForeignHost | InvalidHost


class HostRule:
    """Tells hosts apart.

    Parameters
    ----------
    loopback : bool
        Whether all listeners are on loopback addresses.
    public_hosts : iterable of str
        Names that are the gateway besides.
    dashboard_hosts : str or None
        ``{name}.`` and a domain; None when dashboards have no hosts of their own.
    """

    def __init__(self, *, loopback: bool, public_hosts: Iterable[str], dashboard_hosts: str | None) -> None:
        self._loopback = loopback
        self._public = {host.lower().rstrip(".") for host in public_hosts}
        self._domain = None if dashboard_hosts is None else dashboard_hosts.removeprefix("{name}").lower()
        # Every request asks, and nearly all of them ask the same.
        self._remembered = lru_cache(maxsize=1024)(self._judge)

    def ask(self, host: str | None) -> Asked:
        """Say what a Host header asks for."""
        return self._remembered(host or "")

    def _judge(self, host: str) -> Asked:
        match = _HOST.fullmatch(host)
        if match is None:
            return InvalidHost()
        name = match["name"].lower().rstrip(".")
        if name in self._public:
            return MainHost()
        if self._domain is not None and name.endswith(self._domain):
            cluster = name.removesuffix(self._domain)
            return DashboardHost(cluster) if CLUSTER_NAME.fullmatch(cluster) else ForeignHost()
        if not self._loopback or name == "localhost" or is_loopback(name.strip("[]")):
            return MainHost()
        return ForeignHost()


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of ``origin`` was served by ``host`` (a Host header): a scheme may be told wrongly, a host not."""
    scheme, separator, authority = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    default = ":80" if scheme == "http" else ":443"
    return authority.lower().removesuffix(default) == host.lower().removesuffix(default)
