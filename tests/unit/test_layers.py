"""What the server must never do, seen in its own text; the layers themselves are in ``.importlinter``."""

from __future__ import annotations

import ast
from pathlib import Path

import tidegate

SOURCE = Path(tidegate.__file__).parent

IN_CLUSTERS = ("client", "agent", "cli", "backends/local/keeper")
"""What runs beside the user's code, or is it."""

EXECUTES = {"pickle", "cloudpickle", "distributed", "dask", "marshal", "shelve", "dill"}
"""What runs code that came with data, or brings what does."""


def imported_by(file: Path) -> set[str]:
    """Return the top names of what a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def test_nothing_that_came_from_a_cluster_is_run() -> None:
    """Bytes from a cluster are its owner's, who would else be the gateway."""
    files = [file for file in SOURCE.rglob("*.py") if not str(file.relative_to(SOURCE)).startswith(IN_CLUSTERS)]

    found = {str(file.relative_to(SOURCE)): names for file in files if (names := imported_by(file) & EXECUTES)}

    assert len(files) > 100
    assert found == {}
