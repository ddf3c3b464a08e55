"""What schemathesis is told besides the description of the API: names that exist, and to write down each request.

A name made up hits no cluster in a lifetime, so most paths get the name of one that is there. It is loaded by
schemathesis itself (``SCHEMATHESIS_HOOKS``), in a process for each principal.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import schemathesis

NAMES = os.environ["TIDEGATE_FUZZ_CLUSTERS"].split(",")
"""Clusters that exist; those at the end are there to be stopped."""

KEPT = len(NAMES) // 2

RECORD = Path(os.environ["TIDEGATE_FUZZ_RECORD"])

_turn = itertools.count()


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Put a real name into four of five paths."""
    turn = next(_turn)
    if not path_parameters or "name" not in path_parameters or turn % 5 == 0:
        return path_parameters
    names = NAMES[KEPT:] if context.operation.method.upper() == "DELETE" else NAMES[:KEPT]
    return {**path_parameters, "name": names[turn % len(names)]}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Write down what came of a request."""
    line = [response.status_code, response.elapsed, f"{case.method} {case.operation.path}"]
    with RECORD.open("a") as record:
        record.write(json.dumps(line) + "\n")
