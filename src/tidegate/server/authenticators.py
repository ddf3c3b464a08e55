"""The authenticators that the configuration lists, found by their entry points and made with their own settings."""

from __future__ import annotations

from importlib.metadata import entry_points

from tidegate.authn.base import Authenticator
from tidegate.config.load import BadConfig, Loaded, check, did_you_mean
from tidegate.config.schema import Section

GROUP = "tidegate.authenticators"


def make_authenticators(loaded: Loaded) -> dict[str, Authenticator]:
    """Return the authenticators by name, in the order of the configuration, not started.

    Raises
    ------
    BadConfig
        When there is none of a name, or its settings break their rules.
    """
    found = {point.name: point for point in entry_points(group=GROUP)}
    made: dict[str, Authenticator] = {}
    for index, login in enumerate(loaded.settings.authentication.logins):
        at = ("authentication", "logins", index)
        if login.name not in found:
            hint = did_you_mean(login.name, sorted(found))
            raise BadConfig(
                [f"{loaded.place((*at, 'name'))}: cannot log in by {login.name!r}: it is not installed; {hint}"]
            )
        kind = found[login.name].load()
        settings = check(loaded, getattr(kind, "Settings", Section), login.settings, at)
        made[login.name] = kind(loaded.settings.data, settings=settings)
    return made
