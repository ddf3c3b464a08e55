"""Which rounds there are: all of it follows from the seed and the round's number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.operations import OPERATIONS, Operation
from tests.chaos.victims import VICTIMS, Cost, Victim

CLUSTERS = 2
"""Clusters that go through the same operation at once."""


@dataclass(frozen=True)
class Round:
    """One operation and what is killed meanwhile.

    Parameters
    ----------
    number : int
    operation : Operation
    victim : Victim
    moments : tuple of float
        When to kill: seconds after the operation began, or after the kill before.
    meant : int
        Whose process it is, where clusters have their own.
    """

    number: int
    operation: Operation
    victim: Victim
    moments: tuple[float, ...]
    meant: int


def make_round(seed: int, number: int, victims: Sequence[Victim] = VICTIMS) -> Round:
    """Return the round of that number.

    The first rounds meet every victim once; as many as there are pairs of operation and victim meet every pair once.
    """
    cycle, index = divmod(number, len(victims) * len(OPERATIONS))
    order = Random(f"{seed} {cycle}")
    shuffled, operations = order.sample(victims, len(victims)), order.sample(OPERATIONS, len(OPERATIONS))
    lap, turn = divmod(index, len(shuffled))
    victim, operation = shuffled[turn], operations[(turn + lap) % len(operations)]
    random = Random(f"{seed} {number}")
    # Who has just come back is killed again in every third round: its first steps are the ones that mend.
    kills = 2 if victim.cost is Cost.NOTHING and random.random() < 1 / 3 else 1
    moments = tuple(round(random.uniform(0, operation.span), 3) for _ in range(kills))
    return Round(number, operation, victim, moments, random.randrange(CLUSTERS))
