"""What a JupyterHub needs for the gateway: add this to your own jupyterhub_config.py, or load this file from there.

    load_subconfig("/etc/jupyterhub/dask_gateway_config.py")

It says nothing about how people log in, or how their servers are started: that is yours. The other half is
tidegate.yaml beside this file. `make platform` loads this very file, with the addresses of a demonstration.

The gateway is a service of its own (systemd, say), not one that the Hub starts: a restart of the Hub then costs no
cluster anything, and the gateway can have an account, and a machine, of its own.
"""

import os
from pathlib import Path

c = get_config()  # noqa: F821

# Change these three. A demonstration sets them from outside.
HUB = os.environ.get("PLATFORM_HUB", "https://hub.example.org")  # as users write it
GATEWAY = os.environ.get("PLATFORM_GATEWAY", "127.0.0.1:8000")  # as this machine reaches it: `address` in tidegate.yaml
TOKEN_FILE = os.environ.get("PLATFORM_TOKEN_FILE", "/etc/jupyterhub/dask-gateway-token")  # openssl rand -hex 32

ADDRESS = f"{HUB}/services/dask-gateway"

# -- the service -------------------------------------------------------------------------------------------------------

c.JupyterHub.services.append(
    {
        "name": "dask-gateway",
        "display": True,  # in the Hub's menu: the console, where users see their clusters
        # The Hub's proxy leads /services/dask-gateway/ there, path and all. A gateway that is not up yet delays the
        # start of the Hub by 30 s.
        "url": f"http://{GATEWAY}",
        # What the gateway is known by at the Hub. It serves logins in a browser, and the questions of the last role.
        "api_token": Path(TOKEN_FILE).read_text().strip(),
        # Logins in a browser (OAuth): the whole address, for the Hub compares it letter by letter. Users are not asked
        # whether the gateway may know who they are: it is a part of the platform.
        "oauth_redirect_uri": f"{ADDRESS}/login/jupyterhub/return",
        "oauth_no_confirm": True,
    }
)

# -- who may do what ---------------------------------------------------------------------------------------------------

# A role that is named here is replaced: where you have `user` or `server` already, add the scope there.
c.JupyterHub.load_roles.extend(
    [
        # People, in a browser.
        {"name": "user", "scopes": ["self", "access:services!service=dask-gateway"]},
        # Their notebook servers: the token in a server's environment. The first two scopes are what it has by default.
        {
            "name": "server",
            "scopes": ["users:activity!user", "access:servers!server", "access:services!service=dask-gateway"],
        },
        # The gateway: which servers run, and which users there are. Clusters end with them (`ends` in tidegate.yaml).
        {"name": "dask-gateway", "services": ["dask-gateway"], "scopes": ["list:users", "read:servers"]},
    ]
)

# -- what notebook servers know ----------------------------------------------------------------------------------------

# Then `Gateway()` needs no argument. `gateway:` is a section of Dask's configuration that both clients read, Tidegate's
# and the unmodified dask-gateway's; none is a secret, for the token is the server's own.
c.Spawner.environment.update(
    {
        "DASK_GATEWAY__ADDRESS": ADDRESS,
        # Schedulers speak TLS, which the Hub's proxy does not pass: they are reached at the gateway's own port.
        "DASK_GATEWAY__PROXY_ADDRESS": f"gateway://{GATEWAY}",
        "DASK_GATEWAY__AUTH__TYPE": "jupyterhub",
        # JupyterLab's Dask panel makes its clusters through the gateway too, not inside the notebook server.
        "DASK_LABEXTENSION__FACTORY__MODULE": "tidegate",
        "DASK_LABEXTENSION__FACTORY__CLASS": "GatewayCluster",
    }
)
