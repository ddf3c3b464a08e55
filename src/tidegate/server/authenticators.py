"""The authenticators that the configuration lists, found by their entry points and made with their own settings."""

from __future__ import annotations

from importlib.metadata import entry_points

from tidegate.authn.base import Authenticator
from tidegate.config.load import BadConfig, Loaded, check, did_you_mean
from tidegate.settings import Section

GROUP = "tidegate.authenticators"


def make_authenticators(loaded: Loaded) -> dict[str, Authenticator]:
    """Return the authenticators by name, in the order of the configuration, not started.

    Raises
    ------
    BadConfig
        When there is none of a name, or its settings break their rules.
    """
    return {name: make_authenticator(loaded, name) for name in loaded.settings.authentication.logins}


def make_authenticator(loaded: Loaded, name: str) -> Authenticator:
    """Return the authenticator of that name, with its settings or, where it has none, at its defaults.

    Raises
    ------
    BadConfig
    """
    at = ("authentication", "logins", name)
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        hint = did_you_mean(name, sorted(found))
        raise BadConfig([f"{loaded.place(at)}: cannot log in by {name!r}: it is not installed; {hint}"])
    kind = found[name].load()
    given = loaded.settings.authentication.logins.get(name, {})
    settings = check(loaded, getattr(kind, "Settings", Section), given, at)
    authenticator: Authenticator = kind(loaded.settings.data, settings=settings)
    return authenticator
