"""The backend that the configuration names, found by its entry point and made with its own settings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import entry_points

from tidegate.backends.base import Backend
from tidegate.backends.remote import RemoteBackend
from tidegate.config.contradictions import check_policy
from tidegate.config.load import BadConfig, Loaded, check, did_you_mean
from tidegate.config.offer import offered
from tidegate.model.known import known
from tidegate.model.offer import Offer
from tidegate.model.profiles import PROFILE
from tidegate.settings import Section

GROUP = "tidegate.backends"

LAUNCHER_SOCKET = "launcher.sock"
"""Where the launcher listens, in the folder ``run`` of the data folder."""


def make_backend(loaded: Loaded) -> Backend:
    """Return the backend, not started.

    A backend's class declares its settings as ``Settings``, a pydantic model (without, it has none), and is made from
    the data folder and those settings.

    Raises
    ------
    BadConfig
        When there is none of that name, or its settings break their rules.
    """
    choice = loaded.settings.backend
    found = {point.name: point for point in entry_points(group=GROUP)}
    if choice.name not in found:
        place = loaded.place(("backend", "name"))
        hint = did_you_mean(choice.name, sorted(found))
        raise BadConfig([f"{place}: cannot set backend.name to {choice.name!r}: it is not installed; {hint}"])
    kind = found[choice.name].load()
    settings = check(loaded, getattr(kind, "Settings", Section), choice.settings, ("backend",))
    backend: Backend = kind(loaded.settings.data, settings=settings.model_dump())
    return backend


def is_privileged(backend: Backend) -> bool:
    """Return whether a backend has to run as root, in a process of its own."""
    return bool(getattr(backend, "privileged", False))


def reach_backend(loaded: Loaded) -> Backend:
    """Return the backend as control sees it: in this process, or in the launcher's."""
    backend = make_backend(loaded)
    if is_privileged(backend):
        return RemoteBackend(backend, loaded.settings.data / "run", LAUNCHER_SOCKET)
    return backend


@dataclass(frozen=True, slots=True)
class Checked:
    """What users are offered, and with which options the gateway or its backend does something by itself."""

    offer: Offer
    understood: Collection[str]


def check_backend(loaded: Loaded) -> Checked:
    """Return what users are offered, which is to check everything that depends on the backend.

    Raises
    ------
    BadConfig
    """
    backend = make_backend(loaded)
    offer = offered(loaded, backend.options(), backend.knows)
    check_policy(loaded, offer)
    return Checked(offer, {PROFILE, *known(backend.knows), *(option.name for option in backend.options())})
