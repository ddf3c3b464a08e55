"""The users of a JupyterHub and their notebook servers, for ``control/hub_servers.py``.

The gateway asks as the service that it is to the Hub, and needs two scopes of it, for all users: with a part of them
the Hub answers as if the others were not there, which would end their clusters. So each time it is asked first what the
gateway may ask.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import quote

from tidegate.authn.hub_api import HubApi, JupyterHubSettings
from tidegate.model.errors import Busy, Invalid
from tidegate.model.hub import HubUser

SCOPES = ("list:users", "read:servers")
"""What the gateway's service needs at the Hub: who there is, and which servers each has."""

PAGE = 200
"""Users that are asked for at a time: the Hub gives no more (``api_page_max_limit``)."""

PAGES = 1000
"""After so many the Hub is taken to go round in circles."""

PAGED = {"Accept": "application/jupyterhub-pagination+json"}
DOING = "cannot see which notebook servers run"


class HubUsers:
    """Asks.

    Parameters
    ----------
    settings : JupyterHubSettings
    """

    def __init__(self, settings: JupyterHubSettings) -> None:
        self._api = HubApi(settings, DOING)

    async def start(self) -> None:
        """Open a session.

        Raises
        ------
        Invalid
            When the gateway has no token of its own at the Hub, or it cannot be read.
        """
        if self._api.own_token() is None:
            raise Invalid(
                f"{DOING} at JupyterHub: the gateway has no token of its own there. Set "
                "authentication.logins.jupyterhub.api_token_file to a file with the api_token of its service"
            )
        await self._api.start()

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def check(self) -> None:
        """Make sure that the Hub answers, and permits to ask.

        Raises
        ------
        Busy
            It does not answer.
        Invalid
            It does not permit it; the words have the line of its configuration that does.
        """
        status, service = await self._ask("/user")
        told = service if isinstance(service, dict) else {}
        if status in (401, 403):
            raise Invalid(
                f"{DOING}: JupyterHub at {self._api.url} does not know the gateway's token. It is the api_token of the "
                "gateway's service in jupyterhub_config.py"
            )
        if status != 200 or "scopes" not in told:
            raise self._strange("/user", status)
        missing = [scope for scope in SCOPES if scope not in told["scopes"]]
        if missing:
            raise Invalid(explain_scopes(str(told.get("name") or self._api.service), missing))

    async def active_users(self) -> Collection[HubUser]:
        """Return all users who have a notebook server that is not stopped.

        Raises
        ------
        Busy, Invalid
            As ``check``.
        """
        await self.check()
        found: list[HubUser] = []
        offset = 0
        for _ in range(PAGES):
            path = f"/users?state=active&limit={PAGE}&offset={offset}"
            status, page = await self._ask(path)
            if status != 200 or not isinstance(page, dict) or not isinstance(page.get("items"), list):
                raise self._strange(path, status)
            found += [_read(user) for user in page["items"]]
            following = (page.get("_pagination") or {}).get("next")
            if not following:
                return found
            offset = int(following["offset"])
        raise self._strange("/users", 200)

    async def user(self, name: str) -> HubUser | None:
        """Return the user of that name, None if the Hub says that there is none.

        Raises
        ------
        Busy
            It does not answer.
        """
        path = f"/users/{quote(name, safe='')}"
        status, user = await self._ask(path)
        if status == 404 and isinstance(user, dict) and user.get("status") == 404:
            return None
        if status != 200 or not isinstance(user, dict) or user.get("name") != name:
            raise self._strange(path, status)
        return _read(user)

    async def _ask(self, path: str) -> tuple[int, Any]:
        return await self._api.call("GET", path, headers={"Authorization": f"token {self._api.own_token()}"} | PAGED)

    def _strange(self, path: str, status: int) -> Busy:
        return self._api.silence(f"GET {self._api.url}{path} was answered by {status}")


def _read(user: Mapping[str, Any]) -> HubUser:
    servers = user.get("servers")
    return HubUser(str(user["name"]), frozenset(map(str, servers)) if isinstance(servers, dict) else None)


def explain_scopes(service: str, missing: Collection[str]) -> str:
    """Return what is to be done where the service lacks scopes: the line that mends it.

    >>> print(explain_scopes("dask", ["list:users"]).splitlines()[-1])
    c.JupyterHub.load_roles.append({"name": "dask", "services": ["dask"], "scopes": ["list:users", "read:servers"]})
    """
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES)
    return (
        f"{DOING}: JupyterHub does not permit the service {service} to ask. It lacks {' and '.join(missing)}, for all "
        "users. The Hub's administrator adds to jupyterhub_config.py, and restarts the Hub:\n\n"
        f'c.JupyterHub.load_roles.append({{"name": "{service}", "services": ["{service}"], "scopes": [{scopes}]}})'
    )
