"""The scheduler: forked by the keeper, then just what ``dask scheduler`` runs."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

from .groups import Group
from .preloads import load


def fork_scheduler(settings: dict[str, Any], group: Group) -> int:
    """Fork it and return its process id. The child's copy of this call never returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        group.join_meanwhile()
        status = _run(settings)
    except BaseException:
        traceback.print_exc()
    finally:
        # Not an ordinary end: that would run what the *keeper* registered to be run at its end.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(settings: dict[str, Any]) -> int:
    import dask
    from distributed.cli.dask_scheduler import main

    os.environ.update(settings["scheduler_environment"])
    # What the files say was read before. To read them once more would take 6 ms.
    dask.config.update(dask.config.config, dask.config.collect_env(), priority="new")
    arguments = [load(a) if a in settings["preloads"] else a for a in settings["scheduler_arguments"]]
    sys.argv = ["dask-scheduler", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
