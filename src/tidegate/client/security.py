"""How a Dask client proves to a scheduler who it is, and reaches the right one.

All schedulers of a gateway are behind one address. Which one is meant stands in the TLS handshake, as the server name
(SNI): ``daskgateway-<name>``. The gateway passes the bytes through; the encryption ends in the scheduler. The
certificate there comes from an authority of this cluster alone, so whoever has one from it *is* the cluster, whatever
host name it bears.
"""

from __future__ import annotations

from typing import Any

from distributed.security import Security

from tidegate.client.config import Settings


class GatewaySecurity(Security):
    """Certificate and key of one cluster's client, and the server name under which it is reached.

    Parameters
    ----------
    certificate : str
        PEM of the client's certificate, and of the cluster's authority after it.
    key : str
        PEM of the key.
    sni : str
        The server name to ask for.
    gateway : Settings, optional
        How to talk to the gateway, which is asked when a connection is cut; by default what the configuration says.
    """

    def __init__(self, certificate: str, key: str, sni: str, gateway: Settings | None = None) -> None:
        super().__init__(
            require_encryption=True, tls_ca_file=certificate, tls_client_cert=certificate, tls_client_key=key
        )
        self.sni = sni
        self.gateway = gateway

    def get_connection_args(self, role: str) -> dict[str, Any]:
        """Return what ``distributed`` connects with; ``gateway`` means something to ``gateway://`` addresses alone."""
        return {**super().get_connection_args(role), "server_hostname": self.sni, "gateway": self.gateway}

    def __repr__(self) -> str:
        return f"GatewaySecurity<{self.sni}>"

    def _repr_html_(self) -> str:
        return f"<code>{self.sni}</code>"
