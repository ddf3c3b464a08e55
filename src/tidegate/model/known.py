"""The options that have a meaning of their own, beside those that a backend offers by itself.

Nobody is offered them unless the administrator names them. What their declaration does not say is taken from here. Some
are the gateway's own affair; the others need a backend that knows what to do with them (``Backend.knows``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tidegate.model.options import Kind, Option

GATEWAYS_OWN = (
    Option(
        "workers",
        Kind.INTEGER,
        0,
        label="Workers",
        help="How many workers the cluster begins with.",
        minimum=0,
    ),
    Option(
        "minimum",
        Kind.INTEGER,
        0,
        label="Fewest workers",
        help="The load decides how many workers there are, but never fewer. For clusters that adapt from the start.",
        minimum=0,
    ),
    Option(
        "maximum",
        Kind.INTEGER,
        0,
        label="Most workers",
        help="The load decides how many workers there are, up to so many. 0: you decide.",
        minimum=0,
    ),
    Option(
        "idle_timeout",
        Kind.FLOAT,
        30.0,
        label="Idle timeout",
        help="The cluster is stopped when it has had nothing to do for so long.",
        minimum=1,
        unit="min",
    ),
    Option(
        "lifetime",
        Kind.FLOAT,
        0.0,  # never
        label="Lifetime",
        help="The cluster is stopped so long after it was made.",
        minimum=1,
        unit="min",
    ),
)
"""What the gateway itself does something with, wherever clusters run."""

BACKENDS = (
    Option(
        "worker_threads",
        Kind.INTEGER,
        0,
        label="Worker threads",
        help="How many tasks one worker runs at a time. 0: one for each core.",
        minimum=0,
    ),
    Option("worker_gpus", Kind.INTEGER, 0, label="Worker GPUs", help="GPUs of one worker.", minimum=0),
    Option(
        "scheduler_cores",
        Kind.FLOAT,
        1.0,
        label="Scheduler cores",
        help="Cores of the scheduler. More than one only helps what it does beside scheduling.",
        minimum=0.1,
    ),
    Option(
        "scheduler_memory",
        Kind.FLOAT,
        2.0,
        label="Scheduler memory",
        help="Memory of the scheduler. It takes about 1 GiB for each million tasks that it knows.",
        minimum=0.25,
        unit="GiB",
    ),
    Option("image", Kind.STRING, None, label="Image", help="The container image that scheduler and workers run in."),
    Option(
        "variables",
        Kind.MAPPING,
        {},
        label="Environment variables",
        help="Set in the scheduler and in all workers. What they are set to is shown to nobody.",
        secret=True,
    ),
)
"""What a backend may know."""


def known(backend: Collection[str]) -> Mapping[str, Option]:
    """Return the options that can be declared by name alone, where the backend knows those of these names."""
    found = (*GATEWAYS_OWN, *(option for option in BACKENDS if option.name in backend))
    return {option.name: option for option in found}
