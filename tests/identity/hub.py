"""A real JupyterHub with its proxy, and a gateway as its external service below ``/services/dask-gateway``."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.gateways import GatewayProcess
from tests.identity.processes import Service, free_ports
from tests.support import eventually_sync

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".envs" / "hub"
NOTEBOOK = Path(__file__).with_name("notebook.py")

PASSWORD = "password-of-the-hub"
START_SECONDS = 60.0

CONFIG = """
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_api}"
c.ConfigurableHTTPProxy.command = ["{environment}/node_modules/.bin/configurable-http-proxy"]
c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = "{password}"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.allow_named_servers = True
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
c.Spawner.cmd = ["{python}", "{notebook}"]
c.Spawner.environment = {{
    "DASK_TIDEGATE__ADDRESS": "{address}",
    "DASK_TIDEGATE__AUTH__TYPE": "jupyterhub",
}}
c.JupyterHub.services = [
    {{
        "name": "dask-gateway",
        "url": "http://127.0.0.1:{gateway}",
        "api_token": "{service_token}",
        "oauth_redirect_uri": "{address}/login/jupyterhub/return",
        "oauth_no_confirm": True,
    }},
    {{"name": "tests", "api_token": "{admin_token}"}},
]
{roles}
c.JupyterHub.load_roles.append(
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:groups", "admin:servers", "tokens"]}}
)
"""

SCOPE = "access:services!service=dask-gateway"
ROLES = f"""
c.JupyterHub.load_roles = [
    {{"name": "user", "scopes": ["self", "{SCOPE}"]}},
    {{"name": "server", "scopes": ["users:activity!user", "access:servers!server", "{SCOPE}"]}},
    {{"name": "dask-gateway", "services": ["dask-gateway"], "scopes": ["list:users", "read:servers"]}},
]
"""

GATEWAY = """
prefix: /services/dask-gateway
public_url: {address}
proxy_address: 127.0.0.1:{gateway}
dashboards: {{mode: path}}
authentication:
  admin_groups: [operators]
  logins:
    jupyterhub:
      api_url: http://127.0.0.1:{hub}/hub/api
      service_name: dask-gateway
      api_token_file: hub-token
      cache: {cache}
ends: {{hub_server_stopped: true, hub_user_removed: true}}
proxy: {{workers: 1}}
"""

CACHE_SECONDS = 1.0


class Platform:
    """The Hub and the gateway.

    Parameters
    ----------
    folder : Path
        For everything that they keep.
    roles : str
        Lines of the Hub's configuration that say what its users may do.
    """

    def __init__(self, folder: Path, roles: str = ROLES) -> None:
        self.folder = folder
        self.roles = roles
        self.ports = dict(zip(("public", "hub", "proxy_api", "gateway"), free_ports(4), strict=True))
        self.origin = f"http://127.0.0.1:{self.ports['public']}"
        self.address = f"{self.origin}/services/dask-gateway"
        self._secrets = {name: secrets.token_hex(16) for name in ("service_token", "admin_token", "proxy_token")}
        self._hub: Service | None = None
        self._killed: list[Service] = []
        self.gateway = GatewayProcess(
            folder / "gateway", ["--config", "tidegate.yaml"], address=f"127.0.0.1:{self.ports['gateway']}"
        )

    # -- life ----------------------------------------------------------------------------------------------------------

    def start_hub(self) -> None:
        """Start the Hub and wait until it answers through its proxy."""
        if not (ENVIRONMENT / "bin" / "jupyterhub").exists():
            raise RuntimeError("there is no JupyterHub: run make test-identity")
        names = {**self.ports, **self._secrets, "folder": self.folder, "address": self.address, "roles": self.roles}
        places = {"environment": ENVIRONMENT, "python": sys.executable, "notebook": NOTEBOOK, "password": PASSWORD}
        (self.folder / "jupyterhub_config.py").write_text(CONFIG.format(**names, **places))
        environ = {
            "PATH": f"{ENVIRONMENT}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "CONFIGPROXY_AUTH_TOKEN": self._secrets["proxy_token"],
        }
        hub = self._hub = Service([f"{ENVIRONMENT}/bin/jupyterhub"], self.folder, environ)
        eventually_sync(lambda: self._answers() or not hub.runs, START_SECONDS, "the Hub answers")
        assert hub.runs, hub.log.read_text()

    def start_gateway(self) -> None:
        """Start the gateway."""
        home = self.gateway.home
        (home / "hub-token").write_text(self._secrets["service_token"])
        (home / "tidegate.yaml").write_text(
            GATEWAY.format(address=self.address, cache=CACHE_SECONDS, **self.ports),
        )
        self.gateway.start()

    def kill_hub(self) -> None:
        """Kill the Hub as the kernel does when memory runs out; its proxy and its services go on."""
        assert self._hub is not None
        self._hub.kill()

    def restart_hub(self, meanwhile: Callable[[], object]) -> None:
        """Kill the Hub; when ``meanwhile()`` is true start another, which finds the notebook servers of the first."""
        assert self._hub is not None
        self.kill_hub()
        self._killed.append(self._hub)
        eventually_sync(meanwhile, START_SECONDS, "the Hub is missed")
        self.start_hub()

    def stop_hub(self) -> None:
        """Stop the Hub, its proxy and its notebook servers."""
        if self._hub is not None:
            self._hub.stop()
        while self._killed:
            self._killed.pop().stop()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.origin}/hub/api/", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    # -- its people ----------------------------------------------------------------------------------------------------

    def ask_hub(self, method: str, path: str, **body: Any) -> Any:
        """Ask the Hub's API as its administrator."""
        headers = {"Authorization": f"token {self._secrets['admin_token']}"}
        answer = httpx.request(method, f"{self.origin}/hub/api{path}", headers=headers, json=body or None, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def add_user(self, name: str, *groups: str) -> None:
        """Make a user of the Hub."""
        self.ask_hub("POST", "/users", usernames=[name])
        for group in groups:
            self.ask_hub("POST", f"/groups/{group}")
            self.ask_hub("POST", f"/groups/{group}/users", users=[name])

    def token(self, user: str, **body: Any) -> str:
        """Make an API token of a user's, as the Hub's token page does."""
        made: str = self.ask_hub("POST", f"/users/{user}/tokens", note="test", **body)["token"]
        return made

    def secret(self, name: str) -> str:
        """Return a token that stands in the Hub's configuration."""
        return self._secrets[name]

    def start_notebook(self, user: str, name: str = "") -> dict[str, str]:
        """Start a user's notebook server; return the environment in which their programs run."""
        written = self.folder / "home" / user / "environment.json"
        written.unlink(missing_ok=True)
        self.ask_hub("POST", f"/users/{user}/servers/{name}" if name else f"/users/{user}/server")
        eventually_sync(written.exists, START_SECONDS, "the notebook server runs")
        environ: dict[str, str] = json.loads(written.read_text())
        return environ

    def run_python(self, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of a user's that knows nothing of the gateway but ``ADDRESS`` and what is passed here."""
        home = self.folder / "home" / "somebody"
        home.mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG")}
        return subprocess.run(
            [sys.executable, "-c", code],
            env=kept | {"HOME": str(home), "ADDRESS": self.address} | environ,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def call(self, path: str, token: str, scheme: str = "jupyterhub") -> httpx.Response:
        """Call the gateway through the Hub's proxy."""
        return httpx.get(f"{self.address}{path}", headers={"Authorization": f"{scheme} {token}"}, timeout=20)

    def status_until(self, wanted: int, token: str, seconds: float) -> float:
        """Call until the gateway answers so; return after how many seconds it did."""
        started = time.monotonic()
        eventually_sync(lambda: self.call("/api/v2/clusters", token).status_code == wanted, seconds, f"status {wanted}")
        return time.monotonic() - started


@contextmanager
def running(folder: Path, roles: str = ROLES) -> Iterator[Platform]:
    """Start both, and see in the end that nothing is left."""
    folder.mkdir(parents=True, exist_ok=True)
    platform = Platform(folder, roles)
    try:
        platform.start_gateway()
        platform.start_hub()
        yield platform
        platform.gateway.stop()
    finally:
        platform.stop_hub()
        platform.gateway.kill_everything()
