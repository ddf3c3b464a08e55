"""The JupyterHub with whose notebook servers clusters end, where the configuration wants that."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from tidegate.authn.hub_api import JupyterHubSettings
from tidegate.authn.hub_users import HubUsers
from tidegate.config.load import BadConfig, Loaded, check, dotted
from tidegate.model.errors import Busy

AT = ("authentication", "logins", "jupyterhub")


def make_hub_users(loaded: Loaded) -> HubUsers | None:
    """Return what asks the Hub, not started; None where nothing is wanted of it.

    Raises
    ------
    BadConfig
        When there is no such login, or its settings break their rules.
    """
    wanted = wanted_of_hub(loaded)
    if not wanted:
        return None
    logins = loaded.settings.authentication.logins
    if AT[-1] not in logins:
        place, name = loaded.place(("ends", wanted[0])), f"ends.{wanted[0]}"
        raise BadConfig([f"{place}: cannot set {name}: there is no JupyterHub. Set {dotted(AT)} too"])
    return HubUsers(check(loaded, JupyterHubSettings, logins[AT[-1]], AT))


def wanted_of_hub(loaded: Loaded) -> list[str]:
    """Return the settings below ``ends`` that hang on the Hub and are on."""
    ends = loaded.settings.ends
    return [name for name in ("hub_server_stopped", "hub_user_removed") if getattr(ends, name)]


def check_hub(loaded: Loaded) -> Iterator[str]:
    """Yield, in words, whether the Hub permits what is wanted of it. One that is away now is no mistake.

    Raises
    ------
    TidegateError
        When the Hub does not permit it; the words have the line of its configuration that does.
    """
    users = make_hub_users(loaded)
    if users is None:
        return
    try:
        asyncio.run(_ask(users))
    except Busy as error:
        yield f"JupyterHub does not answer now; whether it permits to see notebook servers is unknown: {error.detail}"
    else:
        yield "JupyterHub permits the gateway to see which notebook servers run."


async def _ask(users: HubUsers) -> None:
    await users.start()
    try:
        await users.check()
    finally:
        await users.close()
