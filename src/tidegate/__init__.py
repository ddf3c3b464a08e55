"""Tidegate: your own Dask clusters, on demand, through one secure address.

>>> from tidegate import Gateway  # doctest: +SKIP
>>> gateway = Gateway()  # doctest: +SKIP
>>> cluster = gateway.new_cluster()  # doctest: +SKIP

The names below are imported when they are first used: whoever imports a submodule, such as the command line or the
server, does not pay for the client and for distributed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.client.auth import BasicAuth, GatewayAuth, JupyterHubAuth, KerberosAuth, TokenAuth
    from tidegate.client.cluster import GatewayCluster
    from tidegate.client.errors import (
        GatewayAuthError,
        GatewayClusterError,
        GatewayConnectionError,
        GatewayError,
        GatewayServerError,
        GatewayValueError,
        GatewayWarning,
    )
    from tidegate.client.gateway import Gateway
    from tidegate.client.options import Options
    from tidegate.client.report import ClusterReport, ClusterStatus

    __version__: str

__all__ = [
    "BasicAuth",
    "ClusterReport",
    "ClusterStatus",
    "Gateway",
    "GatewayAuth",
    "GatewayAuthError",
    "GatewayCluster",
    "GatewayClusterError",
    "GatewayConnectionError",
    "GatewayError",
    "GatewayServerError",
    "GatewayValueError",
    "GatewayWarning",
    "JupyterHubAuth",
    "KerberosAuth",
    "Options",
    "TokenAuth",
]

_MODULES = {
    "auth": ("BasicAuth", "GatewayAuth", "JupyterHubAuth", "KerberosAuth", "TokenAuth"),
    # Both from where both are: whoever has a gateway will have a cluster, and not wait then for what makes one.
    "cluster": ("Gateway", "GatewayCluster"),
    "errors": (
        "GatewayAuthError",
        "GatewayClusterError",
        "GatewayConnectionError",
        "GatewayError",
        "GatewayServerError",
        "GatewayValueError",
        "GatewayWarning",
    ),
    "options": ("Options",),
    "report": ("ClusterReport", "ClusterStatus"),
}
_WHERE = {name: f"tidegate.client.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("tidegate")
    elif name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
