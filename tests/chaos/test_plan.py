"""The plan of ``make chaos``: nothing is left out, and a seed is enough to repeat it."""

from __future__ import annotations

from tests.chaos.operations import OPERATIONS
from tests.chaos.plan import make_round
from tests.chaos.victims import VICTIMS


def test_every_pair_of_operation_and_victim_has_its_round() -> None:
    """In as many rounds as there are pairs; and the same seed gives the same rounds."""
    count = len(VICTIMS) * len(OPERATIONS)
    rounds = [make_round(7, number) for number in range(count)]

    assert len({(one.operation.name, one.victim.role) for one in rounds}) == count
    assert {one.victim.role for one in rounds[: len(VICTIMS)]} == {victim.role for victim in VICTIMS}
    assert rounds == [make_round(7, number) for number in range(count)]
    assert rounds != [make_round(8, number) for number in range(count)]
