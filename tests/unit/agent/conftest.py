"""The agent's module, without its effects on this process: its body guards the HTTP servers of whoever imports it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from distributed.http.routing import RoutingApplication

import tidegate.agent

FOLDER = Path(tidegate.agent.__file__).parent
GIVEN: dict[str, Any] = {
    "cluster": "0123456789abcdef",
    "attempt": 1,
    "url": "http://127.0.0.1:1/api/agent/v1/clusters/0123456789abcdef",
    "token": "the-token",
    "dashboard_secret": "the-secret",
    "ca": None,
}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[..., ModuleType]]:
    """Return a function that runs the body of one of the two files with this content of the agent file."""
    before, unguarded = dict(os.environ), RoutingApplication.find_handler

    def run(file: str = "tidegate_agent.py", content: str = json.dumps(GIVEN)) -> ModuleType:
        path = tmp_path / "agent.json"
        path.write_text(content)
        os.environ["TIDEGATE_AGENT_FILE"] = str(path)
        spec = importlib.util.spec_from_file_location(file.removesuffix(".py"), FOLDER / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # as an import does: dataclasses look their module up by name
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[spec.name]
        return module

    yield run
    os.environ.clear()
    os.environ.update(before)
    RoutingApplication.find_handler = unguarded


@pytest.fixture
def agent(load: Callable[..., ModuleType]) -> ModuleType:
    return load()
