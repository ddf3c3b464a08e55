"""Which Python runs the work, and what else users may choose: the options of the local backend."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tidegate.backends.local import machine
from tidegate.backends.local.settings import LocalSettings
from tidegate.model.cluster import ClusterSpec
from tidegate.model.errors import Invalid
from tidegate.model.options import Kind, Option
from tidegate.model.policy import Capacity

NOTEBOOK = "notebook"
"""The choice that means: what the notebook itself runs."""

SMALLEST_MEMORY = 0.25
"""GiB. An idle worker with its dashboard takes 0.1, and from 60 % of its limit on Dask begins to spill."""

GIB = 1024**3


def options(settings: LocalSettings) -> list[Option]:
    """Return what users may choose when the administrator declares nothing."""
    cores = machine.cores()
    largest = largest_memory(machine.memory())
    offered = [
        Option(
            "worker_cores",
            Kind.INTEGER,
            1,
            label="Worker cores",
            help="Cores of one worker: how many tasks it runs at a time.",
            minimum=1,
            maximum=cores,
        ),
        Option(
            "worker_memory",
            Kind.FLOAT,
            min(2.0, largest),
            label="Worker memory",
            help="Memory of one worker. A worker that needs more is restarted, and its task fails in the end.",
            minimum=SMALLEST_MEMORY,
            maximum=largest,
            unit="GiB",
        ),
    ]
    names = (*((NOTEBOOK,) if settings.notebook_environment else ()), *settings.environments)
    if names:
        environment = Option(
            "environment",
            Kind.CHOICE,
            names[0],
            label="Environment",
            help="Which software runs the work.",
            choices=names,
        )
        offered.append(environment)
    return offered


def largest_memory(machine_memory: int) -> float:
    """Return the largest worker that is offered, in GiB, where the machine has so many bytes.

    Rounded down, for a worker of the largest size that is offered has to fit.

    >>> largest_memory(int(7.78 * GIB))
    7.7
    """
    return max(math.floor(machine_memory / GIB * 10) / 10, SMALLEST_MEMORY)


def resolve(settings: LocalSettings, spec: ClusterSpec, hints: Mapping[str, str]) -> ClusterSpec:
    """Return ``spec`` with the path of the Python that its environment stands for."""
    name = spec.environment or (NOTEBOOK if settings.notebook_environment else next(iter(settings.environments), ""))
    if name in settings.environments:
        python = str(settings.environments[name])
        if not _executable(python):
            raise Invalid(
                f"cannot use the environment {name}: there is no Python that can be run at the path that the "
                "administrator of this gateway set for it; choose another, and tell them",
                field="environment",
                detail=f"backend.environments.{name}: {python} is not an executable file",
            )
    elif name == NOTEBOOK and settings.notebook_environment:
        hint = hints.get("python", "")
        python = hint if _executable(hint) else sys.executable
    elif not name:
        python = sys.executable
    else:
        known = ", ".join((*settings.environments, *((NOTEBOOK,) if settings.notebook_environment else ())))
        raise Invalid(f"cannot use the environment {name!r}: choose one of {known}", field="environment")
    return replace(spec, environment=python)


def check_scheduler(spec: ClusterSpec) -> None:
    """See that this machine has what the scheduler is to be given.

    Raises
    ------
    Invalid
        It has less. Whatever is given counts as used, so it must be something that there is.
    """
    memory, cores = machine.memory(), machine.cores()
    if spec.scheduler_cores > cores:
        has = f"this machine has {cores} core{'' if cores == 1 else 's'}"
        raise _too_large("scheduler_cores", f"{spec.scheduler_cores:.10g}", has)
    if spec.scheduler_memory > memory:
        has = f"this machine has {memory / GIB:.1f} GiB of memory"
        raise _too_large("scheduler_memory", f"{spec.scheduler_memory / GIB:.4g} GiB", has)


def _too_large(field: str, value: str, has: str) -> Invalid:
    return Invalid(f"cannot create a cluster: {field} is {value}, and {has}. Choose less", field=field)


def capacity(settings: LocalSettings, spec: ClusterSpec) -> Capacity:
    """Return how many workers of this shape the machine can take, and which of its resources says so."""
    memory, cores = machine.memory(), machine.cores()
    by_memory = int(memory // spec.worker_memory)
    by_cores = int(cores * settings.core_oversubscription // spec.worker_cores)
    if by_memory <= by_cores:
        shape = f"{spec.worker_memory / GIB:.4g} GiB"
        return Capacity(by_memory, f"this machine has {memory / GIB:.1f} GiB of memory for workers of {shape}")
    shape = f"{spec.worker_cores:g} core{'' if spec.worker_cores == 1 else 's'}"
    return Capacity(
        by_cores,
        f"this machine has {cores} cores, and each stands for {settings.core_oversubscription:g} of workers of {shape}",
    )


def _executable(path: str) -> bool:
    if "\0" in path or not os.path.isabs(path):
        return False
    try:
        # Effective: with the rights that this thread acts with, not those that its process has.
        return Path(path).is_file() and os.access(path, os.X_OK, effective_ids=True)
    except OSError:  # In a folder that is closed to us, or no path at all.
        return False
