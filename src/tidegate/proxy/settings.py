"""What a proxy process is told at its start: one JSON object, from a file or standard input.

There is no secret in it: TLS keys are read from their files, and what is secret about a cluster comes over the control
channel. Unknown keys are refused, for a limit that is misspelt is a limit that is not there.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from tidegate.proxy.limits import Limits


class BadSettings(ValueError):
    """The settings cannot be used; the message names the key and the rule."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one proxy process.

    Parameters
    ----------
    run_dir : Path
        Where its control socket ``proxy-<pid>.sock`` appears.
    api_socket : Path or None
        Unix socket on which control serves HTTP. Default: ``api.sock`` in ``run_dir``.
    listen_fds : tuple of int
        Inherited descriptors of listening TCP sockets.
    prefix : str
        Path below which the gateway is mounted (``/services/dask-gateway``); it works without the prefix as well.
    public_url : str or None
        How people reach the gateway, prefix included. Default: the listener's own address.
    public_hosts : tuple of str
        Host names besides the loopback names under which a gateway that listens on loopback answers.
    trusted_proxies : tuple of str
        Addresses and networks of proxies before this one, whose ``X-Forwarded-For`` counts.
    dashboard_hosts : str or None
        Pattern of the host names of dashboards, with ``{name}`` for the cluster; None serves dashboards below
        ``/clusters/<name>/`` of the main host (path mode).
    frame_ancestors : str
        Who may show a dashboard in a frame: sources of the directive of the Content-Security-Policy.
    tls_cert, tls_key : Path or None
        PEM files; with them, everything that is not a cluster's connection is HTTPS.
    log_file : Path or None
        Default: standard error.
    log_level : str
    mark : str
        A word that ``status`` repeats: whoever started the process knows by it which settings it runs with.
    limits : Limits
    """

    run_dir: Path
    api_socket: Path | None = None
    listen_fds: tuple[int, ...] = ()
    prefix: str = ""
    public_url: str | None = None
    public_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    dashboard_hosts: str | None = "{name}.localhost"
    frame_ancestors: str = "'self'"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    log_file: Path | None = None
    log_level: str = "INFO"
    mark: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.listen_fds:
            raise BadSettings("cannot listen: give listen_fds, the descriptors of listening sockets")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise BadSettings("cannot use TLS: tls_cert and tls_key belong together")
        if self.prefix and (not self.prefix.startswith("/") or self.prefix.endswith("/")):
            raise BadSettings(f"cannot use the prefix {self.prefix!r}: it starts with a slash and ends without one")
        pattern = self.dashboard_hosts
        if pattern is not None and not (pattern.startswith("{name}.") and pattern.count("{") == 1):
            raise BadSettings(f"cannot use dashboard_hosts={pattern!r}: it is '{{name}}.' and a host name")
        if any(character in self.frame_ancestors for character in ";,\r\n"):
            raise BadSettings(f"cannot use frame_ancestors={self.frame_ancestors!r}: it is one directive's sources")

    @classmethod
    def from_json(cls, text: str, descriptors: tuple[int, ...] = ()) -> Settings:
        """Read settings from their JSON form; ``descriptors`` are listeners besides those that it names.

        Raises
        ------
        BadSettings
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise BadSettings(f"cannot read the settings: they are not JSON ({error})") from error
        if not isinstance(data, dict):
            raise BadSettings("cannot read the settings: they are one JSON object")
        _refuse_unknown(data, cls, "settings")
        limits = data.pop("limits", {})
        if descriptors:
            data["listen_fds"] = [*data.get("listen_fds", ()), *descriptors]
        _refuse_unknown(limits, Limits, "limits")
        try:
            return cls(**_typed(data), limits=Limits(**limits))
        except (TypeError, ValueError) as error:
            raise BadSettings(f"cannot use the settings: {error}") from error

    @property
    def api_path(self) -> Path:
        """Where control serves HTTP."""
        return self.api_socket or self.run_dir / "api.sock"


def _refuse_unknown(data: dict[str, Any], kind: type, what: str) -> None:
    known = {item.name for item in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - known):
        raise BadSettings(f"cannot use the {what}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}")


_PATHS = ("run_dir", "api_socket", "tls_cert", "tls_key", "log_file")
_TUPLES = ("listen_fds", "public_hosts", "trusted_proxies")


def _typed(data: dict[str, Any]) -> dict[str, Any]:
    typed = dict(data)
    for key in _PATHS:
        if typed.get(key) is not None:
            typed[key] = Path(typed[key])
    for key in _TUPLES:
        if key in typed:
            typed[key] = tuple(typed[key])
    return typed


@lru_cache(maxsize=1024)  # every request asks, and nearly all ask the same
def is_loopback(host: str) -> bool:
    """Whether an address that we listen on can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
