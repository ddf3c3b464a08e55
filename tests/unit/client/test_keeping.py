"""What a client makes of what the gateway says of the end of a cluster."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.client.keeping import ClusterEnding

ENDING: dict[str, Any] = {"code": "lifetime", "at": 1_700_000_000.0, "why": "its lifetime is over then"}


@pytest.mark.parametrize("at", [1e12, 1e18, 1e300, float("inf")])
def test_an_end_that_no_calendar_has_is_none(at: float) -> None:
    """One such cluster must not keep anybody from listing all."""
    assert ClusterEnding.from_json({**ENDING, "at": at}) is None
    ending = ClusterEnding.from_json(ENDING)
    assert ending is not None
    assert ending.at.timestamp() == ENDING["at"]
