"""A short slice of ``make chaos``: every kind of process is killed at least once, and one long computation goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.operations import OPERATIONS
from tests.chaos.plan import make_round
from tests.chaos.victims import VICTIMS

pytestmark = pytest.mark.timeout(400)

SECONDS = 15
"""Of the long computation: a second and more between two deaths."""


def test_every_kind_of_process_may_be_killed() -> None:
    """One round for each of them, each with an operation of its own, on real clusters with real clients."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.run",
            "--seed",
            "1",
            "--rounds",
            f"{len(VICTIMS)}",
            "--seconds",
            f"{SECONDS}",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(VICTIMS)} rounds" in done.stdout
    assert "its user saw nothing but the result" in done.stdout
    assert "never killed" not in done.stdout


def test_every_pair_of_operation_and_victim_has_its_round() -> None:
    """In as many rounds as there are pairs; and the same seed gives the same rounds."""
    count = len(VICTIMS) * len(OPERATIONS)
    rounds = [make_round(7, number) for number in range(count)]

    assert len({(one.operation.name, one.victim.role) for one in rounds}) == count
    assert {one.victim.role for one in rounds[: len(VICTIMS)]} == {victim.role for victim in VICTIMS}
    assert rounds == [make_round(7, number) for number in range(count)]
    assert rounds != [make_round(8, number) for number in range(count)]
