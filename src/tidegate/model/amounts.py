"""What is counted where limits hold: clusters, workers, cores, memory and GPUs; in words, and as people write it.

Cores are floats, memory is bytes. An amount may be ``math.inf``: no limit, where a more general rule has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from tidegate.model.errors import Invalid
from tidegate.model.options import MEMORY_UNITS

UNLIMITED = "unlimited"

LARGEST = 2**53
"""Beyond it a float no longer counts every byte; 8 PiB of memory is more than a gateway looks after."""

LEAST_BYTES = 2**20
"""Bytes of memory that a program may say without a unit. Less is no limit for anything: a person who writes 64 means
another unit.
"""

ROUNDING = 1e-6
"""By how much a sum of cores may exceed a limit: ten workers of 0.1 cores hold a bit more than 1 in binary fractions.
A million such sums are off by less than this, and nothing runs on a millionth of a core."""


class Resource(str, Enum):
    """What is counted."""

    CLUSTERS = "clusters"
    WORKERS = "workers"
    CORES = "cores"
    MEMORY = "memory"
    """In bytes."""
    GPUS = "gpus"

    def tell(self, amount: float) -> str:
        """Return an amount of it in words.

        >>> Resource.CORES.tell(1.5), Resource.MEMORY.tell(8 * 2**30), Resource.CLUSTERS.tell(1)
        ('1.5 cores', '8 GiB of memory', '1 cluster')
        """
        if self is Resource.MEMORY:
            return f"{self.number(amount)} of memory"
        unit = "GPUs" if self is Resource.GPUS else self.value
        return f"{self.number(amount)} {unit[:-1] if amount == 1 else unit}"

    def number(self, amount: float) -> str:
        """Return an amount of it as a number, with its unit if it has one."""
        if amount == math.inf:
            return "unlimited"
        if self is Resource.MEMORY:
            unit = next((unit for unit in ("TiB", "GiB") if amount >= MEMORY_UNITS[unit]), "MiB" if amount else "GiB")
            return f"{amount / MEMORY_UNITS[unit]:.6g} {unit}"
        return f"{amount:.10g}"


@dataclass(frozen=True, slots=True)
class Amounts:
    """So much of each resource."""

    clusters: int = 0
    workers: int = 0
    cores: float = 0.0
    memory: int = 0
    gpus: int = 0

    def of(self, resource: Resource) -> float:
        """Return how much of one resource."""
        amount: float = getattr(self, resource.value)
        return amount

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(
            self.clusters + other.clusters,
            self.workers + other.workers,
            self.cores + other.cores,
            self.memory + other.memory,
            self.gpus + other.gpus,
        )

    def __sub__(self, other: Amounts) -> Amounts:
        return self + other * -1

    def __mul__(self, times: int) -> Amounts:
        return Amounts(
            self.clusters * times, self.workers * times, self.cores * times, self.memory * times, self.gpus * times
        )

    def exceeds(self, other: Amounts) -> bool:
        """Whether it is more than another one of any resource."""
        return any(self.of(resource) > other.of(resource) + ROUNDING for resource in Resource)


NOTHING = Amounts()


def parse_amount(resource: Resource, value: object) -> float:
    """Read an amount: a number, for memory also text with a unit (``64 GiB``), or ``unlimited``.

    Raises
    ------
    Invalid
        It is none of these, or negative, or a part of something that is counted whole.
    """
    if value in (UNLIMITED, math.inf):
        return math.inf
    if resource is Resource.MEMORY and isinstance(value, str):
        return _parse_memory(value)
    rule = f"write a number from 0 on, or {UNLIMITED}"
    if resource is Resource.MEMORY:
        rule = f"write it with a unit, such as 64 GiB, or {UNLIMITED}"
    elif resource is not Resource.CORES:
        rule = f"write a whole number from 0 on, or {UNLIMITED}"
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        raise Invalid(f"cannot limit {resource.value} so: {rule}", field="amount")
    is_bare = resource is Resource.MEMORY and 0 < value < LEAST_BYTES
    if is_bare or (resource is not Resource.CORES and value != int(value)):
        raise Invalid(f"cannot limit {resource.value} so: {rule}", field="amount")
    return float(value)


def _parse_memory(text: str) -> float:
    digits = text.rstrip("kKMGTiB")
    unit = text[len(digits) :]
    try:
        amount = float(digits) * MEMORY_UNITS[unit]
    except (ValueError, KeyError):
        amount = math.nan
    if not 0 <= amount < LARGEST:
        raise Invalid(
            f"cannot limit memory so: write it with a unit, such as 64 GiB, or {UNLIMITED}", field="amount"
        ) from None
    return float(round(amount))
