"""The administrator's options hook: found by its name when the gateway starts, so that a mistake is told then."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from tidegate.config.load import BadConfig, Loaded
from tidegate.control.choosing import Hook

SETTING = "options_hook"


def load_hook(loaded: Loaded) -> Hook | None:
    """Return the function that ``options_hook`` names, or None where it names none.

    Raises
    ------
    BadConfig
        When there is no such function.
    """
    text = loaded.settings.options_hook
    if text is None:
        return None
    place, colon, name = text.rpartition(":")
    if not (colon and place and name):
        raise _bad(loaded, "write module:function, or FILE.py:function")
    try:
        module = _load_file(loaded.folder / place) if place.endswith(".py") else importlib.import_module(place)
        hook: Any = getattr(module, name)
    except Exception as error:  # whatever an administrator's module raises when it is imported
        raise _bad(loaded, f"{type(error).__name__}: {error}") from error
    if not callable(hook):
        raise _bad(loaded, f"{name} is {type(hook).__name__}, and not a function")
    function: Hook = hook
    return function


def _load_file(path: Path) -> ModuleType:
    path = path.expanduser()
    spec = importlib.util.spec_from_file_location(f"tidegate_hook_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bad(loaded: Loaded, rule: str) -> BadConfig:
    # Where the gateway runs, nothing is known of the file any more.
    place = f"{loaded.place((SETTING,))}: " if loaded.file else ""
    return BadConfig([f"{place}cannot use {SETTING} {loaded.settings.options_hook!r}: {rule}"])
