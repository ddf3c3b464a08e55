"""The preloads that are handed over with a launch, as modules that are compiled once for all clusters.

Dask takes a preload that is a file anew each time, past what was compiled before, and twice for a scheduler: 20 ms of
the 70 that one needs to start. One that is a module which is there already it takes as it is. So whoever forks compiles
the files first, once for each version of them, and what is forked runs the result.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, ModuleType

VERSIONS = 8
"""How many are remembered: two files of a few versions, while one gateway replaces another."""

_compiled: dict[bytes, CodeType] = {}


def compile_all(paths: list[str]) -> None:
    """Compile the files, for this process and all that it forks."""
    for path in paths:
        _compile(path)


def load(path: str) -> str:
    """Run the file as a module of its own name, unless that is there; return the name."""
    name = os.path.splitext(os.path.basename(path))[0]
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = path
        sys.modules[name] = module
        exec(_compile(path), module.__dict__)  # noqa: S102 - the gateway's own code, which it has laid down here
    return name


def _compile(path: str) -> CodeType:
    with open(path, "rb") as file:
        source = file.read()
    if source not in _compiled:
        if len(_compiled) >= VERSIONS:
            _compiled.clear()
        _compiled[source] = compile(source, os.path.basename(path), "exec", dont_inherit=True)
    return _compiled[source]
