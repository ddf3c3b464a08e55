"""A short slice of ``make chaos``: every kind of process is killed at least once, and one long computation goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
