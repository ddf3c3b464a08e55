"""A gateway as browsers find it, with hosts of its own for dashboards.

On one machine they live on ``<name>.localhost``; on a platform below a wildcard domain, here *below* the console's own
host, where browsers send the console's cookies along with what the pages do.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dask
import httpx

from tests.e2e.gateways import GatewayProcess, serving
from tidegate import Gateway, TokenAuth
from tidegate.server.listener import find_living

DOMAIN = "gate.example.test"

CONFIG = f"""
public_url: https://{DOMAIN}
dashboards: {{host: "{{name}}.{DOMAIN}"}}
tls: {{cert: cert.pem, key: key.pem}}
"""


@dataclass
class Site:
    """A gateway as browsers and programs find it.

    Parameters
    ----------
    gateway : GatewayProcess
    port : int
        Where it listens.
    homes : list of str
        The addresses of the console.
    dashboard : str
        The address of a dashboard, with ``{name}``.
    domains : list of str
        The domains above that a page could set cookies for.
    certificate : Path, optional
        What programs are to trust.
    """

    gateway: GatewayProcess
    port: int
    homes: list[str]
    dashboard: str
    domains: list[str]
    certificate: Path | None = None

    def host(self, cluster: str) -> str:
        """Return the address of a cluster's dashboard."""
        return self.dashboard.replace("{name}", cluster)

    @property
    def local_url(self) -> str:
        """The address for programs on this machine."""
        return f"{urlsplit(self.dashboard).scheme}://127.0.0.1:{self.port}"

    @contextmanager
    def notebook(self, token: str) -> Iterator[Gateway]:
        """Return somebody's notebook."""
        trust = dask.config.set({"tidegate.ca-file": str(self.certificate) if self.certificate else None})
        with trust, Gateway(self.local_url, f"127.0.0.1:{self.port}", auth=TokenAuth(token)) as user:
            yield user

    def records(self) -> dict[str, Any]:
        """Return what the gateway has on record of each cluster that is wanted: state, sizes, and who else sees it."""
        clusters = self.ask(f"{self.homes[0]}/api/v2/clusters?of=all", **self.gateway.headers).json()["clusters"]
        told = ("state", "workers", "max_workers", "shares", "links")
        return {c["name"]: [c[key] for key in told] for c in clusters if c["target"] == "running"}

    def tokens(self, user: str) -> int:
        """Return how many tokens somebody has."""
        found = self.ask(f"{self.homes[0]}/api/v2/tokens?user={user}", **self.gateway.headers)
        return len(found.json()["tokens"])

    def share(self, cluster: str, user: str) -> None:
        """Let somebody see a cluster of the first user."""
        url = f"{self.local_url}/api/v2/clusters/{cluster}/shares/user:{user}"
        httpx.put(url, json={"right": "view"}, headers=self.gateway.headers, verify=False).raise_for_status()

    def ask(self, url: str, **headers: str) -> httpx.Response:
        """Send a program's request to an address of this site, wherever that host is said to be."""
        parts = urlsplit(url)
        where = parts._replace(netloc=f"127.0.0.1:{self.port}").geturl()
        return httpx.get(where, headers={"Host": parts.netloc, **headers}, verify=False)

    def ask_for_socket(self, url: str, **headers: str) -> int:
        """Ask for a WebSocket; return the status of the answer."""
        handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        return self.ask(url, **handshake, **key, **headers).status_code


def loopback(gateway: GatewayProcess) -> Site:
    """All at its defaults. The console has two names here, and dashboards are below one of them."""
    port = urlsplit(gateway.url).port or 0
    homes = [gateway.url, f"http://localhost:{port}"]
    return Site(gateway, port, homes, f"http://{{name}}.localhost:{port}", ["localhost"])


@contextmanager
def wildcard(folder: Path) -> Iterator[Site]:
    """TLS, and the dashboards' hosts are of the same site as the console."""
    home = folder / "home"
    home.mkdir(parents=True)
    names = f"subjectAltName=IP:127.0.0.1,DNS:{DOMAIN},DNS:*.{DOMAIN}"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gateway"
    files = ["-keyout", str(home / "key.pem"), "-out", str(home / "cert.pem")]
    subprocess.run([*command.split(), "-addext", names, *files], check=True, capture_output=True)
    with serving(folder, CONFIG) as gateway:
        proxy, *_ = find_living(gateway.data / "run")
        home_url, dashboard = f"https://{DOMAIN}", f"https://{{name}}.{DOMAIN}"
        yield Site(gateway, proxy.address.port, [home_url], dashboard, [DOMAIN], home / "cert.pem")
