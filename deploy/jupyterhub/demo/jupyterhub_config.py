"""The Hub of the demonstration: two users, one password, everything on loopback and in one folder.

It adds to the documented configuration what a site has already: a way to log in, a way to start servers, addresses.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821
# By its whole path: one that is not found would be passed over in silence.
load_subconfig(str(Path(__file__).resolve().parents[1] / "jupyterhub_config.py"))  # noqa: F821

FOLDER = Path(os.environ["PLATFORM_FOLDER"])

c.JupyterHub.bind_url = os.environ["PLATFORM_HUB"]
c.JupyterHub.hub_bind_url = os.environ["PLATFORM_HUB_INNER"]
c.ConfigurableHTTPProxy.api_url = os.environ["PLATFORM_PROXY_API"]
c.ConfigurableHTTPProxy.command = [os.environ["PLATFORM_PROXY"]]
c.ConfigurableHTTPProxy.pid_file = str(FOLDER / "proxy.pid")
c.JupyterHub.cookie_secret_file = str(FOLDER / "cookie-secret")
# Nothing that the Hub knows outlives it: the two users are named here, and their files are in their homes.
c.JupyterHub.db_url = "sqlite:///:memory:"

c.JupyterHub.authenticator_class = "shared-password"
c.SharedPasswordAuthenticator.user_password = os.environ.pop("PLATFORM_PASSWORD")
c.Authenticator.allowed_users = set(os.environ["PLATFORM_USERS"].split())

# Servers run as the account that started the demonstration, so its users need no accounts. They are kept apart by the
# gateway, and not by the operating system.
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = str(FOLDER / "home" / "{username}")
c.Spawner.cmd = [os.environ["PLATFORM_SINGLEUSER"]]
c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
c.Spawner.ip = "127.0.0.1"
# No `tidegate:` or `gateway:` section of the account that started this may get in between.
c.Spawner.env_keep = ["PATH", "LANG", "LC_ALL", "TMPDIR"]
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
