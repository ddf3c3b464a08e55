"""The environment variables that the owner of a cluster wants: set before anything of the cluster is forked.

They come in a file among its secrets, and not in the environment that the keeper is started with: that lies open in
``/proc`` for as long as the keeper lives, and zygotes are told apart by theirs.
"""

from __future__ import annotations

import contextlib
import json
import os


def take_variables(path: str) -> None:
    """Set what stands in the file, if there is one; Dask's configuration follows."""
    with contextlib.suppress(FileNotFoundError), open(path) as file:
        variables = json.load(file)
        os.environ.update(variables)
        if any(name.startswith("DASK_") for name in variables):
            import dask

            dask.config.update(dask.config.config, dask.config.collect_env(), priority="new")
